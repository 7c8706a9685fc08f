//! Descriptions as arguments for clap, and their completion in bash.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use endpoints::{Description, Registry, RoleKind};
use proptest::prelude::*;

use crate::harness::need;
use crate::programs::{Place, example, plugins};

/// The output, the errors, and the status.
fn ran(command: &mut Command) -> (String, String, Option<i32>) {
    let output = command.output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

#[test]
fn arguments_are_endpoints() {
    let (output, ..) = ran(example("clap").args(["relay", "tcp:h:80", "--listen", "unix:/run/x:mode=660"]));
    assert_eq!(output, "from unix:/run/x:mode=660 to tcp:h:80\n");
    let (output, ..) = ran(example("clap").args(["relay", "tcp:h:80"]));
    assert_eq!(output, "from tcp:8080 to tcp:h:80\n");
    // A path need not be UTF-8.
    let (output, ..) = ran(example("clap").arg("relay").arg(OsStr::from_bytes(b"unix:/run/\xff")));
    assert_eq!(output, "from tcp:8080 to unix:/run/\u{fffd}\n");
}

#[test]
fn a_mistake_is_shown_where_it_is_and_a_secret_is_not() {
    let (_, errors, status) =
        ran(example("clap").args(["relay", "--listen", "tcp:8080:bakclog=5", "tcp:h:80"]));
    assert_eq!(status, Some(2));
    assert!(
        errors.starts_with("error: invalid value for '--listen <LISTEN>': \"bakclog\" is not"),
        "{errors}"
    );
    assert!(errors.contains("\n  tcp:8080:bakclog=5\n           ^^^^^^^\n"), "{errors}");
    let (_, errors, status) = ran(example("clap").args(["relay", "nothing:password=hunter2"]));
    assert_eq!(status, Some(2));
    assert!(errors.contains("nothing:password=*******") && !errors.contains("hunter2"), "{errors}");
}

/// What bash would put on the line in place of the word that is typed.
fn in_bash(line: &str) -> Vec<String> {
    let program = example("clap");
    let folder = std::path::Path::new(program.get_program()).parent().expect("a folder").to_owned();
    let path = std::env::join_paths(
        std::iter::once(folder).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    );
    let script =
        r#"source "$1"; COMP_LINE=$2 COMP_POINT=${#2}; _clap_example; printf '%s\n' "${COMPREPLY[@]}""#;
    let mut bash = Command::new(crate::harness::program("bash"));
    bash.env("PATH", path.expect("a path")).args(["--norc", "-c", script, "bash"]);
    bash.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../host/examples/clap.bash")).arg(line);
    let (output, errors, _) = ran(&mut bash);
    assert_eq!(errors, "");
    output.lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes() {
    need!("bash");
    assert_eq!(in_bash("clap relay un"), ["unix:"]);
    assert_eq!(in_bash("clap relay tcp:h"), ["host="]);
    assert_eq!(in_bash(r"clap relay tls:h:443:endpoint=tcp\:po"), [r"port\="]);
    // A server's: the option says so.
    assert_eq!(in_bash("clap relay --listen systemd:IN"), ["INET", "INET6"]);
    assert_eq!(in_bash("clap relay systemd:IN"), [""; 1]);
}

#[test]
fn a_secret_is_not_proposed() {
    let place = Place::new();
    let registry = Registry::builder().default_plugin_path(false).plugin_path(plugins(&place)).build();
    let registry = registry.expect("a registry");
    let complete =
        |typed: &str| registry.complete(RoleKind::Client, &format!("socks5:h:80:tcp\\:p\\:1:{typed}"));
    assert!(!complete("username=").is_empty());
    assert_eq!(complete("password="), []);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is typed, what is proposed can be parsed, and typed on.
    #[test]
    fn what_is_proposed_is_a_description(start in start(), parts in prop::collection::vec(part(), 0..6)) {
        let typed = start.to_owned() + &parts.concat();
        for role in [RoleKind::Client, RoleKind::Server] {
            for candidate in Registry::global().complete(role, &typed) {
                prop_assert!(Description::parse(candidate.text.as_str()).is_ok(), "{typed:?}: {candidate:?}");
                let _ = Registry::global().complete(role, &candidate.text);
            }
        }
    }
}

fn start() -> impl Strategy<Value = &'static str> {
    let nested = [r"tls:h:1:endpoint=", r"tls:h:1:endpoint=tcp\:", r"tls:h:1:endpoint=tls\:h\:1\:endpoint\="];
    prop::sample::select([&["", "tcp:", "unix:", "haproxy:", "haproxy:tcp:"][..], &nested].concat())
}

fn part() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "tcp", "tls", "haproxy", "unix", "systemd", "t", "h", "endpoint", "mode", "alpn", "path", "/", "1",
        "\u{e9}", ",", ":", ":", ":", "=", "=", r"\:", r"\:", r"\=", r"\", r"\\", r"\\\:",
    ])
}
