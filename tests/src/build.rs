//! Building what lies outside of the workspace: the crates and packages of the book, and variants of fixtures.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Runs cargo in a folder, which must succeed.
///
/// # Panics
/// With what cargo says, if it fails.
pub fn cargo(folder: &Path, arguments: &[&str], target: &Path) {
    let run = |offline: &[&str]| {
        let mut command = Command::new(env!("CARGO"));
        let (subcommand, more) = arguments.split_first().expect("a subcommand");
        command.current_dir(folder).arg(subcommand).args(offline).arg("--target-dir").arg(target).args(more);
        command.output().expect("cargo runs")
    };
    // What the lock file names is there already, as a rule; else let cargo get it.
    let output =
        Some(run(&["--offline"])).filter(|output| output.status.success()).unwrap_or_else(|| run(&[]));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {arguments:?} in {}:\n{words}", folder.display());
}

/// The program of an example of the host, newly built.
///
/// # Panics
/// With what cargo says, if it fails.
#[must_use]
pub fn example(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let test = env::current_exe().expect("the test's own file");
        let folder = test.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST");
        let profile = match folder.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(profile) => profile,
        };
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the repository");
        // As `cargo test` builds them, which has done so if it runs all tests. Anything else would have other features of
        // dependencies, and put other files in the place of those that the tests still to come are linked with.
        let arguments = ["test", "--workspace", "--no-run", "--profile", profile];
        cargo(root, &arguments, folder.parent().expect("target/PROFILE"));
        folder.join("examples")
    });
    folder.join(name)
}

/// The files that a page of the book holds, with their paths: the blocks after `<!-- file: PATH -->`.
///
/// # Panics
/// If no block follows such a mark.
#[must_use]
pub fn files(page: &str) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(path) = line.strip_prefix("<!-- file: ").and_then(|rest| rest.strip_suffix(" -->")) else {
            continue;
        };
        let fence = lines.next().unwrap_or_default();
        assert!(fence.starts_with("```"), "{path}: {fence:?} is no block");
        let content: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        files.push((path.to_owned(), content.join("\n") + "\n"));
    }
    files
}
