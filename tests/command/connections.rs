//! `connect`, and `listen` on standard input and output.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Service, endpoints, finish, read_all, run, run_with};

#[test]
fn the_end_of_input_is_passed_on_and_the_answer_still_comes() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let peer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let asked = read_all(&stream);
        // Long after the input has ended.
        std::thread::sleep(Duration::from_millis(800));
        stream.write_all(&vec![b'x'; 1 << 20]).expect("it reads");
        asked
    });
    let ended = run_with(["connect", &format!("tcp:127.0.0.1:{port}")], b"question");
    assert_eq!((ended.status, ended.stdout.len(), ended.stderr.as_str()), (Some(0), 1 << 20, ""));
    assert_eq!(peer.join().expect("the peer"), "question");
}

#[test]
fn the_peer_ends_it_also_while_input_stays_open() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).expect("a socket");
    let description = format!("unix:{}", path.display());
    let mut child = endpoints(["connect", &description]).stdin(Stdio::piped()).spawn().expect("it starts");
    let input = child.stdin.take();
    let (mut stream, _) = listener.accept().expect("a connection");
    stream.write_all(b"bye").expect("it reads");
    drop(stream);
    let begun = Instant::now();
    let ended = finish(child);
    assert_eq!((ended.status, ended.stdout.as_slice()), (Some(0), &b"bye"[..]), "{ended:?}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    drop(input);
}

#[test]
fn what_is_on_its_way_is_sent_though_the_peer_sends_no_more() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let peer = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        stream.shutdown(Shutdown::Write).expect("half");
        std::thread::sleep(Duration::from_millis(300));
        read_all(stream).len()
    });
    let ended = run_with(["connect", &format!("tcp:127.0.0.1:{port}")], &vec![b'x'; 8 << 20]);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert_eq!(peer.join().expect("the peer"), 8 << 20);
}

#[test]
fn connecting_is_given_up_in_time() {
    // Its backlog is full, and so a further connection waits.
    let folder = TempDir::new().expect("a folder");
    let socket = rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None)
        .expect("a socket");
    let path = folder.path().join("full");
    let address = rustix::net::SocketAddrUnix::new(&path).expect("an address");
    rustix::net::bind(&socket, &address).expect("it is free");
    rustix::net::listen(&socket, 0).expect("it listens");
    let _waits = std::os::unix::net::UnixStream::connect(&path).expect("the first waits in the backlog");
    let begun = Instant::now();
    let ended = run(["connect", "--json", "--timeout", "250ms", &format!("unix:{}", path.display())]);
    assert_eq!((ended.status, &ended.error()["kind"]), (Some(1), &json!("timed-out")), "{ended:?}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    let message = ended.error()["message"].to_string();
    assert!(message.contains("was not done within 250ms, the connect timeout"), "{message}");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let mut child = endpoints(["connect", &format!("tcp:127.0.0.1:{port}")])
        .stdin(Stdio::piped())
        .spawn()
        .expect("it starts");
    let _input = child.stdin.take();
    let (mut stream, _) = listener.accept().expect("a connection");
    drop(child.stdout.take());
    for _ in 0..50 {
        if stream.write_all(b"data").is_err() || child.try_wait().expect("a child").is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let ended = finish(child);
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
}

#[test]
fn listen_joins_one_connection_and_ends_with_it() {
    let mut service = Service::start(["listen", "tcp:0:interface=127.0.0.1"]);
    let mut stream = service.tcp();
    service.stdin.take().expect("a pipe").write_all(b"to the peer").expect("it reads");
    let mut got = [0; 11];
    stream.read_exact(&mut got).expect("what was on standard input");
    assert_eq!(&got, b"to the peer");
    assert_eq!(read_all(&stream), "", "the end of the input is passed on");
    stream.write_all(b"to the output\n").expect("it reads still");
    stream.shutdown(Shutdown::Write).expect("half");
    assert_eq!(service.stdout_line(), "to the output");
    assert_eq!(service.wait(), Some(0));
    assert!(std::net::TcpStream::connect(("127.0.0.1", service.port())).is_err(), "it listens no more");
}

#[test]
fn listen_tells_events_on_standard_error_where_output_carries_bytes() {
    let mut child = endpoints(["listen", "--json", "tcp:0:interface=127.0.0.1"])
        .stdin(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut events = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().expect("a pipe")));
    let mut event = || -> Value {
        let line = events.next().expect("an event").expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    let listening = event();
    assert_eq!(listening["event"], "listening");
    let port = listening["port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
    let mut stream = crate::harness::tcp(port);
    stream.write_all(b"12345").expect("it reads");
    drop(stream);
    let accepted = event();
    assert_eq!((&accepted["event"], &accepted["id"]), (&json!("accepted"), &json!(1)));
    let closed = event();
    assert_eq!(
        (&closed["event"], &closed["bytes_in"], &closed["bytes_out"]),
        (&json!("closed"), &json!(5), &json!(0))
    );
    let ended = finish(child);
    assert_eq!((ended.status, ended.stdout.as_slice()), (Some(0), &b"12345"[..]));
}

#[test]
fn listen_stops_when_told_before_any_connection() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("socket");
    let mut service = Service::start(["listen", &format!("unix:{}", path.display())]);
    assert!(path.exists());
    service.signal(Signal::INT);
    assert_eq!(service.wait(), Some(0));
    assert!(!path.exists(), "the socket's file is removed");
}
