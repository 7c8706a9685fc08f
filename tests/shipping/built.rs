//! Fixtures that are built otherwise than the workspace: with `panic = "abort"`, and with a plugin API of the same
//! version whose tables differ.

use std::fs;
use std::path::{Path, PathBuf};

use endpoints::{ErrorKind, PluginState, RefusalKind, Registry, RegistryBuilder};
use endpoints_tests::build::cargo;
use tempfile::TempDir;

use crate::support::{assert_tcp_works, exchange, file_name, folder_with, port};
use endpoints_tests::object::write;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the repository")
}

/// The target folder of these builds: that of the book's plugins, which have the same dependencies.
fn target() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own file");
    test.ancestors().nth(3).expect("target/PROFILE/deps/TEST").join("book")
}

/// A folder with a fixture, built in a workspace with flags for its own compilation.
fn built(workspace: &Path, package: &str, flags: &[&str]) -> TempDir {
    let folder = folder_with(&[]);
    let arguments = ["rustc", "-p", package, "--lib", "--crate-type", "cdylib", "--"];
    cargo(workspace, &[&arguments, flags].concat(), &target());
    let file = file_name(&package.replace('-', "_"));
    write(&folder.path().join(&file), &fs::read(target().join("debug").join(&file)).expect("what was built"));
    folder
}

fn looking_at(folder: &TempDir) -> RegistryBuilder {
    Registry::builder().default_plugin_path(false).plugin_path(folder.path())
}

#[tokio::test]
async fn a_plugin_that_aborts_is_refused_unless_it_is_allowed() {
    let folder = built(root(), "endpoints-fixture-pass", &["-Cpanic=abort"]);
    let registry = looking_at(&folder).build().expect("a registry");
    let plugins = registry.plugins();
    let found = plugins.iter().find(|plugin| plugin.origin.path().is_some()).expect("it is listed");
    assert_eq!(found.manifest.as_ref().expect("its manifest").build.panic, "abort");
    let PluginState::Refused(refusal) = &found.state else { panic!("{found:?}") };
    assert_eq!(refusal.kind, RefusalKind::PanicPolicy, "{refusal}");
    assert!(refusal.message.contains("build it with panic=unwind"), "{refusal}");
    let error = registry.client(r"pass:tcp\:127.0.0.1\:80").expect_err("it is refused");
    assert_eq!(error.kind(), ErrorKind::PluginRefused, "{error}");
    assert_tcp_works(&registry).await;

    let registry = looking_at(&folder).allow_abort(true).build().expect("a registry");
    let server = registry.server(r"pass:tcp\:0\:interface\=127.0.0.1").expect("pass");
    let listener = server.listen().await.expect("listen");
    let client = registry.client(format!(r"pass:tcp\:127.0.0.1\:{}", port(&listener))).expect("pass");
    let accepting = async { listener.accept().await.expect("accept").await.expect("handshake") };
    let (client, mut accepted) = tokio::join!(client.connect(), accepting);
    exchange(&mut client.expect("connect"), &mut accepted).await;
}

/// A workspace of the fixture and of a copy of the plugin API with changes to a file of it: what stands there once, and
/// what comes in its place.
fn with_another_api(file: &str, changes: &[(&str, &str)]) -> PathBuf {
    let workspace = target().join("another-api");
    // By another path than in the repository: cargo would take it for the same crate.
    copy_all(&root().join("plugin-api"), &workspace.join("changed"), &|path, text| {
        if !path.ends_with(file) {
            return text;
        }
        changes.iter().fold(text, |text, (old, new)| {
            assert_eq!(text.matches(old).count(), 1, "{old:?} in {file}");
            text.replace(old, new)
        })
    });
    // By another name, as its file is called by that alone.
    let renamed = |_: &Path, text: String| text.replace("endpoints-fixture-pass", "endpoints-fixture-other");
    copy_all(&root().join("tests/fixtures/pass"), &workspace.join("pass"), &renamed);
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the workspace");
    let (before, members) = manifest.split_once("members = [").expect("its members");
    let (_, after) = members.split_once(']').expect("their end");
    let manifest = [before, r#"members = ["changed", "pass"]"#, after].concat();
    update(&workspace.join("Cargo.toml"), &manifest.replace(r#""plugin-api""#, r#""changed""#));
    update(
        &workspace.join("Cargo.lock"),
        &fs::read_to_string(root().join("Cargo.lock")).expect("a lock file"),
    );
    workspace
}

fn copy_all(from: &Path, to: &Path, change: &dyn Fn(&Path, String) -> String) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("its sort").is_dir() {
            copy_all(&entry.path(), &to, change);
        } else {
            update(&to, &change(&to, fs::read_to_string(entry.path()).expect("a source file")));
        }
    }
}

/// Writes a file unless it is the same already, so that cargo has nothing to do then.
fn update(file: &Path, text: &str) {
    if fs::read_to_string(file).ok().as_deref() != Some(text) {
        fs::write(file, text).expect("a file");
    }
}

#[tokio::test]
async fn tables_that_differ_in_the_same_version_are_refused() {
    // An error with a field more in its middle, which no version has.
    let workspace = with_another_api(
        "abi/error.rs",
        &[
            (
                "    pub message: RBytes,",
                "    pub another: u64,\n    /// One line.\n    pub message: RBytes,",
            ),
            ("reserved: 0, message", "reserved: 0, another: 0, message"),
            ("reserved: 0,\n", "reserved: 0,\n            another: 0,\n"),
        ],
    );
    let folder = built(&workspace, "endpoints-fixture-other", &[]);
    let registry = looking_at(&folder).build().expect("a registry");
    assert!(
        registry.plugins().iter().all(|plugin| plugin.state == PluginState::Available),
        "its version is the right one"
    );
    for _ in 0..2 {
        let error = registry.client(r"pass:tcp\:127.0.0.1\:80").expect_err("the layouts differ");
        assert_eq!(error.kind(), ErrorKind::PluginRefused, "{error}");
        let message = error.message();
        assert!(message.contains("laid out otherwise than its version says"), "{message}");
        assert!(message.contains("build it with the released plugin API"), "{message}");
        assert!(!message.contains('\n') && message.len() < 1000, "{message}");
    }
    assert_tcp_works(&registry).await;
}
