//! The programs of the chapter on services.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::tour;

struct Notify(Child);

impl Drop for Notify {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Takes a login; gives the lines that come then.
fn logged_in(listener: &TcpListener) -> BufReader<TcpStream> {
    let (mut stream, _) = listener.accept().expect("it connects");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
    let mut lines = BufReader::new(stream.try_clone().expect("the same connection"));
    assert_eq!(line(&mut lines), "hello\n");
    stream.write_all(b"+").expect("it reads");
    lines
}

fn line(lines: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    lines.read_line(&mut line).expect("a line");
    line
}

/// Connects as soon as it listens.
fn connect(port: u16) -> TcpStream {
    let begun = Instant::now();
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => return stream,
            Err(error) if begun.elapsed() > Duration::from_secs(20) => panic!("{error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

#[test]
fn lines_go_to_the_server_also_when_it_was_away() {
    let program = tour::program().with_file_name("notify");
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let client = format!("tcp:127.0.0.1:{}", server.local_addr().expect("an address").port());
    let started = Command::new(program)
        .args([format!("tcp:{port}:interface=127.0.0.1"), client])
        .stdin(Stdio::null())
        .spawn();
    let mut notify = Notify(started.expect("it starts"));
    let mut lines = logged_in(&server);
    let mut one = connect(port);
    one.write_all(b"first\n").expect("it reads");
    assert_eq!(line(&mut lines), "first\n");
    // The server goes away, and comes back; a line that comes meanwhile waits for it.
    drop(lines);
    let (mut refused, _) = server.accept().expect("it connects anew");
    refused.write_all(b"-").expect("it reads");
    one.write_all(b"second\n").expect("it reads");
    drop(refused);
    let mut lines = logged_in(&server);
    assert_eq!(line(&mut lines), "second\n");
    kill_process(Pid::from_child(&notify.0), Signal::TERM).expect("it can be signalled");
    drop(one);
    assert!(notify.0.wait().expect("it ends").success());
    assert_eq!(line(&mut lines), "", "the connection is closed");
}

#[test]
fn a_second_signal_ends_the_waiting() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let started = Command::new(tour::program().with_file_name("five"))
        .arg(format!("unix:{}", path.display()))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut five = Notify(started.expect("it starts"));
    let begun = Instant::now();
    let mut stream = loop {
        match UnixStream::connect(&path) {
            Ok(stream) => break stream,
            Err(error) if begun.elapsed() > Duration::from_secs(20) => panic!("{error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let mut echoed = |byte: u8| {
        stream.write_all(&[byte]).expect("it reads");
        let mut back = [0];
        stream.read_exact(&mut back).expect("it echoes");
        assert_eq!(back, [byte]);
    };
    echoed(1);
    let signal = |signal| kill_process(Pid::from_child(&five.0), signal).expect("it can be signalled");
    signal(Signal::INT);
    while path.exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    echoed(2);
    signal(Signal::TERM);
    let mut told = String::new();
    five.0.stderr.take().expect("a pipe").read_to_string(&mut told).expect("text");
    assert_eq!(five.0.wait().expect("it ends").code(), Some(1));
    assert!(told.contains("SIGTERM came as a second signal before echo had stopped"), "{told}");
}
