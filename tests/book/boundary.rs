//! The tables of the chapter on the plugin boundary, against the definitions in `plugin-api/src/abi`.

use std::collections::HashMap;
use std::fs;

use crate::page;

/// The fields of every structure of the boundary, in order.
fn structures() -> HashMap<String, Vec<String>> {
    let mut structures = HashMap::new();
    for entry in fs::read_dir(page::root().join("plugin-api/src/abi")).expect("the boundary") {
        let source = fs::read_to_string(entry.expect("a file").path()).expect("its text");
        let mut lines = source.lines();
        while let Some(line) = lines.next() {
            let Some(name) = line.strip_prefix("pub struct ").and_then(|rest| rest.strip_suffix(" {")) else {
                continue;
            };
            let fields = lines.by_ref().take_while(|line| *line != "}").filter_map(|line| {
                let field = line.strip_prefix("    ")?;
                let (name, _) = field.strip_prefix("pub ").unwrap_or(field).split_once(':')?;
                let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
                is_name(name).then(|| name.to_owned())
            });
            structures.insert(name.to_owned(), fields.collect());
        }
    }
    structures
}

#[test]
fn tables_have_the_fields_of_the_structures_in_order() {
    let structures = structures();
    let text = page::read("docs/src/abi.md");
    let mut compared = 0;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(name) = line.strip_prefix("| `").and_then(|rest| rest.split('`').next()) else { continue };
        if lines.peek() != Some(&"|---|---|") {
            continue;
        }
        let rows = lines.by_ref().skip(1).take_while(|line| line.starts_with('|'));
        let Some(fields) = structures.get(name) else {
            rows.for_each(drop);
            continue;
        };
        let names = rows.flat_map(|row| {
            let cell = row.split('|').nth(1).unwrap_or_default().to_owned();
            let spans: Vec<String> = cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            spans
        });
        let names: Vec<String> =
            names.map(|span| span.split(['(', ':']).next().unwrap_or_default().to_owned()).collect();
        assert_eq!(&names, fields, "{name}");
        compared += 1;
    }
    assert_eq!(compared, 18, "tables of structures");
}

#[test]
fn error_kinds_have_their_numbers() {
    let source = fs::read_to_string(page::root().join("plugin-api/src/error.rs")).expect("the kinds");
    let text = page::read("docs/src/abi.md").replace('\n', " ");
    let mut found = 0;
    for line in source.lines() {
        let Some((name, number)) =
            line.strip_suffix(',').and_then(|line| line.trim_start().split_once(" = "))
        else {
            continue;
        };
        if number.parse::<u32>().is_err() {
            continue;
        }
        let mut words = String::new();
        for c in name.chars() {
            if c.is_ascii_uppercase() && !words.is_empty() {
                words.push('-');
            }
            words.push(c.to_ascii_lowercase());
        }
        assert!(text.contains(&format!(" {number} {words} ")), "{number} {words}");
        found += 1;
    }
    assert_eq!(found, 19);
}
