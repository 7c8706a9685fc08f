//! What is asked for is looked at before any check is done; nothing of it is passed over.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{built, command, results, run};

fn of(file: &str, arguments: &[&str]) -> Output {
    let file = built(file);
    run(arguments.iter().map(OsStr::new).chain([file.as_os_str()]))
}

/// Refused as a wrong request, before anything is done; gives the message.
fn refused(file: &str, arguments: &[&str]) -> String {
    let output = of(file, arguments);
    let message = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
    assert!(output.stdout.is_empty(), "{arguments:?}: {:?}", output.stdout);
    assert!(message.starts_with("error: ") && message.lines().count() == 1, "{arguments:?}: {message}");
    message
}

const PASS: &str = "libendpoints_fixture_pass.so";
const TCP: &str = "libendpoints_plugin_tcp.so";
const TLS: &str = "libendpoints_plugin_tls.so";

#[test]
fn a_value_of_which_nothing_can_be_made_is_a_wrong_request() {
    for (file, arguments, words) in [
        (TLS, &["--argument", "certificate=srever.pem"][..], "no server endpoint of tls "),
        (TLS, &["--argument", "certificate=srever.pem"], "cannot read srever.pem"),
        (TLS, &["--argument", "privateKey=x.pem"], "privateKey is given without"),
        (TCP, &["--argument", "timeout=never", "--only", "bad-values"], "\"never\" is not a length of time"),
        (PASS, &["--argument", "endpoint=tcp"], "required but not given: port"),
        (PASS, &["--argument", "endpoint="], "endpoint"),
    ] {
        let message = refused(file, arguments);
        assert!(message.contains("with the values given by --argument: "), "{message}");
        assert!(message.contains(words) && !message.contains("examples"), "{message}");
    }
}

#[test]
fn what_is_wrong_with_the_examples_is_not_blamed_on_what_is_given() {
    let results = results(&of(TLS, &["--json", "--only", "schemes", "--argument", "host=localhost"]));
    for result in results {
        let message = result["message"].as_str().expect("a message");
        assert!(message.contains("of the examples in the manifest"), "{message}");
        assert_eq!(result["outcome"], "skipped");
    }
}

#[test]
fn descriptions_that_are_for_no_check_are_wrong_requests() {
    for (file, arguments, words) in [
        (
            PASS,
            &["--server", "tcp:0"][..],
            "--server is of the scheme \"tcp\", which is none of what is checked: pass",
        ),
        (PASS, &["--server", r"nope:tcp\:0"], "--server is of the scheme \"nope\""),
        (PASS, &["--server", ""], "--server is of the scheme \"\""),
        (PASS, &["--server", ":::"], "--server is of the scheme \"\""),
        (PASS, &["--server", "\\"], "--server is no description: "),
        (PASS, &["--client", "garbage"], "--client is of the scheme \"garbage\""),
        (PASS, &["--client", "tcp:127.0.0.1:1"], "--client is of the scheme \"tcp\""),
        (TCP, &["--server", "tcp:0", "--server", "TCP:1"], "--server is given twice for the scheme tcp"),
        (TCP, &["--server", "tcp:x"], "of the --server that is given: port: \"x\""),
        (TCP, &["--client", "tcp:h:x"], "of the --client that is given: port: \"x\""),
        (TCP, &["--plugin-path", "nowhere"], "--plugin-path nowhere: "),
        (TCP, &["--plugin-path", "/dev/null"], "--plugin-path /dev/null: it is a file"),
    ] {
        let message = refused(file, arguments);
        assert!(message.contains(words), "{arguments:?}: {message}");
    }
    // Those that are for one are used, however they are written.
    let output = of(TCP, &["--only", "connect", "--server", "TCP:0:interface=127.0.0.1"]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_check_that_the_level_does_not_do_is_a_wrong_request() {
    let message = refused(PASS, &["--level", "load", "--only", "file", "--only", "connect"]);
    assert!(message.contains("--only connect: ") && message.contains("--level traffic"), "{message}");
    assert!(of(PASS, &["--level", "load", "--only", "schemes"]).status.success());
}

#[test]
fn a_check_of_the_other_kind_of_scheme_is_skipped_and_says_so() {
    for (file, check, words) in [(PASS, "refused", "about transports"), (TCP, "early-end", "about wrappers")]
    {
        let output = of(file, &["--json", "--only", check]);
        let results = results(&output);
        assert!(!results.is_empty(), "{check}");
        for result in results {
            assert_eq!(result["outcome"], "skipped");
            assert!(result["message"].as_str().is_some_and(|message| message.contains(words)), "{result}");
        }
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn threads_are_no_more_than_there_is_to_do_or_than_there_can_be() {
    let only = ["--only", "file", "--only", "manifest"];
    let began = Instant::now();
    let output = of(PASS, &[&only[..], &["--jobs", "99999999"]].concat());
    assert!(output.status.success() && began.elapsed() < Duration::from_secs(20), "{output:?}");
    // With stacks of that size there is no thread at all.
    let mut command = command(only);
    let output =
        command.arg(built(PASS)).env("RUST_MIN_STACK", "999999999999999").output().expect("the command");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).matches("  passed ").count(), 2, "{output:?}");
}

#[test]
fn a_temporary_folder_that_is_not_there_is_one_error() {
    let output = command(["--only", "file"]).arg(built(PASS)).env("TMPDIR", "/nonexistent").output();
    let output = output.expect("the command");
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("in /nonexistent, ") && message.contains("TMPDIR"), "{message}");
    assert!(output.stdout.is_empty() && message.lines().count() == 1, "{message}");
}

/// The files in a folder for temporary ones.
fn left(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the folder");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

/// How many folders there are in one, and below.
fn folders_in(folder: &Path) -> usize {
    let below = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    below.filter(|path| path.is_dir()).map(|path| 1 + folders_in(&path)).sum()
}

#[test]
fn nothing_is_left_behind_by_a_command_that_is_interrupted() {
    for signal in [Signal::INT, Signal::TERM] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = command(["--jobs", "4"]);
        command.arg(built(PASS)).env("TMPDIR", folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the command");
        let deadline = Instant::now() + Duration::from_secs(30);
        // That of the command, that of the file, and at least one of a check.
        while folders_in(folder.path()) < 3 {
            assert!(Instant::now() < deadline, "no check runs");
            thread::sleep(Duration::from_millis(1));
        }
        kill_process(id(&child), signal).expect("a signal");
        let status = child.wait().expect("its end");
        assert_eq!(status.code(), Some(128 + signal.as_raw()));
        assert_eq!(left(folder.path()), Vec::<String>::new());
    }
    // And none by one that ends.
    let folder = tempfile::tempdir().expect("a folder");
    let output = command(["--level", "load"]).arg(built(TLS)).env("TMPDIR", folder.path()).output();
    let output = output.expect("the command");
    assert_eq!(left(folder.path()), Vec::<String>::new());
    // What differs in the names of temporary folders alone shares a line.
    let shown = String::from_utf8_lossy(&output.stdout);
    let skipped =
        shown.lines().filter(|line| line.starts_with("  skipped ") && line.contains("cannot read")).count();
    assert!(skipped <= 4, "{shown}");
}

fn id(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed()).expect("a process")
}

#[test]
fn results_that_cannot_be_written_are_an_error() {
    for format in [&[][..], &["--json"]] {
        let full = File::options().write(true).open("/dev/full").expect("/dev/full");
        let mut command = command([format, &["--only", "file"]].concat());
        let output = command.arg(built(PASS)).stdout(full).stderr(Stdio::piped()).spawn();
        let output = output.and_then(Child::wait_with_output).expect("the command");
        assert_eq!(output.status.code(), Some(1), "{format:?}");
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(message.contains("cannot write to standard output"), "{format:?}: {message}");
    }
}
