//! Who could have written what lies on the way to a plugin.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use endpoints::{PluginState, RefusalKind, Registry};

use crate::support::{assert_tcp_works, copy, folder_with, is_root, skip};

const PASS: &str = "endpoints_fixture_pass";
/// A user that nobody is.
const SOMEBODY: u32 = 54_321;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
}

/// Why the one plugin found by way of this folder is not trusted; none, where it can be used.
async fn distrust(folder: &Path) -> Option<String> {
    let builder = Registry::builder().default_plugin_path(false).plugin_path(folder);
    let registry = builder.build().expect("a registry");
    let mut files = registry.plugins();
    files.retain(|plugin| plugin.origin.path().is_some());
    assert_eq!(files.len(), 1, "{files:?}");
    let made = registry.client(r"pass:tcp\:127.0.0.1\:80");
    assert_tcp_works(&registry).await;
    match files.remove(0).state {
        PluginState::Refused(refusal) => {
            assert_eq!(refusal.kind, RefusalKind::Untrusted, "{refusal}");
            let error = made.expect_err("it is not trusted").to_string();
            assert!(error.contains(&refusal.message), "{error} does not say: {refusal}");
            Some(refusal.message)
        }
        _ => {
            made.expect("it can be used");
            None
        }
    }
}

#[tokio::test]
async fn links_are_as_good_as_what_they_lead_to() {
    let all = folder_with(&[]);
    let real = all.path().join("real");
    fs::create_dir(&real).expect("a folder");
    copy(PASS, &real.join("pass.so"));
    let link = all.path().join("link");
    symlink(&real, &link).expect("a link");
    let linked = all.path().join("linked");
    fs::create_dir(&linked).expect("a folder");
    // To a file, by way of a link to its folder.
    symlink(link.join("pass.so"), linked.join("pass.so")).expect("a link");
    for way in [&link, &linked] {
        assert_eq!(distrust(way).await, None, "{}", way.display());
    }
    mode(&real, 0o775);
    for way in [&link, &linked] {
        let message = distrust(way).await.expect("its folder is open");
        assert!(message.contains(real.to_str().expect("text")), "{message} names what to mend");
        assert!(
            message.contains("its group can write") && message.contains("take that right away"),
            "{message}"
        );
    }
    mode(&real, 0o755);
    assert_eq!(distrust(&link).await, None);
}

#[tokio::test]
async fn every_folder_on_the_way_counts() {
    let all = folder_with(&[]);
    let folders: Vec<_> =
        (0..4).map(|depth| all.path().join(["a", "b", "c", "d"][..=depth].join("/"))).collect();
    fs::create_dir_all(&folders[3]).expect("folders");
    copy(PASS, &folders[3].join("pass.so"));
    assert_eq!(distrust(&folders[3]).await, None);
    for folder in &folders {
        for open in [0o775, 0o757, 0o773] {
            mode(folder, open);
            let message = distrust(&folders[3]).await.expect("one is open");
            assert!(message.contains(&format!("to {} (mode {open:o})", folder.display())), "{message}");
        }
        mode(folder, 0o755);
    }
    if !is_root() {
        return skip("folders of other users", "only root can give a folder away");
    }
    for folder in &folders {
        chown(folder, Some(SOMEBODY), None).expect("chown");
        let message = distrust(&folders[3]).await.expect("it is somebody else's");
        let expected = format!("{} belongs to user {SOMEBODY}", folder.display());
        assert!(message.contains(&expected) && message.contains("give it to one of them"), "{message}");
        chown(folder, Some(0), None).expect("chown");
    }
    assert_eq!(distrust(&folders[3]).await, None);
}

#[tokio::test]
async fn sticky_folders_are_roots_and_further_up() {
    let all = folder_with(&[]);
    let plugins = all.path().join("shared/plugins");
    fs::create_dir_all(&plugins).expect("folders");
    copy(PASS, &plugins.join("pass.so"));
    let shared = all.path().join("shared");
    mode(&plugins, 0o1777);
    let message = distrust(&plugins).await.expect("anybody can put a plugin there");
    assert!(message.contains("everybody can write"), "{message}");
    // To take the right away would break what else the folder is for.
    assert!(message.contains("move the plugin into a folder of its own"), "{message}");
    assert!(!message.contains("take that right away"), "{message}");
    mode(&plugins, 0o755);
    if !is_root() {
        return skip("sticky folders", "only root can make one that is root's");
    }
    mode(&shared, 0o1777);
    assert_eq!(distrust(&plugins).await, None, "as in /tmp");
    // Its owner can rename everything in it.
    chown(&shared, Some(SOMEBODY), None).expect("chown");
    distrust(&plugins).await.expect("its owner is somebody else");
}
