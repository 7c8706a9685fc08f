//! The cases of this folder are a copy, where the original is at hand: it must not drift.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use crate::cases;

#[test]
fn copy_is_faithful() {
    let original = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/conformance"));
    if !original.is_dir() {
        // Written past the test harness, which would hide it.
        let _ = writeln!(
            io::stderr(),
            "the conformance data was not compared with its original: there is no shared/conformance beside the checkout"
        );
        return;
    }
    let copy = cases::folder();
    let names = &names(original) | &names(copy);
    assert!(!names.is_empty(), "there is nothing to compare");
    let read = |folder: &Path, name: &str| fs::read(folder.join(name)).ok();
    let different: Vec<_> = names.iter().filter(|name| read(copy, name) != read(original, name)).collect();
    assert!(
        different.is_empty(),
        "not the same in {} and {}: {different:?}",
        copy.display(),
        original.display()
    );
}

/// The data files and what explains them.
fn names(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name in UTF-8"))
        .filter(|name| name.ends_with(".jsonl") || name == "README.md")
        .collect()
}
