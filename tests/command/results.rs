//! `parse`, `quote`, `explain`: results of every shape.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

use serde_json::json;

use crate::harness::{built, endpoints, finish, run};

fn bytes(bytes: &[u8]) -> OsString {
    OsStr::from_bytes(bytes).to_owned()
}

#[test]
fn parse_shows_the_parts_as_written() {
    let parsed = run(["parse", "--json", r"TCP:b=1:80:a=x\:y:b=2:\=z"]).json();
    let expected = json!({
        "scheme": "TCP",
        "positional": ["80", "=z"],
        "keyword": { "a": "x:y", "b": "2" },
        "canonical": r"TCP:80:\=z:a=x\:y:b=2",
    });
    assert_eq!(parsed, expected);
    let text = run(["parse", "tcp:80:interface=::1"]);
    assert_eq!(text.status, Some(0));
    assert!(text.text().contains("positional  80\n") && text.text().contains("canonical "), "{text:?}");
}

#[test]
fn bytes_that_are_no_text_survive() {
    let parsed = run([bytes(b"parse"), bytes(b"--json"), bytes(b"unix:/\xff:mode=\xfe")]).json();
    let expected = json!({
        "scheme": "unix",
        "positional": [{ "hex": "2fff" }],
        "keyword": { "mode": { "hex": "fe" } },
        "canonical": { "hex": "756e69783a2fff3a6d6f64653dfe" },
    });
    assert_eq!(parsed, expected);
    let quoted = run([bytes(b"quote"), bytes(b"a:\xff")]);
    assert_eq!((quoted.status, quoted.stdout.as_slice()), (Some(0), &b"a\\:\xff\n"[..]));
    let quoted = run([bytes(b"quote"), bytes(b"--json"), bytes(b":\xff")]).json();
    assert_eq!(quoted, json!({ "hex": "5c3aff" }));
    let explained =
        run([bytes(b"explain"), bytes(b"--client"), bytes(b"--json"), bytes(b"unix:/\xff")]).json();
    assert_eq!(explained["arguments"]["path"], json!({ "value": { "hex": "2fff" }, "given": true }));
}

#[test]
fn quote_gives_what_stands_for_itself() {
    assert_eq!(run(["quote", r"::1=\"]).text(), "\\:\\:1\\=\\\\\n");
    assert_eq!(run(["quote", "--json", "a b:"]).json(), json!(r"a b\:"));
    assert_eq!(run(["quote", "--", "--json"]).text(), "--json\n");
    assert_eq!(run(["quote", ""]).text(), "\n");
}

#[test]
fn explain_shows_each_argument_and_the_provider() {
    let mut explained = run(["explain", "--server", "--json", "tcp:8080:interface=127.0.0.1"]).json();
    assert!(explained["provider"]["version"].take().is_string());
    let expected = json!({
        "role": "server",
        "scheme": "tcp",
        "provider": {
            "name": "endpoints-plugin-tcp",
            "version": null,
            "origin": { "kind": "built-in", "path": null },
        },
        "arguments": {
            "port": { "value": "8080", "given": true },
            "interface": { "value": "127.0.0.1", "given": true },
            "backlog": { "value": "50", "given": false },
        },
        "inner": null,
    });
    assert_eq!(explained, expected);
    let text = run(["explain", "--client", "tcp:h:80"]).text();
    assert!(
        text.starts_with("tcp client, provided by endpoints-plugin-tcp ") && text.contains("(default)"),
        "{text}"
    );
}

#[test]
fn explain_shows_wrappers_with_what_they_stand_around_and_hides_secrets() {
    let plugins = crate::plugins::folder_with_socks5();
    let folder = plugins.path().to_str().expect("text");
    let description = r"socks5:h:80:tcp\:127.0.0.1\:1080:username=alice:password=hunter2";
    let arguments = ["explain", "--client", "--plugin-path", folder, description];
    let explained = run(arguments.into_iter().chain(["--json"]));
    assert!(!format!("{explained:?}").contains("hunter2"));
    let explained = explained.json();
    assert_eq!(explained["provider"]["origin"]["kind"], "file");
    assert_eq!(explained["arguments"]["password"], json!({ "value": null, "given": true }));
    assert_eq!(explained["arguments"]["username"], json!({ "value": "alice", "given": true }));
    let inner = &explained["inner"];
    assert_eq!((inner["role"].as_str(), inner["scheme"].as_str()), (Some("client"), Some("tcp")));
    assert_eq!(inner["arguments"]["port"], json!({ "value": "1080", "given": true }));
    assert_eq!(inner["inner"], json!(null));
    let text = run(arguments);
    assert!(text.text().contains("= ***") && text.text().contains("└── proxy: tcp client"), "{text:?}");
    assert!(!text.text().contains("hunter2"));
}

#[test]
fn inspect_shows_all_that_is_declared() {
    let manifest = run(["inspect", "--json", "UNIX"]).json();
    assert_eq!(manifest["build"]["name"], "endpoints-plugin-unix");
    let scheme = &manifest["plugin"]["schemes"][0];
    assert_eq!((scheme["scheme"].as_str(), scheme["kind"].as_str()), (Some("unix"), Some("transport")));
    let mode = &scheme["server"]["parameters"][1];
    assert_eq!(mode["name"], "mode");
    for (field, value) in [("type", json!("mode")), ("position", json!(2)), ("default", json!("666"))] {
        assert_eq!(mode[field], value, "{field}");
    }
    assert!(mode["description"].is_string() && mode["required"] == json!(false));
    let text = run(["inspect", "tcp"]).text();
    for part in ["server: ", "backlog", "required", "by name", "example: tcp:8080", "seconds"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let file = built("libendpoints_plugin_socks5.so");
    let copy = crate::plugins::folder_with_socks5();
    let path = copy.path().join(file.file_name().expect("a name"));
    let manifest = run(["inspect".as_ref(), "--json".as_ref(), path.as_os_str()]).json();
    assert_eq!(manifest["plugin"]["schemes"][0]["scheme"], "socks5");
}

#[test]
fn nobody_reading_the_results_is_no_error() {
    let mut child = endpoints(["list-plugins"]).stdout(Stdio::piped()).spawn().expect("it starts");
    drop(child.stdout.take());
    let ended = finish(child);
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    let full = File::options().write(true).open("/dev/full").expect("/dev/full");
    let ended = finish(endpoints(["list-plugins"]).stdout(full).spawn().expect("it starts"));
    assert_eq!(ended.status, Some(1), "{ended:?}");
    assert!(ended.stderr.starts_with("error: cannot write"), "{ended:?}");
}

#[test]
fn results_that_cannot_be_written_are_an_error_of_every_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("services.toml");
    std::fs::write(&file, "[[service]]\nname = \"a\"\nlisten = \"tcp:0\"\necho = true\n").expect("a file");
    let file = file.to_str().expect("text");
    for command in [
        &["--help"][..],
        &["--version"],
        &["list-plugins"],
        &["list-plugins", "--why", "tcp"],
        &["inspect", "tcp"],
        &["parse", "tcp:1"],
        &["quote", "a"],
        &["explain", "--server", "tcp:1"],
        &["run", "--check", file],
        &["check-plugin", "--list"],
    ] {
        // Also where it is open, and not for writing.
        for (wrong, why) in [("/dev/full", "No space left on device"), ("/dev/null", "Bad file descriptor")] {
            let output =
                File::options().write(wrong == "/dev/full").read(true).open(wrong).expect("a device");
            let ended = finish(endpoints(command).stdout(output).spawn().expect("it starts"));
            let said = format!("error: cannot write to standard output: {why}");
            assert!(ended.status == Some(1) && ended.stderr.starts_with(&said), "{command:?}: {ended:?}");
        }
    }
}
