//! What whoever runs a service is told of it.

use std::io::{Read, Write};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Service, port, tcp};
use crate::relay::{ANY, backend, idle_backend, ping};

/// Where nobody is asked to be.
const ANY_CLIENT: &str = "tcp:127.0.0.1:9";

#[test]
fn listening_everywhere_is_told() {
    let stats = ["--stats", ANY];
    let service = Service::start(["forward", ANY, ANY_CLIENT].iter().chain(&stats));
    let line = service.stderr_line();
    assert!(line.starts_with("statistics on "), "no more is told of one address: {line}");
    service.stop();
    for (server, host, every) in [
        ("tcp:0", "0.0.0.0", "IPv4 address of"),
        (r"haproxy:endpoint=tcp6\:0", "[::]", "address (of IPv4 too, unless v6only is set) of"),
    ] {
        let service = Service::start(["forward", "--json", server, ANY_CLIENT, "--stats", "tcp:0"]);
        let bound = |event| {
            let event = service.event(event);
            (event["address"].as_str().expect("an address").to_owned(), event["port"].clone())
        };
        let (address, port) = bound("listening");
        assert_eq!(address, format!("{host}:{port}"));
        assert_eq!(service.stderr_line(), format!("bound to {address}: every {every} this machine"));
        assert!(service.stderr_line().starts_with("statistics on tcp:host=127.0.0.1:port="));
        let (address, port) = bound("statistics");
        assert_eq!(address, format!("0.0.0.0:{port}"));
        assert_eq!(service.stderr_line(), format!("bound to {address}: every IPv4 address of this machine"));
        service.stop();
    }
}

#[test]
fn whoever_has_stopped_it_sees_what_it_waits_for() {
    let backend = backend();
    let mut service = Service::start(["forward", ANY, &backend.description]);
    let mut open = service.tcp();
    ping(&mut open);
    service.signal(Signal::TERM);
    let line = service.stderr_line();
    assert_eq!(line, "draining: connections that are open may end until the drain timeout");
    ping(&mut open);
    drop(open);
    assert_eq!(service.wait(), Some(0));
}

/// Connects and closes, with a reset or without, and sees what is told.
fn looks_in(server: &str, resets: &[bool]) {
    let service = Service::start(["forward", "--json", server, ANY_CLIENT]);
    service.event("listening");
    for is_reset in resets {
        let client = tcp(port(&service.description.replace('\\', "")));
        if *is_reset {
            set_socket_linger(&client, Some(Duration::ZERO)).expect("it is reset when it is closed");
        }
        service.event("accepted");
        drop(client);
        service.event("given-up");
        service.event("closed");
    }
    service.stop();
}

/// As balancers do that look whether there is a server: nothing has failed.
#[test]
fn who_only_looks_in_has_not_failed() {
    let pki = tempfile::tempdir().expect("a folder");
    endpoints_tests::make_certificates(pki.path()).expect("certificates");
    let any = endpoints::quote_str(ANY);
    let haproxy = format!("haproxy:endpoint={any}");
    let certificate = pki.path().join("server-certfirst.pem");
    let tls = format!("tls:endpoint={any}:certificate={}", certificate.display());
    // Where the header may be missing, only a reset tells that nobody is there any more.
    looks_in(&format!("{haproxy}:mode=optional"), &[true]);
    for server in [haproxy, tls] {
        looks_in(&server, &[false, true]);
        // Where nothing is asked for, no more is told than where it listens.
        let mut service = Service::start(["forward", &server, ANY_CLIENT]);
        let port = port(&service.description.replace('\\', ""));
        let mut client = tcp(port);
        drop(tcp(port));
        client.write_all(b"nonsense\r\n").expect("it is taken");
        let line = service.stderr_line();
        let is_about_nonsense =
            line.contains("begin with a PROXY header") || line.contains("does it speak TLS");
        assert!(is_about_nonsense, "{line}");
        service.signal(Signal::TERM);
        assert_eq!(service.wait(), Some(0));
    }
}

#[test]
fn whose_connection_failed_is_told() {
    let (listener, backend) = idle_backend();
    let any = endpoints::quote_str(ANY);
    // A handshake that fails; a backend that breaks off; one that nobody is, for a client that the proxy has told.
    let service = Service::start(["forward", "--json", &format!("haproxy:endpoint={any}"), &backend]);
    service.event("listening");
    let port = port(&service.description.replace('\\', ""));
    let mut client = tcp(port);
    let peer = json!(client.local_addr().expect("its address").to_string());
    client.write_all(b"nonsense\r\n").expect("it is taken");
    assert_eq!(service.event("accepted")["peer"], peer);
    let error = service.event("error");
    assert_eq!((&error["peer"], &error["error"]["kind"]), (&peer, &json!("handshake-failed")));
    service.event("closed");

    const HEADER: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.1 4000 80\r\n";
    let mut client = tcp(port);
    client.write_all(HEADER).expect("it is taken");
    let (mut far, _) = listener.accept().expect("the relay connects");
    far.write_all(b"x").expect("it is taken");
    client.read_exact(&mut [0]).expect("they are joined");
    set_socket_linger(&far, Some(Duration::ZERO)).expect("it is reset when it is closed");
    drop(far);
    service.event("accepted");
    assert_eq!(service.event("connected")["peer"], "192.0.2.7:4000");
    let error = service.event("error");
    assert_eq!(
        (&error["peer"], &error["error"]["kind"]),
        (&json!("192.0.2.7:4000"), &json!("connection-reset"))
    );
    service.event("closed");

    drop(listener);
    let mut client = tcp(port);
    client.write_all(HEADER).expect("it is taken");
    service.event("accepted");
    assert_eq!(service.event("error")["peer"], "192.0.2.7:4000");
    service.stop();
}

#[test]
fn whose_connection_was_refused_or_whose_program_failed_is_told() {
    let limit = ["--max-per-peer", "1"];
    let service = Service::start(["listen", "--json", ANY, "--echo"].iter().chain(&limit));
    service.event("listening");
    let mut first = service.tcp();
    ping(&mut first);
    service.event("accepted");
    let second = service.tcp();
    let peer = json!(second.local_addr().expect("its address").to_string());
    let error = service.event("error");
    assert_eq!((&error["id"], &error["peer"]), (&json!(null), &peer));
    drop((first, second));
    service.stop();
    let service = Service::start(["listen", "--json", ANY, "--exec", "/nonexistent"]);
    service.event("listening");
    let client = service.tcp();
    let peer = json!(client.local_addr().expect("its address").to_string());
    service.event("accepted");
    assert_eq!(service.event("error")["peer"], peer);
    service.stop();
}

#[test]
fn that_as_many_are_open_as_may_be_is_told_once() {
    let backend = backend();
    let limit = ["--max-connections", "2"];
    let service = Service::start(["forward", ANY, &backend.description].iter().chain(&limit));
    let mut first = service.tcp();
    ping(&mut first);
    for _ in 0..3 {
        // The place of the one before may not be free yet.
        ping(&mut service.tcp());
    }
    let line = service.stderr_line();
    assert!(
        line.contains("WARN")
            && line.contains("the limit of 2 open connections (max-connections) is reached"),
        "{line}"
    );
    drop(first);
    service.stop_quietly();
    let service = Service::start(["forward", "--json", ANY, &backend.description].iter().chain(&limit));
    service.event("listening");
    let mut open = [service.tcp(), service.tcp()];
    open.iter_mut().for_each(ping);
    while service.any_event() != json!({ "event": "full", "max_connections": 2 }) {}
    drop(open);
    service.stop();
}
