//! Files with something wrong in them, which is found without running any of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{mutants, results, run};

/// Makes a file in a folder.
type Make = fn(&Path) -> PathBuf;

/// A check, and what makes a file that it must find.
pub(crate) const MUTANTS: &[(&str, Make)] = &[
    ("file", cut_short),
    ("file", written_by_all),
    ("manifest", without_manifest),
    ("manifest", |folder| changed(folder, "\"kind\": \"wrapper\"", "\"kind\": \"wrapping")),
    ("api-version", |folder| changed(folder, "\"requires\":\"1.0.0\"", "\"requires\":\"1.9.0\"")),
    ("panic-policy", |folder| changed(folder, "\"panic\":\"unwind\"", "\"panic\":\"abort\" ")),
    ("entry", |folder| {
        changed(folder, "\"entry\":\"endpoints_plugin_v1_m", "\"entry\":\"endpoints_plugin_v1_x")
    }),
    ("fields", |folder| changed(folder, "\"secret\": true", "\"sekret\": true")),
    ("examples", |folder| changed(folder, "mutant:name=example", "mutant:nome=example")),
    ("load", without_symbol),
    ("load", |folder| changed_once(folder, "The name.", "A number.")),
    ("exports", |folder| in_c(folder, "int everybody_can_call_this(void) { return 1; }", DESCRIBED, &[])),
    ("dependencies", |folder| in_c(folder, "", DESCRIBED, &["-Wl,-rpath,$ORIGIN/lib"])),
    ("described", |folder| {
        in_c(folder, "", r#"{"schemes":[{"scheme":"c","kind":"transport","client":{"parameters":[]}}]}"#, &[])
    }),
];

const DESCRIBED: &str = r#"{"summary":"s","schemes":[{"scheme":"c","kind":"transport","summary":"s","client":{"summary":"s","examples":["c:"],"parameters":[]}}]}"#;

#[test]
fn each_check_finds_its_file() {
    for (check, make) in MUTANTS {
        let folder = tempfile::tempdir().expect("a folder");
        let file = make(folder.path());
        let output = run(["--json", "--only", check, file.to_str().expect("a path")]);
        let results = results(&output);
        let of_check: Vec<&Value> = results.iter().filter(|one| one["check"] == *check).collect();
        let found = of_check.iter().any(|one| one["outcome"] == "failed" || one["outcome"] == "warned");
        assert!(found, "{check} does not find {}: {results:?}", file.display());
    }
}

fn copy(folder: &Path, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> PathBuf {
    let file = folder.join("mutant.so");
    fs::write(&file, change(fs::read(mutants()).expect("the plugin"))).expect("a copy");
    file
}

fn cut_short(folder: &Path) -> PathBuf {
    copy(folder, |bytes| bytes[..bytes.len() / 2].to_vec())
}

fn written_by_all(folder: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let file = copy(folder, |bytes| bytes);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("its mode");
    file
}

/// Puts one text in the place of another, as long, wherever it stands.
fn changed(folder: &Path, old: &str, new: &str) -> PathBuf {
    copy(folder, |bytes| replaced(bytes, old, new, usize::MAX))
}

fn changed_once(folder: &Path, old: &str, new: &str) -> PathBuf {
    copy(folder, |bytes| replaced(bytes, old, new, 1))
}

fn replaced(mut bytes: Vec<u8>, old: &str, new: &str, most: usize) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let places: Vec<usize> = bytes
        .windows(old.len())
        .enumerate()
        .filter(|(_, text)| *text == old.as_bytes())
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty(), "there is no {old}");
    for place in places.into_iter().take(most) {
        bytes[place..place + new.len()].copy_from_slice(new.as_bytes());
    }
    bytes
}

fn compile(folder: &Path, source: &str, options: &[&str]) -> PathBuf {
    let (code, file) = (folder.join("mutant.c"), folder.join("mutant.so"));
    fs::write(&code, source).expect("the source");
    let mut gcc = Command::new("gcc");
    gcc.args(["-shared", "-fPIC", "-o"]).arg(&file).arg(&code).args(options);
    assert!(gcc.status().expect("gcc").success());
    file
}

fn without_manifest(folder: &Path) -> PathBuf {
    compile(folder, "int nothing;", &[])
}

/// A record in C, as the book describes it, and a symbol in the place of the entry: nothing that could be loaded.
fn in_c(folder: &Path, more: &str, manifest: &str, options: &[&str]) -> PathBuf {
    let text = format!(
        r#"{{"build":{{"name":"c","version":"1.0.0","api":"1.0.0","requires":"1.0.0","rustc":"","target":"","panic":"unwind","entry":"endpoints_plugin_v1_c"}},"plugin":{manifest}}}"#
    );
    let quoted = text.replace('"', "\\\"");
    let source = format!(
        "#include <stdint.h>\n\
         const struct {{ char magic[16]; uint32_t format, length; char text[{length}]; }} endpoints_manifest_c\n\
         __attribute__((section(\".epplugin\"))) = {{ \"endpoints-plugin\", 1, {length}, \"{quoted}\" }};\n\
         const void *const endpoints_plugin_v1_c = &endpoints_manifest_c;\n{more}\n",
        length = text.len()
    );
    compile(folder, &source, options)
}

fn without_symbol(folder: &Path) -> PathBuf {
    in_c(folder, "int is_nowhere(void);\nint call(void) { return is_nowhere(); }", DESCRIBED, &[])
}

#[test]
fn a_file_that_ends_the_process_is_a_finding() {
    let folder = TempDir::new().expect("a folder");
    for (body, word) in [
        ("__builtin_trap();", "signal 4"),
        ("*(volatile int *)0 = 1;", "SIGSEGV"),
        ("abort();", "SIGABRT"),
        ("_exit(0);", "something called exit"),
        ("for (;;);", "did not end within 2s"),
    ] {
        let constructor = format!(
            "#include <stdlib.h>\n#include <unistd.h>\n__attribute__((constructor)) static void first(void) {{ {body} }}"
        );
        let file = in_c(folder.path(), &constructor, DESCRIBED, &[]);
        let file = file.to_str().expect("a path");
        let output = run(["--json", "--time-limit", "2", "--only", "file", "--only", "load", file]);
        let results = results(&output);
        assert_eq!(results[0]["outcome"], "passed", "{results:?}");
        let load = &results[1];
        assert!(
            load["outcome"] == "failed" && load["message"].as_str().is_some_and(|text| text.contains(word)),
            "{load}"
        );
        assert_eq!(output.status.code(), Some(1));
    }
}
