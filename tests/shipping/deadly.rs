//! Files that end, or hold up, every process that loads them: they are listed and inspected like any other, as looking
//! runs nothing of them; and what loads them is alone in its end.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use endpoints::{ErrorKind, PluginState, Registry};
use endpoints_tests::object::{compiled, manifest, record};
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{endpoints, run};

const SCHEMES: &str = r#"{"schemes":[{"scheme":"deadly","kind":"transport",
    "client":{"parameters":[{"name":"p","type":"text","position":1}]}}]}"#;

/// A plugin with an initialiser, which the dynamic loader runs before anybody can look at what was loaded.
fn deadly(what: &str) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    let source = format!(
        "#include <stdlib.h>\n#include <unistd.h>\n\
         __attribute__((constructor)) static void at_once(void) {{ {what} }}"
    );
    let section = record(manifest("deadly", SCHEMES).as_bytes());
    compiled(&folder.path().join("deadly.so"), &section, &source);
    folder
}

fn search(folder: &Path) -> [&str; 3] {
    ["--no-default-plugin-path", "--plugin-path", folder.to_str().expect("text")]
}

/// Looking at it, in this very process and by the command.
fn is_listed(folder: &Path) {
    let builder = Registry::builder().default_plugin_path(false).plugin_path(folder);
    let registry = builder.build().expect("a registry");
    let plugins = registry.plugins();
    let found = plugins.iter().find(|plugin| plugin.origin.path().is_some()).expect("it is listed");
    assert_eq!(found.state, PluginState::Available);
    registry.inspect_file(folder.join("deadly.so")).expect("it can be inspected");
    let error = registry.client("deadly:q=1").expect_err("its arguments are checked without it");
    assert_eq!(error.kind(), ErrorKind::UnknownArgument, "{error}");
    registry.client("tcp:127.0.0.1:80").expect("others can be used");
    let file = folder.join("deadly.so");
    for looking in [
        &["list-plugins"][..],
        &["list-plugins", "--why", "deadly"],
        &["inspect", "deadly"],
        &["inspect", file.to_str().expect("text")],
        &["parse", "deadly:1"],
        &["explain", "--client", "tcp:127.0.0.1:80"],
    ] {
        let ran = run(looking.iter().copied().chain(search(folder)));
        assert_eq!(ran.status, Some(0), "{looking:?}: {ran:?}");
    }
}

#[test]
fn initialisers_that_end_the_process() {
    for (what, expected) in [
        ("abort();", Err(6)),
        ("*(volatile int *)16 = 1;", Err(11)),
        ("_exit(77);", Ok(77)),
        ("exit(78);", Ok(78)),
    ] {
        let folder = deadly(what);
        is_listed(folder.path());
        let arguments = ["explain", "--client", "deadly:1"].into_iter().chain(search(folder.path()));
        let ended = endpoints(arguments).output().expect("the command starts").status;
        match expected {
            Err(signal) => assert_eq!(ended.signal(), Some(signal), "{what}: {ended:?}"),
            Ok(code) => assert_eq!(ended.code(), Some(code), "{what}: {ended:?}"),
        }
    }
}

#[test]
fn initialisers_that_never_end() {
    let folder = deadly("for (;;) pause();");
    is_listed(folder.path());
    let arguments = ["explain", "--client", "deadly:1"].into_iter().chain(search(folder.path()));
    let mut held = endpoints(arguments).spawn().expect("the command starts");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(300) {
        assert_eq!(held.try_wait().expect("a child"), None, "it is held up");
        thread::sleep(Duration::from_millis(20));
    }
    held.kill().expect("it can be killed");
    held.wait().expect("its end");
}

#[test]
fn a_denied_file_is_never_loaded() {
    let folder = deadly("abort();");
    let ran = run(["explain", "--client", "--json", "deadly:1", "--deny-plugin", "name:deadly"]
        .into_iter()
        .chain(search(folder.path())));
    assert_eq!((ran.status, &ran.error()["kind"]), (Some(2), &json!("plugin-refused")), "{ran:?}");
}
