//! What the command shows, and its exit status.

use std::ffi::OsStr;
use std::fs;

use serde_json::Value;

use crate::harness::{built, command, mutants, run};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[test]
fn results_come_as_lines() {
    let output =
        run([OsStr::new("--level"), "load".as_ref(), built("libendpoints_fixture_pass.so").as_os_str()]);
    let shown = text(&output.stdout);
    assert!(
        shown.starts_with("file\n  passed   file               the file is a sound shared object"),
        "{shown}"
    );
    assert!(shown.contains("\n\npass\n  passed   schemes            the scheme answers"), "{shown}");
    assert!(shown.contains("  skipped  secrets            no parameter is a secret\n"), "{shown}");
    assert!(!shown.contains("connect "), "the level is not kept: {shown}");
    let last = shown.lines().last().expect("a line");
    assert!(
        last.ends_with("libendpoints_fixture_pass.so: 19 passed, 0 failed, 0 warned, 1 skipped"),
        "{last}"
    );
    assert!(output.stderr.is_empty() && output.status.success());
}

#[test]
fn a_failure_shows_what_the_plugin_said_last() {
    let mut command = command(["--only", "odd-values"]);
    let output =
        command.arg(mutants()).env("ENDPOINTS_MUTANT", "panics-on-odd-values").output().expect("the command");
    let shown = text(&output.stdout);
    assert!(
        shown.contains("  failed   odd-values         name=\\x00 (client): mutant: the plugin panicked"),
        "{shown}"
    );
    assert!(shown.contains("| a NUL\n"), "{shown}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn what_stands_on_a_failed_check_is_skipped_in_one_line() {
    let mut command = command(["--level", "load"]);
    let output =
        command.arg(mutants()).env("ENDPOINTS_MUTANT", "has-no-server").output().expect("the command");
    let shown = text(&output.stdout);
    assert!(shown.contains("  failed   schemes "), "{shown}");
    assert!(shown.contains("  skipped  (7 checks)         the check schemes failed\n"), "{shown}");
}

#[test]
fn warnings_count_when_they_are_to() {
    let mutant = |arguments: &[&str]| {
        let mut command = command(["--only", "quiet"].iter().chain(arguments));
        command.arg(mutants()).env("ENDPOINTS_MUTANT", "prints").output().expect("the command")
    };
    let output = mutant(&[]);
    let shown = text(&output.stdout);
    assert!(shown.contains("  warned   quiet              it writes to standard output"), "{shown}");
    assert!(output.status.success());
    assert_eq!(mutant(&["--strict"]).status.code(), Some(1));
}

#[test]
fn results_are_written_as_junit() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("results.xml");
    let mut command = command(["--only", "odd-values", "--only", "file", "--only", "secrets", "--junit"]);
    let output = command
        .arg(&path)
        .arg(mutants())
        .env("ENDPOINTS_MUTANT", "panics-on-odd-values")
        .output()
        .expect("the command");
    assert_eq!(output.status.code(), Some(1));
    let xml = fs::read_to_string(path).expect("the results");
    assert!(
        xml.starts_with(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"endpoints check-plugin\">"
        ),
        "{xml}"
    );
    assert!(
        xml.contains(
            "<testsuite name=\"libmutants.so\" tests=\"1\" failures=\"0\" errors=\"0\" skipped=\"0\""
        ),
        "{xml}"
    );
    assert!(xml.contains("<testsuite name=\"libmutants.so: mutant\" tests=\"2\" failures=\"1\""), "{xml}");
    assert!(xml.contains("<testcase classname=\"libmutants.so: mutant\" name=\"odd-values\""), "{xml}");
    assert!(xml.contains("<failure message=\"name=\\x00 (client): mutant: the plugin panicked"), "{xml}");
    assert!(xml.contains("<skipped message=\"no parameter is a secret\"/>"), "{xml}");
}

#[test]
fn a_file_that_is_not_there_is_a_wrong_request() {
    let output = run(["/nonexistent/plugin.so"]);
    assert_eq!(output.status.code(), Some(2));
    let shown = text(&output.stderr);
    assert!(
        shown.starts_with("error: /nonexistent/plugin.so cannot be checked: ") && shown.lines().count() == 1,
        "{shown}"
    );
    let output = run(["--json", "/nonexistent/plugin.so"]);
    let error: Value = serde_json::from_slice(&output.stderr).expect("JSON");
    assert_eq!(error["error"]["kind"], "plugin-refused");
}

#[test]
fn a_check_that_there_is_none_of_is_a_wrong_request() {
    let output = run(["--only", "vectord", "x.so"]);
    assert_eq!(output.status.code(), Some(2));
    let shown = text(&output.stderr);
    assert!(shown.contains("'vectord'") && shown.contains("vectored"), "{shown}");
    assert_eq!(run(["--argument", "=x", "x.so"]).status.code(), Some(2));
    assert_eq!(run::<&str>([]).status.code(), Some(2));
}

#[test]
fn several_files_are_checked_one_after_another() {
    let pass = built("libendpoints_fixture_pass.so");
    let output = run(["--json", "--only", "file"]
        .map(Into::into)
        .into_iter()
        .chain([pass.clone(), mutants().to_owned()]));
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let files = document["files"].as_array().expect("files");
    assert_eq!(files.len(), 2);
    assert_eq!(files[0]["plugins"][0]["name"], "endpoints-fixture-pass");
    assert_eq!(files[1]["file"].as_str(), mutants().to_str());
    assert_eq!((&files[1]["passed"], &files[1]["failed"]), (&1.into(), &0.into()));
}

#[test]
fn nothing_is_done_in_vain() {
    let pass = built("libendpoints_fixture_pass.so");
    for (wrong, words) in [
        (["--argument", "nope=1"], "no scheme has such a parameter; there are endpoint"),
        (["--deny-plugin", "name:x"], "--deny-plugin does nothing for check-plugin"),
        (["--jobs", "0"], "no check would run; leave the option out for as many as there are processors"),
        (["--time-limit", "0"], "leave the option out for 60 seconds"),
        (["--junit", "/nonexistent/results.xml"], "cannot write /nonexistent/results.xml"),
    ] {
        let output = run(wrong.map(OsStr::new).into_iter().chain([pass.as_os_str()]));
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(output.stdout.is_empty(), "{wrong:?}");
        let shown = text(&output.stderr);
        assert!(shown.contains(words), "{wrong:?}: {shown}");
    }
}

#[test]
fn of_a_file_that_is_no_plugin_nothing_passes() {
    // Nothing about a file that is none is true.
    let output = run(["--json", "--level", "load", "/etc/hostname"]);
    let results = crate::harness::results(&output);
    let passed: Vec<&Value> = results.iter().filter(|one| one["outcome"] == "passed").collect();
    assert!(passed.is_empty(), "{passed:?}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn other_files_are_checked_beside_one_that_is_not_there() {
    let pass = built("libendpoints_fixture_pass.so");
    let output = run(["--json", "--only", "file", "/nonexistent.so"]
        .map(OsStr::new)
        .into_iter()
        .chain([pass.as_os_str()]));
    assert_eq!(output.status.code(), Some(2));
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(document["files"][0]["passed"], 1);
}
