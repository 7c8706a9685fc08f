//! Readers of events and of the log that take nothing for a while, or never.

use std::io::{BufRead, BufReader, ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{LIMIT, Service, built, endpoints, port, tcp, wait};

const ANY: &str = "tcp:0:interface=127.0.0.1";

/// More than what waits for a reader, with two events each.
const CONNECTIONS: u64 = 3000;

/// A service of whose output nothing is read beyond the line that says where it listens.
struct Unread {
    child: Child,
    stdout: Option<ChildStdout>,
    stderr: Option<BufReader<ChildStderr>>,
    port: u16,
}

impl Unread {
    fn start(arguments: &[&str]) -> Self {
        Self::started(&mut endpoints(arguments))
    }

    fn started(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("the command starts");
        let stdout = child.stdout.take();
        let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let port = loop {
            let mut line = String::new();
            assert_ne!(stderr.read_line(&mut line).expect("a line"), 0, "it does not listen");
            if let Some(description) = line.trim().strip_prefix("listening on ") {
                break port(description);
            }
        };
        Self { child, stdout, stderr: Some(stderr), port }
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

    /// The lines of its log from now on.
    fn log(&mut self) -> Receiver<String> {
        let stderr = self.stderr.take().expect("a pipe");
        let (sender, lines) = channel();
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        lines
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

/// A pipe that takes no more.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let flags = fcntl_getfl(&writer).expect("its flags");
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).expect("it is set");
    while writer.write(&[b'x'; 4096]).is_ok() {}
    fcntl_setfl(&writer, flags).expect("it is set");
    (reader, writer)
}

/// A client description of where nothing listens.
fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("tcp:127.0.0.1:{}", listener.local_addr().expect("its address").port())
}

/// Longer than the end of the process waits for readers that have stalled, and shorter than it would for any other reason.
const SOON: Duration = Duration::from_secs(2);

#[test]
fn a_full_standard_error_stops_neither_serving_nor_stopping() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("services.toml");
    std::fs::write(&file, format!("[[service]]\nname = \"echo\"\nlisten = \"{ANY}\"\necho = true\n"))
        .expect("it is written");
    let backend = Service::start(["listen", ANY, "--echo"]);
    let commands: [&[&str]; 3] = [
        &["listen", "--json", "-vv", ANY, "--echo"],
        &["forward", "--json", "-vv", "--progress", ANY, &backend.description],
        &["run", "--json", "-vv", file.to_str().expect("UTF-8")],
    ];
    for command in commands {
        let (_reader, stderr) = full_pipe();
        let mut service =
            Service::spawned(endpoints(command).stderr(stderr).spawn().expect("the command starts"));
        let listening = service.event("listening");
        let mut stream = tcp(port(listening["description"].as_str().expect("a description")));
        stream.write_all(b"ping").expect("it reads");
        stream.read_exact(&mut [0; 4]).expect("it serves");
        drop(stream);
        let until = |name: &str| {
            while serde_json::from_str::<Value>(&service.stdout_line()).expect("JSON")["event"] != name {}
        };
        until("closed");
        if command[0] == "run" {
            service.signal(Signal::HUP);
            until("reloaded");
        }
        let begun = Instant::now();
        service.signal(Signal::TERM);
        assert_eq!(service.wait(), Some(0), "{command:?}");
        assert!(begun.elapsed() < SOON, "{command:?} after {:?}", begun.elapsed());
    }
}

#[test]
fn an_error_that_nobody_reads_does_not_hold_up_the_end() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("socket");
    for json in [&[][..], &["--json"]] {
        let (_reader, stderr) = full_pipe();
        let description = format!("unix:{}", path.display());
        let arguments = ["listen", &description, "--idle-timeout", "100ms"];
        let mut command = endpoints(arguments.iter().chain(json));
        let mut child = command.stderr(stderr).spawn().expect("the command starts");
        let begun = Instant::now();
        let stream = loop {
            if let Ok(stream) = UnixStream::connect(&path) {
                break stream;
            }
            assert!(begun.elapsed() < LIMIT, "it does not listen");
            thread::sleep(Duration::from_millis(5));
        };
        let begun = Instant::now();
        assert_eq!(wait(&mut child), Some(1));
        assert!(begun.elapsed() < SOON, "{json:?} after {:?}", begun.elapsed());
        drop(stream);
    }
}

#[test]
fn a_reader_of_the_log_that_stalled_is_told_how_many_lines_it_missed() {
    let mut service = Unread::start(&["forward", "-v", ANY, &nowhere()]);
    for _ in 0..CONNECTIONS {
        // It is reset, as it cannot be relayed.
        let ended = tcp(service.port).read(&mut [0]);
        assert!(
            !ended.is_err_and(|error| error.kind() == ErrorKind::WouldBlock),
            "the log holds connections up"
        );
    }
    let log = service.log();
    let line = || log.recv_timeout(LIMIT).expect("a line of the log");
    let count = loop {
        if let Some((count, _)) = line().split_once(" lines were dropped here") {
            break count.parse::<u64>().expect("a number");
        }
    };
    assert!(count > 0);
    service.signal(Signal::TERM);
    while !line().contains("stopped") {}
    assert_eq!(wait(&mut service.child), Some(0));
    // Till its end.
    let end = std::iter::repeat_with(|| log.recv_timeout(LIMIT)).find_map(Result::err);
    assert_eq!(end, Some(RecvTimeoutError::Disconnected));
}

#[test]
fn a_second_signal_ends_it_though_its_threads_are_stuck() {
    let folder = TempDir::new().expect("a folder");
    // In the place of anything that blocks where nothing should: the end of a connection.
    let (source, library) = (folder.path().join("stuck.c"), folder.path().join("stuck.so"));
    let code = r#"
        #include <sys/epoll.h>
        #include <sys/syscall.h>
        #include <unistd.h>
        int epoll_ctl(int epoll, int what, int fd, struct epoll_event *event) {
            if (what != EPOLL_CTL_DEL) return syscall(SYS_epoll_ctl, epoll, what, fd, event);
            write(2, "stuck\n", 6);
            for (;;) pause();
        }
    "#;
    std::fs::write(&source, code).expect("it is written");
    let mut cc = Command::new("cc");
    let built = cc.args(["-w", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    assert!(built.expect("a C compiler").success());
    let mut command = endpoints(["forward", ANY, &nowhere(), "--workers", "1"]);
    let mut service = Unread::started(command.env("LD_PRELOAD", &library));
    let _stream = tcp(service.port);
    let log = service.log();
    while log.recv_timeout(LIMIT).expect("a line of the log") != "stuck" {}
    service.signal(Signal::TERM);
    // Signals of the same number may count as one when they come at once.
    thread::sleep(Duration::from_millis(300));
    assert_eq!(service.child.try_wait().expect("a child"), None);
    service.signal(Signal::INT);
    assert_eq!(wait(&mut service.child), Some(128 + 2));
}

#[test]
fn a_service_manager_that_reads_nothing_stops_neither_serving_nor_stopping() {
    let folder = TempDir::new().expect("a folder");
    let (file, path) = (folder.path().join("services.toml"), folder.path().join("notify"));
    std::fs::write(&file, format!("[[service]]\nname = \"echo\"\nlisten = \"{ANY}\"\necho = true\n"))
        .expect("it is written");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(LIMIT)).expect("a limit");
    // The process's own number is known to the shell that becomes it alone.
    let mut command = Command::new("sh");
    command.args(["-c", "WATCHDOG_PID=$$ exec \"$0\" run --json \"$1\""]);
    command.args([built("endpoints").as_os_str(), file.as_os_str()]);
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", Duration::from_millis(20).as_micros().to_string());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut service = Service::spawned(command.spawn().expect("it starts"));
    service.event("listening");
    // More than the system keeps for it.
    let reload = || {
        for _ in 0..10 {
            service.signal(Signal::HUP);
            service.event("reloaded");
        }
    };
    reload();
    let told = || loop {
        let mut buf = [0; 200];
        let count = socket.recv(&mut buf).expect("a message");
        let text = String::from_utf8_lossy(&buf[..count]).trim().to_owned();
        if text != "WATCHDOG=1" {
            return text;
        }
    };
    assert_eq!(told(), "READY=1");
    for _ in 0..10 {
        assert!(told().starts_with("RELOADING=1\n"));
        assert_eq!(told(), "READY=1");
    }
    reload();
    let begun = Instant::now();
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), Some(0));
    assert!(begun.elapsed() < SOON, "after {:?}", begun.elapsed());
}
