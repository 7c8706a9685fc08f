//! Plugins of released versions of the boundary, as they were built then: every later host drives them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::checked::{built, passes, root};

/// The files that are kept, in a folder that hosts trust.
pub(crate) fn kept() -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut files = Vec::new();
    for version in fs::read_dir(root().join("tests/fixtures/abi")).expect("the released versions") {
        let version = version.expect("an entry").path();
        if !version.is_dir() {
            continue;
        }
        for file in fs::read_dir(&version).expect("a version") {
            let file = file.expect("an entry").path();
            if file.extension().is_some_and(|extension| extension == "so") {
                let name = [&version, &file].map(|path| path.file_name().expect("a name").to_string_lossy());
                let copy = folder.path().join(name.join("-"));
                fs::copy(&file, &copy).expect("a copy");
                fs::set_permissions(&copy, fs::Permissions::from_mode(0o644)).expect("its mode");
                files.push(copy);
            }
        }
    }
    (folder, files)
}

#[test]
fn plugins_of_every_released_version_pass() {
    if cfg!(not(all(target_arch = "x86_64", target_os = "linux"))) {
        eprintln!("skipped: the plugins that are kept are for x86-64 Linux");
        return;
    }
    let (_folder, files) = kept();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        passes(&built("debug/endpoints"), &file, &[], &[]);
    }
}
