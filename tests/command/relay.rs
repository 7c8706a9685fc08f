//! `forward`: connections through the relay, and its limits.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{LIMIT, Service, built, port, read_all, run_with, tcp};

pub(crate) const ANY: &str = "tcp:0:interface=127.0.0.1";

pub(crate) fn backend() -> Service {
    Service::start(["listen", ANY, "--echo"])
}

/// A backend that does nothing by itself, and its description.
pub(crate) fn idle_backend() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    (listener, format!("tcp:127.0.0.1:{port}"))
}

pub(crate) fn ping(stream: &mut TcpStream) {
    stream.write_all(b"ping").expect("it reads");
    let mut got = [0; 4];
    stream.read_exact(&mut got).expect("it answers");
    assert_eq!(&got, b"ping");
}

#[test]
fn both_directions_end_by_themselves() {
    let (listener, description) = idle_backend();
    let service = Service::start(["forward", ANY, &description]);
    let mut near = service.tcp();
    let (mut far, _) = listener.accept().expect("the relay connects");
    near.write_all(b"request").expect("it reads");
    near.shutdown(Shutdown::Write).expect("half");
    assert_eq!(read_all(&far), "request");
    far.write_all(b"response").expect("it reads");
    drop(far);
    assert_eq!(read_all(&near), "response");

    let mut near = service.tcp();
    let (mut far, _) = listener.accept().expect("the relay connects");
    far.write_all(b"greeting").expect("it reads");
    far.shutdown(Shutdown::Write).expect("half");
    assert_eq!(read_all(&near), "greeting");
    near.write_all(b"late").expect("it reads");
    drop(near);
    assert_eq!(read_all(&far), "late");
    service.stop();
}

#[test]
fn kinds_of_endpoints_are_joined_and_events_told() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("socket");
    let backend = backend();
    let service =
        Service::start(["--json", "forward", &format!("unix:{}", path.display()), &backend.description]);
    let listening = service.event("listening");
    assert_eq!((&listening["description"], &listening["port"]), (&json!(service.description), &json!(null)));
    let input = vec![b'x'; 3 << 20];
    let answer = run_with(["connect", &service.description], &input);
    assert_eq!((answer.status, answer.stdout.len()), (Some(0), input.len()), "{}", answer.stderr);
    let accepted = service.event("accepted");
    assert_eq!((&accepted["id"], &accepted["local"]), (&json!(1), &json!(path.to_str())));
    let connected = service.event("connected");
    assert_eq!((&connected["id"], &connected["peer"]), (&json!(1), &accepted["peer"]));
    let mut closed = service.event("closed");
    assert!(closed["seconds"].take().as_f64().is_some_and(|seconds| seconds > 0.0));
    let expected =
        json!({ "event": "closed", "id": 1, "bytes_in": 3 << 20, "bytes_out": 3 << 20, "seconds": null });
    assert_eq!(closed, expected);
    service.stop();
}

#[test]
fn a_backend_that_refuses_ends_one_connection_alone() {
    let (listener, description) = idle_backend();
    drop(listener);
    let service = Service::start(["forward", ANY, &description, "--json", "--connect-timeout", "5"]);
    service.event("listening");
    for id in 1..=3 {
        assert_eq!(service.tcp().read(&mut [0]).unwrap_or(0), 0);
        assert_eq!(service.event("accepted")["id"], id);
        let error = service.event("error");
        assert_eq!((&error["id"], &error["error"]["kind"]), (&json!(id), &json!("connection-refused")));
        assert_eq!(error["error"].as_object().expect("an object").len(), 8);
        assert_eq!(service.event("closed")["bytes_in"], 0);
    }
    service.stop();
    // Without JSON, the log tells.
    let service = Service::start(["forward", ANY, &description]);
    let client = service.tcp();
    let line = service.stderr_line();
    let peer = format!("peer=\"{}\"", client.local_addr().expect("its address"));
    assert!(line.contains("Connection refused") && line.contains(&peer), "{line}");
    service.stop();
}

#[test]
fn connections_beyond_the_limit_wait() {
    let backend = backend();
    let service = Service::start(["forward", ANY, &backend.description, "--max-connections", "1"]);
    let mut first = service.tcp();
    ping(&mut first);
    let mut second = service.tcp();
    second.write_all(b"ping").expect("it is taken");
    second.set_read_timeout(Some(Duration::from_millis(300))).expect("a limit");
    assert!(second.read(&mut [0; 4]).is_err(), "it has to wait");
    drop(first);
    second.set_read_timeout(Some(LIMIT)).expect("a limit");
    let mut got = [0; 4];
    second.read_exact(&mut got).expect("its turn comes");
    drop(second);
    service.stop();
}

#[test]
fn connections_beyond_the_limit_are_refused() {
    let backend = backend();
    let limit = ["--max-connections", "1", "--when-full", "refuse"];
    let service = Service::start(["forward", ANY, &backend.description, "--json"].iter().chain(&limit));
    service.event("listening");
    let mut first = service.tcp();
    ping(&mut first);
    service.event("accepted");
    service.event("connected");
    assert_eq!(service.tcp().read(&mut [0]).unwrap_or(0), 0);
    let error = service.event("error");
    assert_eq!((&error["id"], &error["error"]["kind"]), (&json!(null), &json!("resource-exhausted")));
    ping(&mut first);
    drop(first);
    service.event("closed");
    ping(&mut service.tcp());
    service.stop();
}

fn is_served(stream: &mut TcpStream) -> bool {
    stream.write_all(b"ping").is_ok() && stream.read(&mut [0; 4]).is_ok_and(|count| count > 0)
}

#[test]
fn a_peer_has_a_limit_of_its_own() {
    let backend = backend();
    let commands: [&[&str]; 2] = [
        &["forward", ANY, &backend.description, "--json", "--max-per-peer", "1"],
        &["listen", ANY, "--json", "--max-per-peer", "1", "--echo"],
    ];
    for command in commands {
        let service = Service::start(command);
        service.event("listening");
        let mut first = service.tcp();
        ping(&mut first);
        service.event("accepted");
        if command[0] == "forward" {
            service.event("connected");
        }
        assert_eq!(service.tcp().read(&mut [0]).unwrap_or(0), 0);
        let error = service.event("error");
        assert_eq!((&error["id"], &error["error"]["kind"]), (&json!(null), &json!("resource-exhausted")));
        let message = error["error"]["message"].as_str().expect("text");
        assert!(message.contains("from 127.0.0.1 "), "{message}");
        drop(first);
        service.event("closed");
        if command[0] == "listen" {
            // Where nothing is relayed that is told while the place is still taken, for a moment.
            let begun = Instant::now();
            while !is_served(&mut service.tcp()) {
                assert!(begun.elapsed() < LIMIT, "its place is not free again");
            }
        } else {
            ping(&mut service.tcp());
        }
        service.stop();
    }
}

#[test]
fn handshakes_have_limits() {
    let backend = backend();
    // It waits for a header.
    let server = r"haproxy:endpoint=tcp\:0\:interface\=127.0.0.1:timeout=3600";
    let limits = ["--json", "--handshake-timeout", "200ms", "--max-handshakes", "1"];
    let commands: [Vec<&str>; 2] = [
        [["forward", server, &backend.description].as_slice(), &limits].concat(),
        [["listen", server].as_slice(), &limits, &["--echo"]].concat(),
    ];
    for command in commands {
        let service = Service::start(&command);
        let port = service.event("listening")["port"].as_u64().expect("a port");
        let port = u16::try_from(port).expect("a port");
        let first = Instant::now();
        let _silent = [tcp(port), tcp(port)];
        // The second has its turn when the first is given up; that of the first is told by another thread.
        let begun = service.event("accepted");
        assert_eq!(begun["id"], 1);
        let mut rest: Vec<Value> = (0..5).map(|_| service.any_event()).collect();
        assert!(first.elapsed() >= Duration::from_millis(400), "one after the other: {:?}", first.elapsed());
        rest.sort_by_key(|event| event["id"].as_u64());
        let told: Vec<_> = rest.iter().map(|event| (event["id"].as_u64(), event["event"].as_str())).collect();
        let expected = [(1, "error"), (1, "closed"), (2, "accepted"), (2, "error"), (2, "closed")];
        assert_eq!(told, expected.map(|(id, event)| (Some(id), Some(event))));
        for error in rest.iter().filter(|event| event["event"] == "error") {
            assert_eq!(error["error"]["kind"], "timed-out");
        }
        let mut stream = tcp(port);
        stream.write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\n").expect("it is taken");
        ping(&mut stream);
        drop(stream);
        service.stop();
    }
}

#[test]
fn idle_connections_are_ended() {
    let backend = backend();
    let service = Service::start([
        "forward",
        ANY,
        &backend.description,
        "--json",
        "--idle-timeout",
        "400ms",
        "--workers",
        "1",
    ]);
    service.event("listening");
    let mut stream = service.tcp();
    let mut begun = Instant::now();
    for _ in 0..6 {
        std::thread::sleep(Duration::from_millis(100));
        begun = Instant::now();
        ping(&mut stream);
    }
    assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    assert!(begun.elapsed() > Duration::from_millis(390) && begun.elapsed() < Duration::from_secs(10));
    service.event("accepted");
    service.event("connected");
    assert_eq!(service.event("error")["error"]["kind"], "timed-out");
    assert_eq!(service.event("closed")["bytes_in"], 24);
    service.stop();
}

#[test]
fn a_drain_that_takes_too_long_cuts() {
    let backend = backend();
    let mut service = Service::start(["forward", ANY, &backend.description, "--drain-timeout", "0.2"]);
    let mut stream = service.tcp();
    ping(&mut stream);
    service.signal(rustix::process::Signal::TERM);
    loop {
        let line = service.stderr_line();
        if line.contains("connections were cut") {
            assert!(line.contains("cut=1"), "{line}");
            break;
        }
    }
    assert_eq!(service.wait(), Some(1));
}

#[test]
fn few_descriptors_are_an_error() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let server = format!("tcp:{port}:interface=127.0.0.1");
    for most in 5..25 {
        let limited = format!(r#"ulimit -n {most}; exec "$@""#);
        let ran = Command::new("sh")
            .args(["-c", &limited, "sh", built("endpoints").to_str().expect("UTF-8")])
            .args(["forward", &server, "tcp:127.0.0.1:1"])
            .output()
            .expect("sh");
        let told = String::from_utf8_lossy(&ran.stderr);
        assert!(told.starts_with("error: ") && told.lines().count() == 1, "{most}: {told}");
        assert_eq!(ran.status.code(), Some(1), "{most}");
    }
}

#[test]
fn who_a_proxy_speaks_for_is_told() {
    let backend = backend();
    let proxied = format!("haproxy:{ANY}");
    let service = Service::start(["--json", "forward", &proxied, &backend.description]);
    service.event("listening");
    let mut stream = tcp(port(&service.description.replace("\\", "")));
    stream.write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\nping").expect("it reads");
    let mut got = [0; 4];
    stream.read_exact(&mut got).expect("it answers");
    let accepted = service.event("accepted");
    assert_eq!(accepted["peer"], json!(stream.local_addr().expect("an address").to_string()));
    let connected = service.event("connected");
    assert_eq!(connected["peer"], json!("192.0.2.1:5000"));
    assert_eq!(connected["local"], json!("192.0.2.2:443"));
    drop(stream);
    service.stop();
}

#[test]
fn the_log_tells_how_long_a_handshake_took() {
    let backend = backend();
    let service = Service::start(["-v", "forward", &format!("haproxy:{ANY}"), &backend.description]);
    let mut stream = tcp(port(&service.description.replace('\\', "")));
    stream.write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\n").expect("it reads");
    let line = loop {
        let line = service.stderr_line();
        if line.contains("handshake done") {
            break line;
        }
    };
    assert!(line.contains("DEBUG") && line.contains("id=1 ") && line.contains("seconds=0."), "{line}");
    drop(stream);
    service.stop();
}
