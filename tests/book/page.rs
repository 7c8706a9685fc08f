//! Reading the pages, and building what they describe.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) use endpoints_tests::build::{cargo, files};

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the repository")
}

/// The text of a page, by its path in the repository.
pub(crate) fn read(page: &str) -> String {
    fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"))
}

/// Cargo's folder for the profile that this test is built with: `target/debug`, say.
pub(crate) fn profile_folder() -> PathBuf {
    let test = env::current_exe().expect("the test's own file");
    test.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST").to_owned()
}

/// Cargo's target folder.
pub(crate) fn target_folder() -> PathBuf {
    profile_folder().parent().expect("target/PROFILE").to_owned()
}

/// The rows of the table after the mark `test: NAME`, without its head. Each cell is the values in it: its code spans,
/// and an empty one for each word `empty`.
pub(crate) fn table(page: &str, name: &str) -> Vec<Vec<Vec<String>>> {
    let mark = format!("<!-- test: {name} -->");
    let mut lines = page.lines().skip_while(|line| *line != mark);
    assert!(lines.next().is_some(), "there is no {mark}");
    let rows: Vec<_> = lines.take_while(|line| line.starts_with('|')).skip(2).map(cells).collect();
    assert!(!rows.is_empty(), "the table after {mark} has no rows");
    rows
}

/// The names of all `test` marks of a page, in order.
pub(crate) fn marks(page: &str) -> Vec<&str> {
    page.lines().filter_map(|line| line.strip_prefix("<!-- test: ")?.strip_suffix(" -->")).collect()
}

fn cells(row: &str) -> Vec<Vec<String>> {
    let mut cells = vec![Vec::new()];
    for (place, text) in row.split('`').enumerate() {
        let values = |cells: &mut Vec<Vec<String>>, value: &str| {
            cells.last_mut().expect("a cell").push(value.to_owned());
        };
        if place % 2 == 1 {
            values(&mut cells, code(text));
            continue;
        }
        for (place, text) in text.split('|').enumerate() {
            if place > 0 {
                cells.push(Vec::new());
            }
            for _ in text.split_whitespace().filter(|word| *word == "empty") {
                values(&mut cells, "");
            }
        }
    }
    // What is before the first bar and after the last one is no cell.
    cells.pop();
    cells.remove(0);
    cells
}

/// What a code span means: one space on both sides belongs to the marks.
fn code(span: &str) -> &str {
    let inner = span.strip_prefix(' ').and_then(|inner| inner.strip_suffix(' '));
    inner.filter(|_| !span.trim().is_empty()).unwrap_or(span)
}

#[test]
fn tables_are_read_as_they_are_shown() {
    let row = r"| `a\|b` and `  80  ` | none | empty `c` empty |";
    assert_eq!(cells(row), [vec![r"a\|b", " 80 "], vec![], vec!["", "c", ""]]);
}
