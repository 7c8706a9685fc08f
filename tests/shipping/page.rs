//! What the page for operators says that messages are, and the unit that it shows.

use std::fs;
use std::io::{Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use endpoints::{PluginRule, PluginState, Refusal, Registry};
use endpoints_tests::build::files;
use endpoints_tests::object::{built, compiled, manifest, patched, record, replaced, write};
use serde_json::Value;

use crate::harness::{LIMIT, built as built_command, run};
use crate::{is_root, missing, skip};

const PAGE: &str = include_str!("../../docs/src/security.md");
const TCP: &str = "endpoints_plugin_tcp";

/// The kinds and messages of the table, in order.
fn table() -> Vec<(&'static str, &'static str)> {
    let mut lines = PAGE.lines().skip_while(|line| *line != "<!-- test: refusals -->").skip(3);
    let rows = lines.by_ref().take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let mut spans = row.split('`').skip(1).step_by(2);
        (spans.next().expect("a kind"), spans.next().expect("a message"))
    })
    .collect()
}

/// Whether a message is the one of the page, in which `…` stands for anything.
fn is_like(message: &str, page: &str) -> bool {
    let mut parts = page.split('…');
    let Some(mut rest) = message.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    for part in parts {
        match rest.find(part) {
            Some(place) => rest = &rest[place + part.len()..],
            None => return false,
        }
    }
    rest.is_empty() || page.ends_with('…')
}

/// What makes a file for a row of the table, and the rules that deny and allow.
type Row = (Box<dyn Fn(&Path)>, &'static [&'static str], &'static [&'static str]);

/// The refusal of what `make` puts in place of a plugin, with a rule that denies or allows.
fn refusal(make: &dyn Fn(&Path), deny: &[&str], allow: &[&str]) -> Refusal {
    let folder = tempfile::tempdir().expect("a folder");
    make(&folder.path().join("a.so"));
    let rule = |text: &&str| text.parse::<PluginRule>().expect("a rule");
    let builder = Registry::builder().no_built_in().default_plugin_path(false).plugin_path(folder.path());
    let builder = deny.iter().map(rule).fold(builder, endpoints::RegistryBuilder::deny_plugin);
    let builder = allow.iter().map(rule).fold(builder, endpoints::RegistryBuilder::allow_plugin);
    let plugins = builder.build().expect("a registry").plugins();
    let refused = plugins.into_iter().filter_map(|plugin| match plugin.state {
        PluginState::Refused(refusal) => Some(refusal),
        _ => None,
    });
    refused.last().expect("a file is refused")
}

/// Why another user than root, who can read everything, cannot use a file.
fn refusal_to_another_user() -> Value {
    let all = tempfile::tempdir().expect("a folder");
    let (command, folder) = (all.path().join("endpoints"), all.path().join("plugins"));
    fs::copy(built_command("endpoints"), &command).expect("a copy");
    fs::create_dir(&folder).expect("a folder");
    patched(TCP, &folder.join("a.so"), |bytes| bytes);
    for (path, mode) in [(all.path(), 0o755), (&folder, 0o755), (&folder.join("a.so"), 0o600)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
    }
    let mut command = Command::new(&command);
    command.args(["list-plugins", "--json", "--refused", "--no-default-plugin-path", "--plugin-path"]);
    let output = command.arg(&folder).uid(54_321).gid(54_321).output().expect("the command starts");
    let mut listed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    listed["plugins"][0]["reason"].take()
}

#[test]
fn messages_are_those_of_the_page() {
    if !is_root() {
        return skip("messages about files of other users", "only root can give a file away");
    }
    let tcp = |file: &Path| patched(TCP, file, |bytes| bytes);
    let with = |old: &'static str, new: &'static str, count: usize| {
        move |file: &Path| patched(TCP, file, |bytes| replaced(bytes, old, new, count))
    };
    let half = |file: &Path| {
        patched(TCP, file, |mut bytes| {
            // Its headers say that it is longer. They begin at 0x40, each is 56 bytes long, one that is loaded has the type
            // 1, and the size in the file is at 0x20; see elf(5).
            let headers = (0x40..).step_by(56);
            let loaded =
                headers.into_iter().find(|at| bytes[*at..*at + 4] == [1, 0, 0, 0]).expect("a segment");
            bytes[loaded + 0x20..loaded + 0x28].fill(0x3f);
            bytes
        });
    };
    let schemes = r#"{"schemes":[]}"#;
    let made: Vec<Row> = vec![
        (Box::new(|file: &Path| fs::create_dir(file).expect("a folder")), &[], &[]),
        (Box::new(|file: &Path| symlink("gone.so", file).expect("a link")), &[], &[]),
        (Box::new(|file: &Path| symlink(file, file).expect("a link")), &[], &[]),
        (Box::new(|file: &Path| write(file, b"text")), &[], &[]),
        (Box::new(half), &[], &[]),
        (
            Box::new(|file: &Path| {
                patched(TCP, file, |mut bytes| {
                    // The machine, in Elf64_Ehdr.
                    bytes[18] = 8;
                    bytes
                });
            }),
            &[],
            &[],
        ),
        (Box::new(|file: &Path| compiled(file, b"", "")), &[], &[]),
        (
            Box::new(move |file: &Path| compiled(file, &record(manifest("made", schemes).as_bytes()), "")),
            &[],
            &[],
        ),
        (
            Box::new(move |file: &Path| {
                tcp(file);
                fs::set_permissions(file, fs::Permissions::from_mode(0o666)).expect("its mode");
            }),
            &[],
            &[],
        ),
        (
            Box::new(move |file: &Path| {
                tcp(file);
                chown(file, Some(54_321), None).expect("chown");
            }),
            &[],
            &[],
        ),
        (
            Box::new(move |file: &Path| {
                tcp(file);
                let folder = file.parent().expect("its folder");
                fs::set_permissions(folder, fs::Permissions::from_mode(0o1777)).expect("its mode");
            }),
            &[],
            &[],
        ),
        (Box::new(tcp), &["name:endpoints-plugin-tcp"], &[]),
        (Box::new(tcp), &[], &["name:another"]),
        (Box::new(with(r#""requires":"1.0.0""#, r#""requires":"1.9.0""#, 2)), &[], &[]),
        (Box::new(with(r#""api":"1.0.0""#, r#""api":"2.0.0""#, 2)), &[], &[]),
        (Box::new(with(r#""panic":"unwind""#, r#""panic":"abort" "#, 2)), &[], &[]),
        (
            Box::new(with(
                r#""entry":"endpoints_plugin_v1_endpoints_plugin_tcp""#,
                r#""entry":"endpoints_plugin_v1_endpoints_plugin_tcq""#,
                2,
            )),
            &[],
            &[],
        ),
        (
            Box::new(|file: &Path| {
                write(file, &fs::read(built(TCP)).expect("the plugin"));
                fs::hard_link(file, file.with_file_name("b.so")).expect("another name");
            }),
            &[],
            &[],
        ),
    ];
    let is_about_rights = |row: &(&str, &str)| row.1.ends_with("; let the running user read it");
    let (about_rights, table): (Vec<_>, Vec<_>) = table().into_iter().partition(is_about_rights);
    assert_eq!(table.len(), made.len(), "one for each row");
    let [(kind, page)] = *about_rights else { panic!("{about_rights:?}") };
    let told = refusal_to_another_user();
    assert_eq!(told["kind"], kind);
    assert!(told["message"].as_str().is_some_and(|message| is_like(message, page)), "{told}");
    for ((kind, page), (make, deny, allow)) in table.into_iter().zip(made) {
        let refusal = refusal(&*make, deny, allow);
        assert_eq!(refusal.kind.name(), kind, "{refusal}");
        assert!(is_like(&refusal.message, page), "the page says: {page}\nand the host: {refusal}");
    }
}

#[test]
fn what_plugins_write_forges_no_line() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("lying.so"), &fs::read(built("endpoints_fixture_lying")).expect("the fixture"));
    let place = ["--no-default-plugin-path", "--plugin-path", folder.path().to_str().expect("text")];
    for more in [&[][..], &["--json"], &["--json", "--log-format", "json"]] {
        // It logs a line and gives an error, both with a line break and a sequence for a terminal.
        let ran = run(["explain", "--client", "talkative:"].iter().chain(&place).chain(more));
        assert_eq!(ran.status, Some(1), "{ran:?}");
        assert_eq!(ran.stderr.matches("told to lie  [31m\u{fffd}  at length").count(), 2, "{ran:?}");
        assert_eq!(ran.stderr.lines().count(), 2, "{ran:?}");
    }
}

#[test]
fn the_units_of_the_page_are_sound() {
    let units = files(PAGE);
    let names: Vec<_> = units.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["app-front.socket", "app-front.service"]);
    let folder = tempfile::tempdir().expect("a folder");
    for (name, unit) in &units {
        // Where the command is not installed, systemd says so.
        fs::write(folder.path().join(name), unit.replace("/usr/bin/endpoints", "/bin/true")).expect("a file");
    }
    let paths = names.iter().map(|name| folder.path().join(name));
    match Command::new("systemd-analyze").args(["verify", "--man=no"]).args(paths).output() {
        Ok(said) => {
            let words = String::from_utf8_lossy(&said.stderr);
            let about_them: Vec<_> = words.lines().filter(|line| line.contains("app-front")).collect();
            assert!(about_them.is_empty(), "{about_them:?}");
        }
        Err(error) => missing("the units of the page", &format!("systemd-analyze: {error}")),
    }
}

/// The value of a setting of a unit.
fn setting<'a>(unit: &'a str, name: &str) -> &'a str {
    let value = unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("{name}: {unit}"))
}

#[test]
fn the_service_of_the_page_serves_its_socket() {
    let units = files(PAGE);
    let [(_, socket), (_, service)] = &units[..] else { panic!("two units: {units:?}") };
    assert_eq!(setting(socket, "ListenStream"), "443");
    // A port without an address is one of IPv6; here it has to be that of the loopback.
    let free = TcpListener::bind("[::1]:0").expect("a port").local_addr().expect("its address").port();
    let folder = tempfile::tempdir().expect("a folder");
    let application = folder.path().join("app.sock");
    let accepting = UnixListener::bind(&application).expect("the application");
    let line =
        setting(service, "ExecStart").replace("/run/app/app.sock", application.to_str().expect("text"));
    let words: Vec<&str> = line.split(' ').skip(1).collect();
    let started = Command::new("systemd-socket-activate")
        .arg(format!("--listen=[::1]:{free}"))
        .arg(format!("--fdname={}", setting(socket, "FileDescriptorName")))
        .arg(built_command("endpoints"))
        .args(words)
        .stderr(Stdio::null())
        .spawn();
    let mut service = match started {
        Ok(service) => service,
        Err(error) => {
            return missing("the service of the page", &format!("systemd-socket-activate: {error}"));
        }
    };
    let greeting = thread::spawn(move || {
        let (mut stream, _) = accepting.accept()?;
        stream.write_all(b"hello")
    });
    let begun = Instant::now();
    let came = loop {
        match TcpStream::connect(("::1", free)) {
            Ok(mut stream) => {
                stream.set_read_timeout(Some(LIMIT)).expect("a limit");
                let mut said = [0; 5];
                break stream.read_exact(&mut said).map(|()| said);
            }
            Err(error) if begun.elapsed() > LIMIT => break Err(error),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    };
    let _ = service.kill();
    let _ = service.wait();
    assert_eq!(came.expect("what the application says"), *b"hello");
    greeting.join().expect("no panic").expect("the application was reached");
}
