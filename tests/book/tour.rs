//! The program of the chapter on the library.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use crate::plugins;

/// The built program.
pub(crate) fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| endpoints_tests::build::example("tour"))
}

/// The program of the section on services.
fn server() -> PathBuf {
    program().with_file_name("server")
}

/// A running tour that listens; killed when it is dropped.
struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
    reached_by: String,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        Self::started(tour(arguments))
    }

    fn started(mut command: Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program starts");
        let mut output = BufReader::new(child.stdout.take().expect("its output"));
        let mut line = String::new();
        output.read_line(&mut line).expect("a line");
        let reached_by =
            line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}")).to_owned();
        Self { child, output, reached_by }
    }

    /// Ends its input; it ends well by itself.
    fn end(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().expect("it ends").success());
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).expect("its output");
        assert_eq!(rest, "");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tour(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(arguments).env("TOUR_PLUGINS", plugins::folder());
    command
}

/// The output and the errors of a tour that ends well.
fn ran(arguments: &[&str]) -> (String, String) {
    let output = tour(arguments).output().expect("the tour runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_service_answers_and_ends_connections_that_wait() {
    use std::io::Write;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s");
    let mut command = Command::new(server());
    command.arg(format!("unix:{}", path.display()));
    let running = Running::started(command);
    let mut stream = std::os::unix::net::UnixStream::connect(&path).expect("it listens");
    stream.write_all(b"a line\n").expect("written");
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    lines.read_line(&mut line).expect("an answer");
    assert_eq!(line, "a line\n");
    // The connection is open still, and neither cut nor waited for.
    running.end();
    assert_eq!(lines.read_line(&mut line).expect("its end"), 0);
    assert!(!path.exists());
}

#[test]
fn it_listens_relays_and_connects() {
    let folder = tempfile::tempdir().expect("a folder");
    let echo = Running::start(&["listen", r"xor:k3y:tcp\:0\:interface\=127.0.0.1"]);
    let socket = format!("unix:{}", folder.path().join("relay").display());
    let relay = Running::start(&["forward", &socket, &echo.reached_by]);
    let (output, errors) = ran(&["connect", &relay.reached_by, "hello"]);
    assert_eq!(output, "hello\n");
    assert!(errors.starts_with("unix: the peer is "), "{errors}");
    relay.end();
    echo.end();
}

#[test]
fn it_greets_once() {
    let once = Running::start(&["once", "tcp:0:interface=127.0.0.1"]);
    assert_eq!(ran(&["connect", &once.reached_by, ""]).0, "welcome\n\n");
    once.end();
}

#[test]
fn it_greets_its_user() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("private");
    let private = Running::start(&["private", path.to_str().expect("UTF-8")]);
    let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().expect("the socket").permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(ran(&["connect", &private.reached_by, ""]).0, "welcome\n\n");
    private.end();
}
