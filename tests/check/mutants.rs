//! The mutants: each does one thing wrong, and the check that it is for finds that.

use std::collections::HashSet;
use std::sync::Mutex;
use std::thread;

use serde_json::Value;

use crate::files;
use crate::harness::{command, mutants, others, results, run};

/// A check, the mutant of `tests/fixtures/mutants` that it must find, and words of the finding.
const MUTANTS: &[(&str, &str, &str)] = &[
    ("load", "set-up-aborts", "SIGABRT"),
    ("process-state", "changes-folder", "current folder"),
    ("set-up-twice", "set-up-once", "there is an instance already"),
    ("schemes", "has-no-server", "cannot listen"),
    ("defaults", "has-another-default", "giving limit"),
    ("opens-nothing", "opens-early", "/dev/null"),
    ("bad-values", "refuses-without-name", "without naming the argument"),
    ("odd-values", "panics-on-odd-values", "panicked while it made an endpoint"),
    ("limits", "panics-on-limits", "panicked while it made an endpoint"),
    ("secrets", "tells-secrets", "the secret token"),
    ("connect", "sends-nothing", "what the client sent did not end"),
    ("connect", "leaves-processes", "leaves a process behind"),
    ("reachable", "tells-another-address", "Connection refused"),
    ("facts", "tells-nonsense", "no socket address"),
    ("secrets-told", "tells-secrets-in-facts", "tells the secret token"),
    ("bulk", "corrupts", "are not what was sent"),
    ("single-bytes", "loses-single-bytes", "one byte"),
    ("vectored", "turns-pieces-round", "pieces of vectored writes"),
    ("empty-buffers", "ends-on-nothing", "after a write of no bytes"),
    ("flush", "hoards", "what was written and flushed did not end"),
    ("quiet", "prints", "a connection is there"),
    ("half-close-client", "closes-all-as-client", "after its own end"),
    ("half-close-server", "closes-all-as-server", "after its own end"),
    ("end-stays", "ends-once", "the end again did not end"),
    ("shutdown-twice", "panics-at-second-shutdown", "shutting down again"),
    ("drop-closes", "stays-open", "the peer is gone"),
    ("write-to-nobody", "hides-write-errors", "64 MiB"),
    ("back-pressure", "hoards-all", "memory grows"),
    ("wakes-reader", "forgets-readers", "not woken by bytes"),
    ("wakes-writer", "forgets-writers", "not woken when there is room"),
    ("last-waker", "wakes-the-first", "but the one before it"),
    ("both-directions", "has-one-waker", "while a reader waits"),
    ("polls-unasked", "is-impatient", "timed out"),
    ("idle", "is-busy", "are woken"),
    ("short-polls", "blocks", "blocks its thread"),
    ("cancel-connect", "leaks-when-connect-is-given-up", "/dev/null"),
    ("cancel-listen", "leaks-when-listen-is-given-up", "/dev/null"),
    ("cancel-accept", "loses-when-accept-is-given-up", "never arrives"),
    ("cancel-handshake", "leaks-when-handshake-is-given-up", "/dev/null"),
    ("time-limit", "leaks-when-connect-is-given-up", "/dev/null"),
    ("refused", "hangs-when-refused", "where nobody listens did not end"),
    ("address-in-use", "tells-another-error", "told as another error"),
    ("listen-again", "goes-on-listening", "already in use"),
    ("silent-peer", "greets-in-accept", "delays everybody"),
    ("early-end", "panics-on-nonsense", "panicked in its handshake"),
    ("inner-trickle", "takes-writes-for-whole", "early eof"),
    ("inner-error", "hides-read-errors", "looks like its orderly end"),
    ("inner-refused", "tells-another-error", "told as something else"),
    ("inner-panic", "aborts-on-panics", "SIGABRT"),
    ("drop-order", "needs-its-instance", "panicked"),
    ("runtime-gone", "waits-when-dropped", "did not end within"),
    ("two-runtimes", "needs-first-runtime", "the runtime has ended"),
    ("threads", "shares-a-buffer", "among other threads"),
    ("moves", "needs-its-thread", "this is another thread"),
    ("many-at-once", "takes-few", "a hundred are enough"),
    ("close-on-exec", "leaves-descriptors-to-programs", "handed down"),
    ("leaks-descriptors", "leaks-descriptors", "/dev/null"),
    ("leaks-memory", "leaks-memory", "of memory in use"),
    ("leaks-threads", "leaks-threads", "threads"),
    ("leaks-failures", "leaks-failures", "/dev/null"),
];

#[test]
fn the_sound_twin_passes_every_check() {
    let output = run([mutants().as_os_str(), "--json".as_ref()]);
    let results = results(&output);
    assert_eq!(others(&results, &["passed", "skipped"]), Vec::<String>::new());
    // The wrapper has no secret; everything else says something.
    let skipped: Vec<&Value> = results.iter().filter(|one| one["outcome"] == "skipped").collect();
    let of_secrets = |one: &&Value| one["check"].as_str().is_some_and(|check| check.starts_with("secrets"));
    assert!(skipped.len() == 2 && skipped.iter().all(of_secrets), "{skipped:?}");
    assert!(output.status.success());
}

#[test]
fn each_check_finds_its_mutant() {
    let (queue, missed) = (Mutex::new(MUTANTS.iter()), Mutex::new(Vec::new()));
    mutants();
    let next = || queue.lock().ok().and_then(|mut queue| queue.next());
    thread::scope(|scope| {
        // Most of them wait for what never comes.
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some((check, mutant, words)) = next() {
                    if let Err(problem) = is_found(check, mutant, words) {
                        missed.lock().expect("a list").push(problem);
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().expect("a list");
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

/// Whether the check finds the mutant, for one scheme at least, and for that reason.
fn is_found(check: &str, mutant: &str, words: &str) -> Result<(), String> {
    let arguments = ["--json", "--only", check, "--jobs", "1", "--time-limit", "15"];
    let mut command = command(arguments);
    let output = command.arg(mutants()).env("ENDPOINTS_MUTANT", mutant).output().expect("the command");
    let results = results(&output);
    let of_check: Vec<&Value> = results.iter().filter(|one| one["check"] == check).collect();
    let found = of_check.iter().any(|one| {
        let message = one["message"].as_str().unwrap_or_default();
        (one["outcome"] == "failed" || one["outcome"] == "warned") && message.contains(words)
    });
    if found { Ok(()) } else { Err(format!("{check} does not find {mutant}: {of_check:?}")) }
}

#[test]
fn every_check_has_a_mutant() {
    let output = run(["--list", "--json"]);
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let checks = document["checks"].as_array().expect("checks");
    assert!(checks.len() >= 40, "{}", checks.len());
    let names: Vec<&str> = checks.iter().filter_map(|check| check["check"].as_str()).collect();
    let has: HashSet<&str> = MUTANTS
        .iter()
        .map(|(check, ..)| *check)
        .chain(files::MUTANTS.iter().map(|(check, ..)| *check))
        .collect();
    let without: Vec<&&str> = names.iter().filter(|name| !has.contains(**name)).collect();
    assert!(without.is_empty(), "{without:?}");
    let unknown: Vec<&&str> = has.iter().filter(|name| !names.contains(*name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
