//! `listen` for many connections: `--echo` and `--exec`, events, stopping.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{LIMIT, Service, endpoints, read_all, run_with};

const ANY: &str = "tcp:0:interface=127.0.0.1";

#[test]
fn echo_serves_every_connection_and_tells_events() {
    let mut service = Service::start(["listen", ANY, "--echo", "--json"]);
    let listening = service.event("listening");
    let (description, port) = (&service.description, service.port());
    assert_eq!(
        listening,
        json!({
            "event": "listening",
            "description": description,
            "port": port,
            "address": format!("127.0.0.1:{port}"),
        })
    );
    for id in 1..=2 {
        let mut stream = service.tcp();
        let (peer, local) =
            (stream.local_addr().expect("an address"), stream.peer_addr().expect("an address"));
        stream.write_all(b"hello").expect("it reads");
        stream.shutdown(Shutdown::Write).expect("half");
        assert_eq!(read_all(&stream), "hello");
        let expected =
            json!({ "event": "accepted", "id": id, "peer": peer.to_string(), "local": local.to_string() });
        assert_eq!(service.event("accepted"), expected);
        let mut closed = service.event("closed");
        assert!(closed["seconds"].take().is_f64());
        let expected = json!({ "event": "closed", "id": id, "bytes_in": 5, "bytes_out": 5, "seconds": null });
        assert_eq!(closed, expected);
    }
    service.signal(Signal::TERM);
    assert_eq!(service.event("draining"), json!({ "event": "draining" }));
    assert_eq!(service.event("stopped"), json!({ "event": "stopped" }));
    assert_eq!(service.wait(), Some(0));
}

#[test]
fn a_listener_without_a_port_says_so() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("socket");
    let service = Service::start(["listen", &format!("unix:{}", path.display()), "--echo", "--json"]);
    assert_eq!(service.event("listening")["port"], json!(null));
    let answer = run_with(["connect", &service.description], b"through what it printed");
    assert_eq!(answer.text(), "through what it printed");
    service.stop();
    assert!(!path.exists());
}

#[test]
fn exec_runs_a_command_for_each_connection() {
    let service = Service::start(["listen", ANY, "--exec", "cat"]);
    for _ in 0..2 {
        let mut stream = service.tcp();
        stream.write_all(b"through cat").expect("it reads");
        stream.shutdown(Shutdown::Write).expect("half");
        assert_eq!(read_all(&stream), "through cat");
    }
    service.stop();
    let service =
        Service::start(["listen", ANY, "--exec", "sh", "-c", "echo $ENDPOINTS_PEER $ENDPOINTS_LOCAL"]);
    let stream = service.tcp();
    let (peer, local) = (stream.local_addr().expect("an address"), stream.peer_addr().expect("an address"));
    // Though this side stays open.
    assert_eq!(read_all(&stream), format!("{peer} {local}\n"));
    drop(stream);
    service.stop();
}

#[test]
fn a_program_that_runs_is_told() {
    let service = Service::start(["listen", ANY, "--json", "--exec", "sh", "-c", "echo here; cat"]);
    service.event("listening");
    let mut stream = service.tcp();
    let (peer, local) = (stream.local_addr().expect("an address"), stream.peer_addr().expect("an address"));
    stream.read_exact(&mut [0; 5]).expect("it runs");
    service.event("accepted");
    let expected =
        json!({ "event": "connected", "id": 1, "peer": peer.to_string(), "local": local.to_string() });
    assert_eq!(service.event("connected"), expected);
    drop(stream);
    service.event("closed");
    service.stop();
}

#[test]
fn a_peer_that_sends_on_and_reads_late_gets_all_of_a_commands_output() {
    const SIZE: usize = 400_000;
    let service = Service::start(["listen", ANY, "--exec", "head", "-c", "400000", "/dev/zero"]);
    let mut stream = service.tcp();
    let mut uploading = stream.try_clone().expect("the same connection");
    let upload = std::thread::spawn(move || {
        while uploading.write_all(&[b'x'; 4096]).is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    std::thread::sleep(Duration::from_secs(3));
    let mut got = Vec::new();
    let read = stream.read_to_end(&mut got);
    assert!(read.is_ok() && got.len() == SIZE, "{read:?} after {} bytes", got.len());
    stream.shutdown(Shutdown::Both).expect("it is open still");
    upload.join().expect("it ends");
    drop(stream);
    service.stop();
}

#[test]
fn a_signal_while_it_begins_to_listen_ends_it() {
    let folder = TempDir::new().expect("a folder");
    // In the place of a name server that does not answer.
    let (source, library) = (folder.path().join("slow.c"), folder.path().join("slow.so"));
    let code =
        "#include <unistd.h>\nint getaddrinfo(void) { write(2, \"resolving\\n\", 10); for (;;) pause(); }\n";
    std::fs::write(&source, code).expect("it is written");
    let mut cc = std::process::Command::new("cc");
    let built = cc.args(["-w", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    assert!(built.expect("a C compiler").success());
    let slow = "tcp:0:interface=slow.test";
    let commands: [&[&str]; 4] = [
        &["listen", slow, "--echo"],
        &["listen", slow],
        &["forward", slow, "tcp:127.0.0.1:9"],
        &["forward", ANY, "tcp:127.0.0.1:9", "--stats", slow],
    ];
    for (arguments, signal) in commands.into_iter().zip([Signal::TERM, Signal::INT].into_iter().cycle()) {
        let mut child = endpoints(arguments).env("LD_PRELOAD", &library).spawn().expect("it starts");
        let mut line = [0; 10];
        child.stderr.as_mut().expect("a pipe").read_exact(&mut line).expect("it resolves");
        assert_eq!(&line, b"resolving\n");
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).expect("it is there");
        assert_eq!(crate::harness::wait(&mut child), Some(0), "{arguments:?}");
    }
}

#[test]
fn a_command_that_fails_ends_its_connection_alone() {
    let service = Service::start(["listen", ANY, "--json", "--exec", "/nonexistent/command"]);
    service.event("listening");
    for id in 1..=2 {
        assert_eq!(read_all(service.tcp()), "");
        service.event("accepted");
        let error = service.event("error");
        assert_eq!((&error["id"], &error["error"]["kind"]), (&json!(id), &json!("other")));
        service.event("closed");
    }
    service.stop();
}

#[test]
fn open_connections_may_end_while_draining() {
    let mut service = Service::start(["listen", ANY, "--echo"]);
    let mut stream = service.tcp();
    echoed(&mut stream);
    service.signal(Signal::TERM);
    let begun = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", service.port())).is_ok() {
        assert!(begun.elapsed() < LIMIT, "it goes on accepting");
        std::thread::sleep(Duration::from_millis(10));
    }
    echoed(&mut stream);
    drop(stream);
    assert_eq!(service.wait(), Some(0));
}

#[test]
fn connections_open_at_the_deadline_are_cut() {
    let mut service = Service::start(["listen", ANY, "--echo", "--drain-timeout", "200ms"]);
    let mut stream = service.tcp();
    echoed(&mut stream);
    service.signal(Signal::INT);
    assert_eq!(service.wait(), Some(1));
    assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for (signal, status) in [(Signal::TERM, 128 + 15), (Signal::INT, 128 + 2)] {
        let mut service = Service::start(["listen", ANY, "--echo", "--json"]);
        service.event("listening");
        let mut stream = service.tcp();
        echoed(&mut stream);
        service.event("accepted");
        service.signal(Signal::TERM);
        service.event("draining");
        service.signal(signal);
        assert_eq!(service.wait(), Some(status));
    }
}

#[test]
fn a_connection_that_is_cut_tells_its_end() {
    let backend = Service::start(["listen", ANY, "--echo"]);
    let commands: [&[&str]; 4] = [
        &["listen", "--json", "--drain-timeout", "200ms", ANY, "--echo"],
        &["listen", "--json", "--drain-timeout", "200ms", ANY, "--exec", "cat"],
        &["forward", "--json", "--drain-timeout", "200ms", ANY, &backend.description],
        &["forward", "--json", "--drain-timeout", "1h", ANY, &backend.description],
    ];
    for command in commands {
        let mut service = Service::start(command);
        let mut stream = service.tcp();
        echoed(&mut stream);
        service.signal(Signal::TERM);
        until(&service, "draining");
        let twice = command.contains(&"1h");
        if twice {
            service.signal(Signal::TERM);
        }
        let mut closed = until(&service, "closed");
        assert!(closed["seconds"].take().is_f64());
        let expected = json!({ "event": "closed", "id": 1, "bytes_in": 4, "bytes_out": 4, "seconds": null });
        assert_eq!(closed, expected, "{command:?}");
        if !twice {
            until(&service, "stopped");
        }
        assert_eq!(service.wait(), Some(if twice { 128 + 15 } else { 1 }));
    }
}

#[test]
fn there_are_limits_as_those_of_forward() {
    let work: [&[&str]; 2] = [&["--echo"], &["--exec", "cat"]];
    for work in work {
        let refuse = ["listen", ANY, "--json", "--max-connections", "1", "--when-full", "refuse"];
        let service = Service::start(refuse.iter().chain(work));
        let mut first = service.tcp();
        echoed(&mut first);
        assert_eq!(service.tcp().read(&mut [0]).unwrap_or(0), 0);
        let error = until(&service, "error");
        assert_eq!((&error["id"], &error["error"]["kind"]), (&json!(null), &json!("resource-exhausted")));
        drop(first);
        until(&service, "closed");
        service.stop();

        let idle = ["listen", ANY, "--json", "--idle-timeout", "1"];
        let service = Service::start(idle.iter().chain(work));
        let mut stream = service.tcp();
        for _ in 0..6 {
            echoed(&mut stream);
            std::thread::sleep(Duration::from_millis(200));
        }
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
        assert_eq!(until(&service, "error")["error"]["kind"], "timed-out", "{work:?}");
        assert_eq!(until(&service, "closed")["bytes_in"], 24);
        service.stop();
    }
}

#[test]
fn one_connection_has_a_limit_on_idling() {
    let mut service = Service::start(["listen", ANY, "--idle-timeout", "200ms"]);
    let mut stream = service.tcp();
    assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    assert_eq!(service.wait(), Some(1));
    assert!(service.stderr_line().contains("the connection broke: "));
}

#[test]
fn the_service_manager_is_told() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(LIMIT)).expect("a limit");
    let mut child =
        endpoints(["listen", ANY, "--echo"]).env("NOTIFY_SOCKET", &path).spawn().expect("it starts");
    let told = || {
        let mut buf = [0; 100];
        let count = socket.recv(&mut buf).expect("a message");
        String::from_utf8_lossy(&buf[..count]).trim().to_owned()
    };
    assert_eq!(told(), "READY=1");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM)
        .expect("it can be signalled");
    assert_eq!(told(), "STOPPING=1");
    assert_eq!(crate::harness::wait(&mut child), Some(0));
}

#[test]
fn peers_of_unix_sockets_are_told() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("socket");
    let service = Service::start(["listen", &format!("unix:{}", path.display()), "--echo", "--json"]);
    service.event("listening");
    drop(UnixStream::connect(&path).expect("it accepts"));
    let accepted = service.event("accepted");
    assert_eq!(accepted["local"], json!(path.to_str()));
    service.stop();
}

/// The next event of that name.
fn until(service: &Service, name: &str) -> serde_json::Value {
    loop {
        let event: serde_json::Value = serde_json::from_str(&service.stdout_line()).expect("JSON");
        if event["event"] == name {
            return event;
        }
    }
}

fn echoed(stream: &mut std::net::TcpStream) {
    stream.write_all(b"ping").expect("it reads");
    let mut got = [0; 4];
    stream.read_exact(&mut got).expect("it answers");
    assert_eq!(&got, b"ping");
}
