//! `axum::serve` on each kind of server endpoint, asked by curl.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use crate::harness::{Peer, free_port, need, program};
use crate::programs::{Place, Server, curl, example};

fn has(answer: &str, line: &str) {
    assert!(answer.lines().any(|one| one.starts_with(line)), "no {line:?} in {answer:?}");
}

#[test]
fn over_tcp() {
    need!("curl");
    let place = Place::new();
    let server = Server::start(&place, "axum", &["tcp:0:interface=127.0.0.1"]);
    let base = format!("http://127.0.0.1:{}", server.port());
    let answer = curl(&[&base]).expect("an answer");
    has(&answer, "version: HTTP/1.1");
    has(&answer, "peer: 127.0.0.1:");
    assert_eq!(curl(&[&format!("{base}/ip")]).expect("an answer"), "127.0.0.1");
    has(&curl(&["--http2-prior-knowledge", &base]).expect("an answer"), "version: HTTP/2.0");
    server.interrupt();
}

#[test]
fn over_unix() {
    need!("curl");
    let place = Place::new();
    let path = place.path().join("socket");
    let server = Server::start(&place, "axum", &[&format!("unix:{}", place.quoted("socket"))]);
    let to = |url| curl(&["--unix-socket", path.to_str().expect("UTF-8"), url]).expect("an answer");
    let answer = to("http://localhost/");
    has(&answer, "peer: unnamed");
    has(&answer, &format!("user: {}", rustix::process::geteuid().as_raw()));
    assert_eq!(to("http://localhost/ip"), "none");
    server.interrupt();
    assert!(!path.exists(), "the socket is left behind");
}

#[test]
fn over_tls() {
    need!("curl", "openssl");
    let place = Place::with_certificates();
    let description = format!(
        "tls:{}:0:interface=127.0.0.1:alpn=h2,http/1.1:clientCA={}:clientAuth=optional",
        place.quoted("pki/server.pem"),
        place.quoted("pki/ca.crt")
    );
    let server = Server::start(&place, "axum", &[&description]);
    let (root, client) = (place.path().join("pki/ca.crt"), place.path().join("pki/client.pem"));
    let (root, client) = (root.to_str().expect("UTF-8"), client.to_str().expect("UTF-8"));
    let url = format!("https://localhost:{}/", server.port());
    // A peer that says nothing after it has connected delays nobody.
    let silent: Vec<_> =
        (0..3).map(|_| TcpStream::connect(("127.0.0.1", server.port())).expect("a connection")).collect();
    let answer = curl(&["-4", "--cacert", root, &url]).expect("an answer");
    has(&answer, "version: HTTP/2.0");
    has(&answer, "tls: TLSv1.3 for localhost, h2");
    has(&answer, "certificates: 0");
    let known = ["-4", "--http1.1", "--cacert", root, "--cert", client, &url];
    let answer = curl(&known).expect("an answer");
    has(&answer, "version: HTTP/1.1");
    has(&answer, "tls: TLSv1.3 for localhost, http/1.1");
    // OpenSSL sends the root along, as it has it.
    has(&answer, "certificates: 2");
    // One that does not trust the server leaves the others alone, and is told of.
    assert!(curl(&["-4", &url]).is_err());
    let mut server = server;
    assert!(server.process.line("the TLS handshake with ").contains("UnknownCA"));
    curl(&["-4", "--cacert", root, &url]).expect("an answer");
    drop(silent);
    server.interrupt();
}

#[test]
fn behind_a_proxy() {
    need!("curl");
    let place = Place::new();
    let server = Server::start(&place, "axum", &["haproxy:tcp:0:interface=127.0.0.1"]);
    let base = format!("http://127.0.0.1:{}", server.port());
    has(&curl(&["--haproxy-protocol", &base]).expect("an answer"), "peer: 127.0.0.1:");
    assert!(curl(&[&base]).is_err(), "there is no header");
    // By hand, as curl tells of itself alone.
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).expect("a connection");
    let header = b"PROXY TCP4 192.0.2.7 192.0.2.1 4321 80\r\n";
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(&[&header[..], request].concat()).expect("sending");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    has(&answer, "peer: 192.0.2.7:4321");
    server.interrupt();
}

#[test]
fn on_a_socket_of_systemd() {
    need!("curl", "systemd-socket-activate");
    let place = Place::new();
    let port = free_port();
    let mut command = Command::new(program("systemd-socket-activate"));
    command.args(["-l", &format!("127.0.0.1:{port}")]);
    command.arg(example("axum").get_program()).arg("systemd:INET:index=0").stdin(Stdio::null());
    let mut process = Peer::start(&mut command, place.path());
    process.line("Listening on ");
    let answer = curl(&[&format!("http://127.0.0.1:{port}/")]).expect("an answer");
    has(&answer, "peer: 127.0.0.1:");
}

/// There is one connection, and the server waits to be stopped then.
#[test]
fn over_standard_streams() {
    let place = Place::new();
    // Open to the end: hyper takes the end of what it reads for the client's going away, and `axum::serve` cannot tell it
    // otherwise.
    let (input, mut client) = std::io::pipe().expect("a pipe");
    client
        .write_all(b"GET /ip HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .expect("room in the pipe");
    let mut command = example("axum");
    command.arg("stdio:").stdin(Stdio::from(input));
    let mut process = Peer::start(&mut command, place.path());
    assert_eq!(process.line("HTTP/1.1 "), "200 OK");
    process.signal(rustix::process::Signal::INT);
    assert!(process.ended().success(), "{}", process.log());
    drop(client);
}
