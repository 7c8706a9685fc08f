//! What wrong requests lead to, and that secrets are in none of it.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{endpoints, finish, run};
use crate::plugins::folder_with_socks5;

#[test]
fn an_invalid_description_is_shown_with_a_caret() {
    let ended = run(["connect", "tcp:h:80:é=1:timout=3"]);
    assert_eq!(ended.status, Some(2));
    let ended = run(["explain", "--server", "tcp:80:bakclog=3"]);
    assert_eq!(ended.status, Some(2));
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert!(lines[0].starts_with("error: "), "{ended:?}");
    assert_eq!(lines[1..3], ["  tcp:80:bakclog=3", "         ^^^^^^^"]);
    assert!(lines[0].contains("it takes port, interface, backlog"), "{ended:?}");
    assert_eq!(lines[3], "  did you mean backlog?");
    // Columns are characters.
    let ended = run(["explain", "--client", "unix:/é日:tiemout=1"]);
    assert!(ended.stderr.contains("\n  unix:/é日:tiemout=1\n           ^^^^^^^\n"), "{}", ended.stderr);
}

#[test]
fn errors_are_one_json_object_with_every_field() {
    let ended = run(["listen", "--json", "tcp:80:bakclog=3"]);
    assert_eq!((ended.status, ended.stdout.len()), (Some(2), 0));
    let mut error = ended.error();
    assert!(error["message"].take().is_string());
    let known: Vec<Value> = serde_json::from_value(error["expected"].take()).expect("a list");
    assert_eq!(known[..3], ["port", "interface", "backlog"]);
    let expected = json!({
        "kind": "unknown-argument", "message": null, "scheme": "tcp", "argument": "bakclog", "span": [7, 14],
        "expected": null, "suggestion": "backlog", "retryable": false,
    });
    assert_eq!(error, expected);
    let ended = run(["parse", "--json", r"tcp:80\"]);
    let error = ended.error();
    assert_eq!(ended.status, Some(2));
    assert_eq!((&error["kind"], &error["span"]), (&json!("trailing-backslash"), &json!([6, 7])));
    for absent in ["scheme", "argument", "expected", "suggestion"] {
        assert_eq!(error.get(absent), Some(&json!(null)), "{absent}");
    }
}

#[test]
fn each_sort_of_failure_has_its_exit_status() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("its address").port();
    let taken = run(["listen", "--json", &format!("tcp:{port}:interface=127.0.0.1")]);
    assert_eq!((taken.status, &taken.error()["kind"]), (Some(1), &json!("address-in-use")), "{taken:?}");
    drop(free);
    let refused = run(["connect", "--json", &format!("tcp:127.0.0.1:{port}")]);
    let error = refused.error();
    assert_eq!((refused.status, &error["kind"]), (Some(1), &json!("connection-refused")), "{refused:?}");
    assert_eq!(error["retryable"], true);
    let unknown = run(["connect", "--json", "tpc:h:80"]);
    let error = unknown.error();
    assert_eq!(
        (unknown.status, &error["kind"], &error["suggestion"]),
        (Some(2), &json!("unknown-scheme"), &json!("tcp"))
    );
    assert_eq!(run(["inspect", "nothing"]).status, Some(2));
    assert_eq!(run(["connect", "tcp6:80"]).status, Some(2));
}

#[test]
fn usage_errors_end_with_status_2_and_are_json_too() {
    for wrong in [
        &["nonsense"][..],
        &["explain", "tcp:80"],
        &["quote"],
        &["forward", "tcp:80"],
        &["connect", "x", "y"],
        &[],
    ] {
        let ended = run(wrong);
        assert_eq!((ended.status, ended.stdout.len()), (Some(2), 0), "{wrong:?}: {ended:?}");
        assert!(!ended.stderr.is_empty());
        let ended = run(wrong.iter().chain(&["--json"]));
        let error = ended.error();
        assert_eq!((ended.status, &error["kind"]), (Some(2), &json!("usage")), "{wrong:?}");
        assert!(error["message"].is_string() && error["retryable"] == json!(false));
        assert_eq!(error.as_object().expect("an object").len(), 8);
    }
    for limit in [
        "--max-connections=0",
        "--workers=0",
        "--idle-timeout=-1",
        "--drain-timeout=soon",
        "--when-full=refuse",
        "--max-per-peer=0",
        "--max-handshakes=0",
        "--handshake-timeout=0",
    ] {
        assert_eq!(run(["forward", "tcp:0", "tcp:h:1", limit]).status, Some(2), "{limit}");
    }
    for (wrong, wanted) in [
        (&["--max-connections", "many"][..], "write a whole number from 1 to 4294967295, as in 1000"),
        (&["--max-per-peer", "0"], "write a whole number from 1 to 4294967295, as in 1000"),
        (&["--max-handshakes", "5000000000"], "write a whole number from 1 to 4294967295, as in 1000"),
        (&["--workers", "2000"], "write a whole number from 1 to 1024, as in 4"),
        (&["--idle-timeout", "1d"], "write seconds, as in 30 or 1.5, or a unit, as in 250ms or 2min"),
        (&["--handshake-timeout", "0"], "write seconds, as in 30"),
    ] {
        let ended = run(["forward", "tcp:0", "tcp:h:1"].iter().chain(wrong));
        let option = format!("for '{} <", wrong[0]);
        assert!(ended.stderr.contains(&option) && ended.stderr.contains(wanted), "{ended:?}");
    }
    let ended = run(["check-plugin", "--jobs", "x", "file"]);
    assert!(ended.stderr.contains("write a whole number, as in 4"), "{ended:?}");
    // Of one connection alone there are not several.
    for limit in ["--max-connections=1", "--max-per-peer=1", "--max-handshakes=1"] {
        assert_eq!(run(["listen", "tcp:0:interface=127.0.0.1", limit]).status, Some(2), "{limit}");
    }
    for unfinished in ["completions", "man"] {
        assert!(!run(["--help"]).text().contains(&format!("  {unfinished}")), "{unfinished}");
    }
}

#[test]
fn an_argument_that_names_a_file_is_wrong_as_others_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("server.pem");
    let description = format!("tls:{}:0:interface=127.0.0.1", path.display());
    let missing = run(["explain", "--json", "--server", &description]);
    let error = missing.error();
    assert_eq!((missing.status, &error["kind"]), (Some(2), &json!("not-found")), "{missing:?}");
    std::fs::write(&path, "nothing").expect("a file");
    assert_eq!(run(["explain", "--server", &description]).status, Some(2));
    // What is to be done is another matter.
    let gone = format!("unix:{}/nothing", folder.path().display());
    assert_eq!(run(["connect", &gone]).status, Some(1));
}

#[test]
fn of_several_descriptions_the_wrong_one_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its address").port();
    for (stats, status) in [("tcp:x".to_owned(), 2), (format!("tcp:{port}:interface=127.0.0.1"), 1)] {
        let ended = run(["forward", "tcp:0:interface=127.0.0.1", "tcp:127.0.0.1:9", "--stats", &stats]);
        assert_eq!(ended.status, Some(status), "{ended:?}");
        assert!(ended.stderr.starts_with("error: --stats: "), "{ended:?}");
    }
}

#[test]
fn colours_are_used_as_asked_for() {
    let coloured = |arguments: &[&str]| run(arguments).stderr.contains('\x1b');
    assert!(!coloured(&["parse", r"x\"]));
    assert!(coloured(&["parse", r"x\", "--color=always"]));
    assert!(!coloured(&["parse", r"x\", "--color", "never"]));
    let always = endpoints(["--color=always", "nonsense"]).env("NO_COLOR", "1").spawn().expect("it starts");
    assert!(finish(always).stderr.contains('\x1b'));
    // What the user wrote does not steer the terminal.
    assert!(!coloured(&["explain", "--client", "tcp:\x1b[2J:80:x=\x1b[1m"]));
}

#[test]
fn secrets_are_never_printed() {
    let folder = folder_with_socks5();
    let path = folder.path().to_str().expect("text");
    let proxied = |rest: &str| format!(r"socks5:h:80:tcp\:127.0.0.1\:1:username=u:{rest}");
    let wrong = [
        proxied("password=hunter2:tiemout=3"),
        proxied("passwrd=hunter2"),
        proxied("PASSWORD=hunter2"),
        proxied("password=hunter2:password=hunter2"),
        proxied(r"password=hunter2\"),
        proxied(r"password=hunter2:x=\"),
        proxied("password=hunter2:é=1"),
        proxied("password=hunter2:timeout=soon"),
        proxied("password=hunter2:more"),
        proxied("password=x:y:hunter2://abc"),
        proxied("password=x:hunter2:https://abc"),
        "sokcs5:h:80:password=hunter2".to_owned(),
        "socks5:h:80:password=hunter2".to_owned(),
        "password=hunter2:host=h".to_owned(),
        r"socks5:h:80:proxy=socks5\:h\:80\:password\=hunter2\:x\=1".to_owned(),
        r"socks5:h:80:proxy=socks5\:h\:80\:password\=hunter2\\".to_owned(),
        r"nothing:proxy=socks5\:h\:80\:password\=hunter2".to_owned(),
        r"nothing:socks5\:h\:80\:password=hunter2".to_owned(),
        r"tcp:h:80:socks5\:h\:80\:password=hunter2".to_owned(),
        r"tls:socks5\:h\:80\:password=hunter2".to_owned(),
        // Right, but nobody is there.
        proxied("password=hunter2"),
    ];
    for description in &wrong {
        for command in [
            &["connect"][..],
            &["explain", "--server"],
            &["listen"],
            &["connect", "--json"],
            &["-vv", "connect"],
        ] {
            let ended = run(command.iter().chain(&["--plugin-path", path, description]));
            assert_ne!(ended.status, Some(0), "{description}");
            assert!(
                !ended.stderr.is_empty() && !format!("{ended:?}").contains("hunter2"),
                "{description}: {ended:?}"
            );
        }
    }
    for misplaced in [
        &["connect", "x", "password=hunter2"][..],
        &["socks5:h:80:password=hunter2"],
        &["parse", r"password=hunter2\"],
    ] {
        let ended = run(misplaced);
        assert_eq!(ended.status, Some(2));
        assert!(!format!("{ended:?}").contains("hunter2"), "{ended:?}");
    }
}

#[test]
fn stars_are_not_taken_for_secrets() {
    for (description, wanted) in [("*:8080", "no plugin provides"), ("tls:*.example.com:443", "no host name")]
    {
        let ended = run(["explain", "--client", description]);
        assert_eq!(ended.status, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(wanted) && !ended.stderr.contains("secret"), "{ended:?}");
    }
}

#[test]
fn warnings_about_a_description_are_shown_unasked() {
    let certificate = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-subj", "/CN=localhost", "-keyout", "-", "-out", "-"])
        .output();
    let Ok(certificate) = certificate else {
        let required = std::env::var_os("ENDPOINTS_TEST_REQUIRE_PEERS").is_some_and(|value| value == "1");
        assert!(!required, "openssl is not installed: run tests/install-peers");
        eprintln!("not tested: warnings: openssl is not installed");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("server.pem");
    std::fs::write(&path, &certificate.stdout).expect("a file");
    let description = format!("ssl:0:{}:interface=127.0.0.1", path.display());
    let explained = run(["explain", "--server", &description]);
    assert_eq!(explained.status, Some(0), "{explained:?}");
    let mut listening = endpoints(["listen", "--echo", &description]).spawn().expect("the command starts");
    std::thread::sleep(Duration::from_millis(500));
    let _ = listening.kill();
    for told in [explained.stderr, finish(listening).stderr] {
        assert!(told.contains("tls:certificate="), "{told}");
        assert!(told.contains("deprecated"), "{told}");
    }
    // Nothing but JSON, with --json.
    let explained = run(["explain", "--json", "--server", &description]);
    for line in explained.stderr.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(line["level"], "WARN", "{line}");
    }
    assert!(!explained.stderr.is_empty());
}

#[test]
fn what_was_probably_meant_is_said() {
    for (role, description, hint) in [
        ("--server", "unix:path=/run/app.sock", "did you mean address?"),
        ("--client", "unix:address=/run/app.sock", "did you mean path?"),
        ("--server", "tcp:127.0.0.1:8080", "did you mean tcp:8080:interface=127.0.0.1?"),
        ("--server", "tcp6:localhost:8080", "did you mean tcp6:8080:interface=localhost?"),
        // As it comes from a shell that has taken the backslashes.
        ("--client", "tls:h.example:443:endpoint=unix:/run/tunnel.sock", "endpoint=unix\\:…"),
        ("--server", "tls:pki/sni:endpoint=systemd:INET:0", "endpoint=systemd\\:…"),
        ("--server", "tcp:::1:80", "in a shell, put the whole in single quotes"),
    ] {
        let ended = run(["explain", role, description]);
        assert_eq!(ended.status, Some(2), "{description}: {ended:?}");
        assert!(ended.stderr.contains(hint), "{description}: {}", ended.stderr);
    }
}
