//! `list-plugins`: what is found where, and why it is used or not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use endpoints_tests::object;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{built, run};

const SOCKS5: &str = "libendpoints_plugin_socks5.so";

/// A folder of plugins that only its owner can write to.
pub(crate) fn folder_with_socks5() -> TempDir {
    let folder = TempDir::new().expect("a folder");
    put_socks5(folder.path());
    folder
}

fn put_socks5(folder: &Path) {
    let file = folder.join(SOCKS5);
    fs::copy(built(SOCKS5), &file).expect("a copy");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("its mode");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

fn listed(arguments: &[&str]) -> Vec<Value> {
    let mut document = run(["list-plugins", "--json"].iter().chain(arguments)).json();
    assert_eq!(document["abi"], "1.0");
    serde_json::from_value(document["plugins"].take()).expect("an array")
}

#[test]
fn built_in_plugins_are_listed_in_full() {
    let plugins = listed(&["--no-default-plugin-path"]);
    let mut tcp =
        plugins.iter().find(|plugin| plugin["name"] == "endpoints-plugin-tcp").expect("tcp").clone();
    for text in ["version", "rustc"] {
        assert!(tcp[text].take().is_string(), "{text}");
    }
    for scheme in tcp["schemes"].as_array_mut().expect("an array") {
        assert!(scheme["summary"].take().is_string());
    }
    let expected = json!({
        "name": "endpoints-plugin-tcp",
        "version": null,
        "abi": "1.0",
        "rustc": null,
        "origin": { "kind": "built-in", "path": null },
        "state": "available",
        "reason": null,
        "schemes": [
            { "scheme": "tcp", "roles": ["client", "server"], "kind": "transport", "summary": null, "shadowed_by": null },
            { "scheme": "tcp6", "roles": ["server"], "kind": "transport", "summary": null, "shadowed_by": null },
        ],
    });
    assert_eq!(tcp, expected);
    assert!(listed(&["--no-default-plugin-path", "--skip-built-in"]).is_empty());
    assert!(listed(&["--no-default-plugin-path", "--no-built-in"]).is_empty());
}

#[test]
fn files_are_listed_with_their_state_and_reason() {
    let folder = folder_with_socks5();
    fs::write(folder.path().join("x.so"), "just text").expect("a file");
    let open = folder.path().join("open");
    fs::create_dir(&open).expect("a folder");
    put_socks5(&open);
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("its mode");
    let search = [
        "--skip-built-in",
        "--no-default-plugin-path",
        "--plugin-path",
        text(folder.path()),
        "--plugin-path",
        text(&open),
    ];
    let plugins = listed(&search);
    let states: Vec<_> = plugins.iter().map(|plugin| (&plugin["state"], &plugin["reason"]["kind"])).collect();
    let expected = [
        (&json!("available"), &json!(null)),
        (&json!("refused"), &json!("not-an-object")),
        (&json!("refused"), &json!("untrusted")),
    ];
    assert_eq!(states, expected);
    let origin = json!({ "kind": "file", "path": text(&folder.path().join(SOCKS5)) });
    assert_eq!(plugins[0]["origin"], origin);
    assert_eq!(plugins[1]["name"], "x");
    assert_eq!(
        (&plugins[1]["version"], &plugins[1]["abi"], &plugins[1]["schemes"]),
        (&json!(null), &json!(null), &json!([]))
    );
    assert!(plugins[2]["reason"]["message"].as_str().expect("a message").contains("can write to"));
    let refused = listed(&[&search[..], &["--refused"]].concat());
    assert_eq!(refused.len(), 2);
    let table = run(["list-plugins"].iter().chain(&search)).text();
    assert!(table.contains("socks5 (client)") && table.contains("refused: "), "{table}");
}

#[test]
fn what_comes_later_is_shadowed_and_preference_turns_it_round() {
    let folder = folder_with_socks5();
    let path = text(folder.path()).to_owned();
    let later = folder_with_socks5();
    let search = [
        "--skip-built-in",
        "--no-default-plugin-path",
        "--plugin-path",
        &path,
        "--plugin-path",
        text(later.path()),
    ];
    let plugins = listed(&search);
    assert_eq!(plugins[0]["state"], "available");
    // Of the same name, and so refused.
    assert_eq!(plugins[1]["reason"]["kind"], "duplicate-plugin");
    assert!(plugins[1]["reason"]["message"].as_str().expect("a message").contains(&path));

    let preferred = run([
        "inspect",
        "socks5",
        "--json",
        "--plugin-path",
        &path,
        "--prefer",
        "socks5=endpoints-plugin-socks5",
    ]);
    assert_eq!(preferred.json()["build"]["name"], "endpoints-plugin-socks5");
    let wrong = run(["list-plugins", "--json", "--prefer", "tcp=nobody"]);
    assert_eq!((wrong.status, &wrong.error()["kind"]), (Some(2), &json!("invalid-setting")));
    let wrong = run(["list-plugins", "--json", "--no-built-in=nothing"]);
    assert_eq!((wrong.status, &wrong.error()["kind"]), (Some(2), &json!("invalid-setting")));
    let without = run([
        "explain",
        "--client",
        "--json",
        "--no-built-in=tcp,tcp6",
        "--no-default-plugin-path",
        "tcp:h:80",
    ]);
    assert_eq!((without.status, &without.error()["kind"]), (Some(2), &json!("unknown-scheme")));
}

#[test]
fn why_shows_each_place_and_the_winner() {
    let folder = folder_with_socks5();
    let path = text(folder.path()).to_owned();
    let shown = run(["list-plugins", "--why", "socks5", "--plugin-path", &path]);
    assert_eq!(shown.status, Some(0), "{shown:?}");
    let shown = shown.text();
    let order: Vec<_> =
        ["1. built-in", &path, "/nonexistent/endpoints/plugins", "/usr/local/lib", "/usr/lib/"]
            .iter()
            .map(|place| shown.find(*place).unwrap_or_else(|| panic!("{place}: {shown}")))
            .collect();
    assert!(order.is_sorted(), "{shown}");
    assert!(shown.contains("socks5 is provided by endpoints-plugin-socks5 ("), "{shown}");
    let shown = run(["list-plugins", "--why", "tcp", "--json", "--no-default-plugin-path"]).json();
    assert_eq!(shown["provider"]["name"], "endpoints-plugin-tcp");
    let built_in = shown["places"][0]["plugins"].as_array().expect("the built-in plugins");
    let provides = built_in.iter().filter(|plugin| plugin["decision"] == "provides");
    assert_eq!(provides.count(), 1, "{shown}");
    let nobody = run(["list-plugins", "--why", "nothing", "--no-default-plugin-path"]);
    assert_eq!(nobody.status, Some(2));
    assert!(nobody.text().contains("nobody provides nothing"), "{nobody:?}");
}

#[test]
fn refused_plugins_end_with_status_2() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("x.so");
    fs::write(&file, "just text").expect("a file");
    let refused = run(["inspect", "--json", text(&file)]);
    assert_eq!(
        (refused.status, &refused.error()["kind"]),
        (Some(2), &json!("plugin-refused")),
        "{refused:?}"
    );
    let absent = run(["inspect", text(&folder.path().join("absent.so"))]);
    assert_eq!(absent.status, Some(2), "{absent:?}");
}

#[test]
fn plugins_are_allowed_and_denied_by_rules() {
    let folder = folder_with_socks5();
    let path = text(folder.path());
    let socks5 = |rules: &[&str]| {
        let plugins = listed(&[&["--plugin-path", path, "--no-default-plugin-path"], rules].concat());
        // Built-in ones are not asked about.
        assert!(plugins.iter().any(|plugin| plugin["name"] == "endpoints-plugin-tcp"));
        plugins.into_iter().find(|plugin| plugin["name"] == "endpoints-plugin-socks5").expect("it is listed")
    };
    let place = format!("path:{path}");
    assert_eq!(socks5(&["--allow-plugin", &place])["state"], "available");
    for (rules, reason) in [
        (
            ["--deny-plugin", "name:endpoints-plugin-socks5"],
            "the rule name:endpoints-plugin-socks5 denies it",
        ),
        (["--allow-plugin", "name:another"], "no rule allows it; these would: path:"),
    ] {
        let plugin = socks5(&rules);
        assert_eq!((&plugin["state"], &plugin["reason"]["kind"]), (&json!("refused"), &json!("denied")));
        let message = plugin["reason"]["message"].as_str().expect("a message");
        assert!(message.starts_with(reason), "{message}");
    }
    let ended = run(["list-plugins", "--deny-plugin", "endpoints-plugin-socks5"]);
    assert_eq!(ended.status, Some(2), "{ended:?}");
    assert!(
        ended.stderr.contains("there is no colon in it") && ended.stderr.contains("name:PLUGIN"),
        "{ended:?}"
    );
}

/// A file that ends every process which loads it, though its manifest is sound.
fn deadly(folder: &Path) {
    let sound = fs::read(built("libendpoints_plugin_tcp.so")).expect("the plugin");
    let head = b"endpoints-plugin";
    let begins =
        |place: &usize| sound[*place..].starts_with(head) && sound[place + 24..].starts_with(b"{\"build\":");
    let place = (0..sound.len() - 64).find(begins).expect("a record");
    let length = u32::from_le_bytes(sound[place + 20..place + 24].try_into().expect("four bytes"));
    fs::write(folder.join("record"), &sound[place..place + 24 + length as usize]).expect("write");
    let source = r#"
        #include <stdlib.h>
        __asm__(".pushsection .epplugin,\"a\"\n.incbin \"record\"\n.popsection");
        const char endpoints_plugin_v1_endpoints_plugin_tcp[1];
        __attribute__((constructor)) static void at_once(void) { abort(); }
    "#;
    fs::write(folder.join("deadly.c"), source).expect("write");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o", "deadly.so", "deadly.c"]).current_dir(folder);
    let made = compiler.output().expect("a C compiler, which linking needs too");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    fs::set_permissions(folder.join("deadly.so"), fs::Permissions::from_mode(0o755)).expect("its mode");
}

#[test]
fn looking_at_a_plugin_runs_nothing_of_it() {
    let folder = TempDir::new().expect("a folder");
    deadly(folder.path());
    let place = ["--no-built-in", "--no-default-plugin-path", "--plugin-path", text(folder.path())];
    let plugins = listed(&place);
    assert_eq!(
        (&plugins[0]["name"], &plugins[0]["state"]),
        (&json!("endpoints-plugin-tcp"), &json!("available"))
    );
    let file = folder.path().join("deadly.so");
    for looking in [&["inspect", "tcp"][..], &["inspect", text(&file)], &["parse", "tcp:h:80"]] {
        assert_eq!(run(looking.iter().chain(&place)).status, Some(0), "{looking:?}");
    }
    // It is as deadly as it was meant to be, which no host can contain.
    let ended = run(["explain", "--client", "tcp:h:80"].iter().chain(&place));
    assert_eq!(ended.status, None, "{ended:?}");
}

#[test]
fn a_built_in_plugin_is_left_out_and_not_denied() {
    let ended = run(["list-plugins", "--json", "--deny-plugin", "name:endpoints-plugin-tcp"]);
    assert_eq!((ended.status, &ended.error()["kind"]), (Some(2), &json!("invalid-setting")), "{ended:?}");
    assert!(ended.stderr.contains("--no-built-in=tcp,tcp6"), "{ended:?}");
}

#[test]
fn a_rule_that_cannot_be_followed_is_warned_of() {
    let ended = |option: &str, rule: &str| run(["list-plugins", "--no-default-plugin-path", option, rule]);
    // Longer than any path may be: nobody can tell what is there.
    let unknown = format!("path:/{}", "x".repeat(5000));
    let denies = ended("--deny-plugin", &unknown);
    assert!(denies.stderr.contains("denies all plugins in files"), "{denies:?}");
    assert!(!denies.stderr.contains("matches nothing"), "{denies:?}");
    let allows = ended("--allow-plugin", &unknown);
    assert!(allows.stderr.contains("matches nothing now"), "{allows:?}");
    let absent = ended("--deny-plugin", "path:/nonexistent/x.so");
    assert!(absent.stderr.contains("matches nothing now"), "{absent:?}");
}

#[test]
fn a_folder_that_was_named_must_be_one_that_can_be_read() {
    let all = TempDir::new().expect("a folder");
    // Where another user finds both the command and the folder.
    fs::set_permissions(all.path(), fs::Permissions::from_mode(0o755)).expect("its mode");
    let command = all.path().join("endpoints");
    fs::copy(built("endpoints"), &command).expect("a copy");
    let folder = all.path().join("plugins");
    fs::create_dir(&folder).expect("a folder");
    let is_root = rustix::process::geteuid().is_root();
    let listed = |mode: u32| {
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).expect("its mode");
        let mut command = Command::new(&command);
        command.args(["list-plugins", "--no-default-plugin-path", "--plugin-path", text(&folder)]);
        if is_root {
            // Root can read everything.
            command.uid(54_321).gid(54_321);
        }
        let output = command.output().expect("the command starts");
        (output.status.code(), String::from_utf8(output.stderr).expect("text"))
    };
    assert_eq!(listed(0o755), (Some(0), String::new()));
    // With and without the right to go through it, which tells nothing of what is in it.
    for mode in [0o000, 0o311] {
        let (status, said) = listed(mode);
        assert_eq!(status, Some(2), "{mode:o}: {said}");
        assert!(said.contains(&format!("--plugin-path {}: Permission denied", folder.display())), "{said}");
    }
}

#[test]
fn an_unknown_scheme_tells_of_files_that_cannot_be_read() {
    let folder = TempDir::new().expect("a folder");
    let path = text(folder.path()).to_owned();
    let said = || {
        let search = ["--no-default-plugin-path", "--plugin-path", &path];
        run(["explain", "--client", "nothing:"].iter().chain(&search)).stderr
    };
    let look = "; see `endpoints list-plugins --refused`)";
    object::compiled(&folder.path().join("a.so"), b"", "");
    let alone = said();
    assert!(alone.contains("a.so is refused: it is no endpoint plugin") && alone.contains(look), "{alone}");
    assert!(!alone.contains("more"), "{alone}");
    // What was meant as a plugin says more than a library that lies there.
    let open = folder.path().join("b.so");
    fs::copy(built(SOCKS5), &open).expect("a copy");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("its mode");
    let two = said();
    assert!(two.contains("b.so is refused: everybody can write"), "{two}");
    assert!(two.contains(&format!("; so is 1 more file{look}")), "{two}");
    object::compiled(&folder.path().join("c.so"), b"", "");
    assert!(said().contains(&format!("; so are 2 more files{look}")));
}

#[test]
fn symbols_of_a_file_cost_no_memory() {
    let folder = TempDir::new().expect("a folder");
    let schemes = r#"{"schemes":[]}"#;
    let section: Vec<u8> = (0..60)
        .flat_map(|number| object::record(object::manifest(&format!("made{number}"), schemes).as_bytes()))
        .collect();
    let source: String = (0..5000).map(|number| format!("char s{number}_{};\n", "x".repeat(2000))).collect();
    object::compiled(&folder.path().join("made.so"), &section, &source);
    // Of memory in all, in KiB; ten MB of names for each record do not fit.
    let limited = r#"ulimit -v 300000; exec "$@""#;
    let ran = Command::new("sh")
        .args(["-c", limited, "sh", text(&built("endpoints")), "list-plugins", "--no-default-plugin-path"])
        .args(["--no-built-in", "--json", "--plugin-path", text(folder.path())])
        .output()
        .expect("sh");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let listed: Value = serde_json::from_slice(&ran.stdout).expect("JSON");
    assert_eq!(listed["plugins"].as_array().map(Vec::len), Some(60));
}
