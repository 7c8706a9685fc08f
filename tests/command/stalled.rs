//! Readers of events and of the log that take nothing for a while, or never.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, ChildStdout};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::{endpoints, port, tcp, wait};

const ANY: &str = "tcp:0:interface=127.0.0.1";

/// More than what waits for a reader, with two events each.
const CONNECTIONS: u64 = 3000;

/// A service of whose output nothing is read beyond the line that says where it listens.
struct Unread {
    child: Child,
    stdout: Option<ChildStdout>,
    /// Held open.
    _stderr: BufReader<ChildStderr>,
    port: u16,
}

impl Unread {
    fn start(arguments: &[&str]) -> Self {
        let mut child = endpoints(arguments).spawn().expect("the command starts");
        let stdout = child.stdout.take();
        let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        stderr.read_line(&mut line).expect("a line");
        let port = port(line.trim().strip_prefix("listening on ").expect("where it listens"));
        Self { child, stdout, _stderr: stderr, port }
    }

    /// One that has told more events than can wait.
    fn with_events() -> Self {
        let service = Self::start(&["listen", ANY, "--echo", "--json"]);
        for _ in 0..CONNECTIONS {
            let mut stream = tcp(service.port);
            stream.write_all(b"ping").expect("it reads");
            stream.read_exact(&mut [0; 4]).expect("it goes on serving");
        }
        service
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is there");
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn nobody_reading_events_stops_neither_serving_nor_stopping() {
    let mut service = Unread::with_events();
    service.signal(Signal::TERM);
    assert_eq!(wait(&mut service.child), Some(0));
}

#[test]
fn a_reader_that_stalled_is_told_how_many_events_it_missed() {
    let mut service = Unread::with_events();
    let stdout = service.stdout.take().expect("a pipe");
    let reader = thread::spawn(move || {
        let lines = BufReader::new(stdout).lines().map(|line| line.expect("text"));
        lines.map(|line| serde_json::from_str(&line).expect("JSON")).collect::<Vec<Value>>()
    });
    service.signal(Signal::TERM);
    assert_eq!(wait(&mut service.child), Some(0));
    let events = reader.join().expect("its output");
    let dropped: Vec<u64> = events.iter().filter_map(|event| event["count"].as_u64()).collect();
    assert_eq!(dropped.len(), 1, "{dropped:?}");
    // Those of the service are "listening", "draining" and "stopped".
    let told = events.len() as u64 - 1;
    assert_eq!(told + dropped[0], 2 * CONNECTIONS + 3);
}

#[test]
fn a_second_signal_ends_it_though_its_threads_are_stuck() {
    // Nothing listens there, which is logged for every connection, and nobody reads the log.
    let nowhere = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        format!("tcp:127.0.0.1:{}", listener.local_addr().expect("its address").port())
    };
    let mut service = Unread::start(&["forward", ANY, &nowhere, "--workers", "1"]);
    let served = |port| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it is in the backlog");
        stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a limit");
        let read = stream.read(&mut [0]);
        !read.is_err_and(|error| {
            matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
        })
    };
    let stuck = (0..20_000).any(|_| !served(service.port));
    assert!(stuck, "the log is written though nobody reads it");
    service.signal(Signal::TERM);
    // Signals of the same number may count as one when they come at once.
    thread::sleep(Duration::from_millis(300));
    assert_eq!(service.child.try_wait().expect("a child"), None);
    service.signal(Signal::INT);
    assert_eq!(wait(&mut service.child), Some(128 + 2));
}
