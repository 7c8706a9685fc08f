//! The plugins of the chapter on plugins, built and loaded just as they stand there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use endpoints::manifest::Role;
use endpoints::{Connection, ErrorKind, PluginState, Registry};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::page;

/// The folder of cargo for these plugins.
fn target() -> PathBuf {
    page::target_folder().join("book")
}

/// A folder with the built plugins, such as hosts trust.
pub(crate) fn folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER.get_or_init(build).path()
}

/// Builds in a fixed place, so that only what has changed is built when the tests run again.
fn build() -> TempDir {
    let target = target();
    let crates = target.join("crates");
    let mut members = Vec::new();
    for (path, content) in page::files(&page::read("docs/src/plugins.md")) {
        let file = crates.join(&path);
        fs::create_dir_all(file.parent().expect("a folder")).expect("the folder of a crate");
        if fs::read_to_string(&file).ok().as_ref() != Some(&content) {
            fs::write(&file, content).expect("a file of a crate");
        }
        members.extend(path.strip_suffix("/Cargo.toml").map(str::to_owned));
    }
    assert_eq!(members, ["xor", "abstract"]);
    // The repository lies beside the crates, as their dependencies say.
    let repository = crates.join("endpoints");
    let _ = fs::remove_file(&repository);
    symlink(page::root(), &repository).expect("a link to the repository");
    let workspace =
        format!("[workspace]\nresolver = \"3\"\nmembers = {members:?}\nexclude = [\"endpoints\"]\n");
    fs::write(crates.join("Cargo.toml"), workspace).expect("the workspace of the crates");
    // The versions that everything else is tested with.
    fs::copy(page::root().join("Cargo.lock"), crates.join("Cargo.lock")).expect("a lock file");
    page::cargo(&crates, &["build"], &target);

    let folder = tempfile::tempdir().expect("a folder");
    for name in ["libxor.so", "libabstract_sockets.so"] {
        let plugin = folder.path().join(name);
        fs::copy(target.join("debug").join(name), &plugin).expect("a copy of the plugin");
        fs::set_permissions(&plugin, fs::Permissions::from_mode(0o644)).expect("its mode");
    }
    folder
}

fn registry() -> Registry {
    Registry::builder().default_plugin_path(false).plugin_path(folder()).build().expect("a registry")
}

#[test]
fn they_are_found_and_their_examples_are_valid() {
    let registry = registry();
    let files: Vec<_> =
        registry.plugins().into_iter().filter(|plugin| plugin.origin.path().is_some()).collect();
    assert_eq!(files.len(), 2, "{:?}", registry.places());
    let examples =
        |role: &Option<Role>| role.iter().flat_map(|role| role.examples.clone()).collect::<Vec<_>>();
    for plugin in files {
        assert_eq!(plugin.state, PluginState::Available, "{}", plugin.origin);
        for scheme in &plugin.manifest.expect("a manifest").plugin.schemes {
            for example in examples(&scheme.client) {
                registry.client(example.as_str()).unwrap_or_else(|error| panic!("{example}: {error}"));
            }
            for example in examples(&scheme.server) {
                registry.server(example.as_str()).unwrap_or_else(|error| panic!("{example}: {error}"));
            }
        }
    }
}

#[test]
fn their_own_tests_pass() {
    folder();
    page::cargo(&target().join("crates"), &["test", "--tests"], &target());
}

#[tokio::test]
async fn bytes_go_through() {
    let name = format!("endpoints-book-{}", std::process::id());
    for (server, is_socket) in [
        (r"xor:k3y:tcp\:0\:interface\=127.0.0.1".to_owned(), false),
        (format!("abstract:{name}"), true),
        (format!(r"xor:k\:y:xor\:\\\:\:abstract\\\:{name}"), false),
    ] {
        let registry = registry();
        let listener = registry.server(server.as_str()).expect(&server).listen().await.expect(&server);
        let reachable = listener.reachable().remove(0);
        let client = registry.client(reachable.text()).unwrap_or_else(|error| panic!("{reachable}: {error}"));
        let accepting = async { listener.accept().await?.await };
        let (mut accepted, mut connected) = tokio::try_join!(accepting, client.connect()).expect(&server);
        assert_eq!(connected.is_socket(), is_socket, "{server}");
        assert_eq!(exchange(&mut accepted, &mut connected).await, b"some bytes", "{server}");
        assert_eq!(exchange(&mut connected, &mut accepted).await, b"some bytes", "{server}");
        listener.close().await.expect(&server);
    }
}

async fn exchange(from: &mut Connection, to: &mut Connection) -> Vec<u8> {
    let text = b"some bytes";
    from.write_all(text).await.expect("it is written");
    let mut read = vec![0; text.len()];
    to.read_exact(&mut read).await.expect("it is read");
    read
}

#[tokio::test]
async fn the_wrapper_changes_bytes_and_tells_about_it() {
    let registry = registry();
    let server = registry.server(r"xor:k3y:tcp\:0\:interface\=127.0.0.1").expect("a server");
    let listener = server.listen().await.expect("a listener");
    let port = listener.addresses().iter().find_map(endpoints::Address::port).expect("a port");
    let plain = registry.client(format!("tcp:127.0.0.1:{port}")).expect("a client");
    let accepting = async { listener.accept().await?.await };
    let (mut accepted, mut connected) = tokio::try_join!(accepting, plain.connect()).expect("a connection");
    connected.write_all(b"hello").await.expect("it is written");
    let mut read = [0; 5];
    accepted.read_exact(&mut read).await.expect("it is read");
    assert_eq!(read, [b'h' ^ b'k', b'e' ^ b'3', b'l' ^ b'y', b'l' ^ b'k', b'o' ^ b'3']);
    assert_eq!(accepted.info().fact("xor.key-length"), Some(&b"3"[..]));
}

#[test]
fn what_the_manifest_cannot_say_is_refused_with_its_argument() {
    let error = registry().client(r"xor::tcp\:1.2.3.4\:5").expect_err("an empty key");
    assert_eq!((error.kind(), error.argument()), (ErrorKind::InvalidArgument, Some("key")));
}

#[tokio::test]
async fn nobody_listening_is_an_error_to_try_again() {
    let client = registry().client("abstract:endpoints-book-nobody").expect("a client");
    let error = client.connect().await.expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    assert!(error.is_retryable());
}
