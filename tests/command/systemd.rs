//! The recorded descriptions of `systemd`: they depend on the environment, and so on a process of their own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Run, built, endpoints, finish};

/// The plugins that are needed, as files.
fn folder() -> TempDir {
    let folder = TempDir::new().expect("a folder");
    for name in ["systemd", "haproxy"] {
        let name = format!("libendpoints_plugin_{name}.so");
        let file = folder.path().join(&name);
        fs::copy(built(&name), &file).expect("a copy");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("its mode");
    }
    folder
}

/// Explains a description as if systemd had started the command.
fn explain(description: &str, environment: &Value, plugins: Option<&Path>) -> Run {
    let mut arguments = vec!["explain".to_owned(), "--json".into(), "--server".into(), description.into()];
    if let Some(folder) = plugins {
        arguments.extend(["--no-built-in".into(), "--plugin-path".into(), folder.display().to_string()]);
    }
    let command = endpoints(&arguments);
    // Its number is known once it runs.
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", r#"LISTEN_PID=$$ exec "$0" "$@""#]).arg(command.get_program()).args(command.get_args());
    shell.env_clear().env("PATH", "/usr/bin:/bin").env("XDG_DATA_HOME", "/nonexistent");
    for (name, value) in environment.as_object().into_iter().flatten() {
        shell.env(name, value.as_str().expect("a text"));
    }
    if environment.is_null() {
        shell.env("LISTEN_FDS", "0");
    }
    shell.stdin(std::process::Stdio::null());
    shell.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    finish(shell.spawn().expect("a shell"))
}

#[test]
fn recorded_descriptions() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/conformance/server.jsonl");
    let cases = fs::read_to_string(path).expect("the recorded cases");
    let folder = folder();
    let mut ran = 0;
    for line in cases.lines() {
        let case: Value = serde_json::from_str(line).expect("a case in JSON");
        let input = case["input"].as_str().expect("a description");
        let small = input.to_ascii_lowercase();
        let is_ours =
            small == "systemd" || small.starts_with("systemd:") || small.starts_with("haproxy:systemd:");
        if !is_ours {
            continue;
        }
        for plugins in [None, Some(folder.path())] {
            check(&case, &explain(input, &case["env"], plugins));
        }
        ran += 1;
    }
    assert_eq!(ran, 34);
}

fn check(case: &Value, run: &Run) {
    let id = &case["id"];
    let want = &case["want"];
    let expected = if want["outcome"] == "ok" { want } else { case };
    if want["outcome"] == "either" {
        assert!(matches!(run.status, Some(0 | 2)), "{id}: {run:?}");
        return;
    }
    if expected["endpoint"].is_object() && want["outcome"] != "error" {
        let mut made = run.json();
        let mut endpoint = &expected["endpoint"];
        if endpoint["type"] == "haproxy" {
            endpoint = &endpoint["wrapped"];
            made = made["inner"].take();
        }
        assert_eq!(made["scheme"], "systemd", "{id}");
        assert_eq!(made["facts"]["descriptor"][0], endpoint["fd"].to_string(), "{id}");
        let family = format!("AF_{}", made["arguments"]["domain"]["value"].as_str().expect("a domain"));
        assert_eq!(endpoint["family"], family.as_str(), "{id}");
        return;
    }
    let expected = if want["outcome"] == "error" { want } else { &case["error"] };
    let error = run.error();
    let kinds = match expected["kind"].as_str().expect("a kind") {
        "index-xor-name" => vec!["conflicting-arguments", "missing-argument"],
        "bad-index" | "bad-name" | "bad-domain" => vec!["invalid-argument", "bad-number"],
        kind => vec![kind],
    };
    assert!(kinds.contains(&error["kind"].as_str().expect("a kind")), "{id}: {error}");
    for mention in expected["mention"].as_array().into_iter().flatten() {
        let mention = mention.as_str().expect("a text");
        assert!(error.to_string().contains(mention), "{id}: {mention} is not in {error}");
    }
}

#[test]
fn sockets_for_another_process_are_left_alone() {
    let folder = folder();
    for plugins in [None, Some(folder.path())] {
        let mut arguments = vec!["listen".to_owned(), "--echo".into(), "systemd:INET:0".into()];
        if let Some(folder) = plugins {
            arguments.extend(["--no-built-in".into(), "--plugin-path".into(), folder.display().to_string()]);
        }
        let mut command = endpoints(&arguments);
        let run = finish(command.env("LISTEN_PID", "1").env("LISTEN_FDS", "1").spawn().expect("it starts"));
        assert_eq!(run.status, Some(2), "{run:?}");
        assert!(run.stderr.contains("LISTEN_PID is 1, so they are meant for that process"), "{run:?}");
    }
}
