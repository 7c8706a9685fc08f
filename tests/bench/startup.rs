//! How fast the command lists plugins.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::Plugins;
use crate::measure::Table;

pub(crate) fn run(quick: bool, plugins: &Plugins) {
    let rounds = if quick { 5 } else { 41 };
    let command = plugins.profile.join("endpoints");
    if !command.exists() {
        println!("\nstart-up: left out, {} is not built", command.display());
        return;
    }
    let many = tempfile::tempdir().expect("a temporary folder");
    let file = plugins.profile.join("libendpoints_plugin_socks5.so");
    for number in 0..50 {
        // One name for all: what counts is that each file is opened, checked and read.
        let copy = many.path().join(format!("plugin-{number:02}.so"));
        std::fs::copy(&file, copy).expect("room for copies");
    }
    let list = |path: Option<&Path>| {
        let mut list = Command::new(&command);
        list.args(["--no-default-plugin-path", "list-plugins", "--json"]);
        if let Some(path) = path {
            list.arg("--plugin-path").arg(path);
        }
        list
    };
    let mut variants = Vec::new();
    let mut socat = Command::new("socat");
    socat.arg("-V");
    if socat.stdout(Stdio::null()).status().is_ok() {
        variants.push(("socat -V".to_owned(), socat));
    } else {
        println!("\nstart-up: socat is not installed, so nothing to compare with");
    }
    variants.push(("endpoints list-plugins, built-in".to_owned(), list(None)));
    variants.push(("endpoints list-plugins, 50 .so".to_owned(), list(Some(many.path()))));
    let table = Table::measure(
        "start to end (target: 1.3 times socat; 15 ms with 50 .so)",
        "ms",
        rounds,
        &mut variants,
        |command| {
            let begun = Instant::now();
            let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
            assert!(status.is_ok_and(|status| status.success()), "{command:?} failed");
            begun.elapsed().as_secs_f64() * 1e3
        },
    );
    table.print(&[None, Some(1.3), None]);
}
