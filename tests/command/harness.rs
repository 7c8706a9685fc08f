//! Running the command.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long anything may take until a test gives up.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// The folder of what this profile built.
pub(crate) fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let folder = test.parent().and_then(|deps| deps.parent()).expect("target/<profile>/deps");
    let path = folder.join(name);
    assert!(path.exists(), "{} is not there: run `cargo build --workspace` first", path.display());
    path
}

/// The command, in an environment that says nothing.
pub(crate) fn endpoints<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(built("endpoints"));
    command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").env("XDG_DATA_HOME", "/nonexistent");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Run {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).expect("text")
    }

    /// The one JSON document of standard output.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.status, Some(0), "{self:?}");
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The error on standard error, where nothing else is.
    #[track_caller]
    pub(crate) fn error(&self) -> Value {
        let mut document: Value =
            serde_json::from_str(&self.stderr).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        document["error"].take()
    }
}

pub(crate) fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Run {
    finish(endpoints(arguments).spawn().expect("the command starts"))
}

/// The same with something on standard input, which ends then.
pub(crate) fn run_with<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>, input: &[u8]) -> Run {
    let mut child = endpoints(arguments).stdin(Stdio::piped()).spawn().expect("the command starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    // It may end without having read all.
    thread::spawn(move || stdin.write_all(&input));
    finish(child)
}

/// Waits for the end, and takes what was printed.
#[track_caller]
pub(crate) fn finish(mut child: Child) -> Run {
    let stdout = child.stdout.take().map(drain);
    let stderr = child.stderr.take().map(drain);
    let status = wait(&mut child);
    let output =
        |pipe: Option<Receiver<Vec<u8>>>| pipe.map_or(Vec::new(), |pipe| pipe.recv().expect("its output"));
    let (stdout, stderr) = (output(stdout), output(stderr));
    Run { status, stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() }
}

fn drain(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

#[track_caller]
pub(crate) fn wait(child: &mut Child) -> Option<i32> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status.code();
        }
        if begun.elapsed() > LIMIT {
            let _ = child.kill();
            panic!("the command does not end");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// A command that listens.
pub(crate) struct Service {
    pub(crate) child: Child,
    /// How it is reached.
    pub(crate) description: String,
    pub(crate) stdin: Option<ChildStdin>,
    stdout: Receiver<String>,
    pub(crate) stderr: Receiver<String>,
}

impl Service {
    /// Starts it and waits until it listens.
    #[track_caller]
    pub(crate) fn start<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Self {
        Self::started(endpoints(arguments).stdin(Stdio::piped()).spawn().expect("the command starts"))
    }

    /// Waits until a command listens that has been started already.
    #[track_caller]
    pub(crate) fn started(child: Child) -> Self {
        let mut service = Self::spawned(child);
        service.description = loop {
            let line = service.stderr_line();
            if let Some(description) = line.strip_prefix("listening on ") {
                break description.to_owned();
            }
        };
        service
    }

    /// One that has been started, whether it listens or not, and whether its standard error is a pipe or not.
    pub(crate) fn spawned(mut child: Child) -> Self {
        let stdin = child.stdin.take();
        let stdout = lines(child.stdout.take().expect("a pipe"));
        let stderr = child.stderr.take().map_or_else(|| channel().1, lines);
        Self { child, description: String::new(), stdin, stdout, stderr }
    }

    #[track_caller]
    pub(crate) fn stderr_line(&self) -> String {
        self.stderr.recv_timeout(LIMIT).expect("a line on standard error")
    }

    #[track_caller]
    pub(crate) fn stdout_line(&self) -> String {
        self.stdout.recv_timeout(LIMIT).expect("a line on standard output")
    }

    /// The next event, which must be of that name.
    #[track_caller]
    pub(crate) fn event(&self, name: &str) -> Value {
        let event = self.any_event();
        assert_eq!(event["event"], name, "{event}");
        event
    }

    /// The next event, whatever it is.
    #[track_caller]
    pub(crate) fn any_event(&self) -> Value {
        serde_json::from_str(&self.stdout_line()).expect("JSON")
    }

    pub(crate) fn port(&self) -> u16 {
        port(&self.description)
    }

    pub(crate) fn tcp(&self) -> TcpStream {
        tcp(self.port())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it can be signalled");
    }

    #[track_caller]
    pub(crate) fn wait(&mut self) -> Option<i32> {
        wait(&mut self.child)
    }

    /// The same, where it has nothing to say any more but that it stops.
    #[track_caller]
    pub(crate) fn stop_quietly(mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.wait(), Some(0));
        while let Ok(line) = self.stderr.recv_timeout(LIMIT) {
            assert!(line.starts_with("draining"), "{line}");
        }
    }

    /// Stops it in the orderly way, which must end well.
    #[track_caller]
    pub(crate) fn stop(mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.wait(), Some(0));
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

pub(crate) fn port(description: &str) -> u16 {
    let port = description.rsplit_once("port=").expect("a port").1;
    port.split(':').next().and_then(|port| port.parse().ok()).expect("a number")
}

pub(crate) fn tcp(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("it accepts");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    stream
}

pub(crate) fn read_all(mut stream: impl Read) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("bytes until the end");
    text
}
