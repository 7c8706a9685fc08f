//! The layouts of released versions of the boundary, which later ones only add to.

use std::fs;
use std::path::PathBuf;

use endpoints_tests::c::root;

use crate::layout::{Layout, in_rust};

/// The folders of released versions.
fn released() -> Vec<PathBuf> {
    let folder = root().join("tests/fixtures/abi");
    let entries =
        fs::read_dir(&folder).expect("the released versions").map(|entry| entry.expect("an entry").path());
    let mut versions: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    versions.sort();
    assert!(!versions.is_empty(), "no version is kept in {}", folder.display());
    versions
}

/// A line for each structure and each field, as the snapshot of a version has them.
fn lines() -> Vec<String> {
    let line = |(name, layout): (String, Layout)| {
        let fields = layout.fields.into_iter().map({
            let name = name.clone();
            move |(field, offset, size)| format!("{name}.{field} {offset} {size}")
        });
        std::iter::once(format!("{name} {}", layout.size)).chain(fields).collect::<Vec<_>>()
    };
    in_rust().into_iter().flat_map(line).collect()
}

/// A structure of a snapshot must be there as it was, with more fields at its end at most, and that only where it begins with
/// its size.
#[test]
fn structures_grow_at_their_end_alone() {
    if cfg!(not(target_pointer_width = "64")) {
        eprintln!("skipped: the layouts that are kept are those of 64 bits");
        return;
    }
    let now = lines();
    for version in released() {
        let path = version.join("layout.txt");
        let Ok(text) = fs::read_to_string(&path) else {
            fs::write(&path, now.join("\n") + "\n").expect("the snapshot of a new version");
            panic!("{} was missing and is written: look at it, and add it", path.display());
        };
        let then: Vec<&str> = text.lines().collect();
        for line in &then {
            let is_structure = !line.contains('.');
            let name = line.split(' ').next().unwrap_or_default();
            let grows =
                is_structure && then.iter().any(|field| field.starts_with(&format!("{name}.size 0 ")));
            let still = match grows {
                true => now.iter().any(|now| now.starts_with(&format!("{name} ")) && size(now) >= size(line)),
                false => now.iter().any(|now| now == line),
            };
            assert!(still, "{}: {line} is not so any more", path.display());
        }
    }
}

fn size(line: &str) -> usize {
    line.rsplit(' ').next().and_then(|size| size.parse().ok()).expect("a size")
}
