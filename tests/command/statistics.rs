//! `forward --stats`: what is told over HTTP, and readers that are slow, hostile or confused.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{LIMIT, Service, port, read_all, tcp};

const ANY: &str = "tcp:0:interface=127.0.0.1";

/// The longest that a reader is put up with: 5 s.
const TIME: Duration = Duration::from_secs(5);

/// A relay to an echo, with statistics.
struct Relay {
    service: Service,
    statistics: u16,
    _backend: Service,
}

impl Relay {
    fn start(server: &str) -> Self {
        let backend = Service::start(["listen", ANY, "--echo"]);
        let command = ["forward", server, &backend.description, "--stats", ANY, "--json", "--workers", "1"];
        let service = Service::start(command);
        service.event("listening");
        let statistics = &service.event("statistics")["description"];
        let statistics = port(statistics.as_str().expect("a description"));
        Self { service, statistics, _backend: backend }
    }

    fn reader(&self) -> TcpStream {
        tcp(self.statistics)
    }

    /// All that comes back.
    fn answer(&self, request: &[u8]) -> String {
        let mut stream = self.reader();
        stream.write_all(request).expect("it reads");
        read_all(stream)
    }

    fn get(&self, path: &str) -> (String, String) {
        let answer = self.answer(format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n").as_bytes());
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
        (head.to_owned(), body.to_owned())
    }

    /// The statistics as soon as they are as wanted; the relay may have done something a moment before it counts it.
    #[track_caller]
    fn stats(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let stats = serde_json::from_str(&self.get("/stats").1).expect("JSON");
            if wanted(&stats) {
                return stats;
            }
            assert!(begun.elapsed() < LIMIT, "{stats}");
        }
    }
}

fn ping(stream: &mut TcpStream) {
    stream.write_all(b"ping").expect("it reads");
    let mut got = [0; 4];
    stream.read_exact(&mut got).expect("it answers");
    assert_eq!(&got, b"ping");
}

#[test]
fn what_is_open_and_its_bytes_are_told() {
    let relay = Relay::start(ANY);
    let mut open = relay.service.tcp();
    ping(&mut open);
    let mut stats = relay.stats(|stats| stats["bytes"]["out"] == 4);
    assert!(stats["uptime_seconds"].take().is_f64());
    // What has no handshake takes no time for one.
    let expected = json!({
        "connections": { "now": 1, "total": 1, "failed": 0 },
        "bytes": { "in": 4, "out": 4 },
        "handshakes": { "count": 0, "sum_seconds": 0.0, "median_seconds": null, "p99_seconds": null },
        "errors": {},
        "uptime_seconds": null,
    });
    assert_eq!(stats, expected);
    let (_, metrics) = relay.get("/metrics");
    assert!(metrics.contains("\nendpoints_received_bytes_total 4\n"), "{metrics}");
    // From the beginning, so that the first one is an increase.
    for kind in ["timed-out", "connection-refused", "closed", "other"] {
        assert!(metrics.contains(&format!("\nendpoints_errors_total{{kind=\"{kind}\"}} 0\n")), "{metrics}");
    }
    drop(open);
    relay.stats(|stats| stats["connections"]["now"] == 0);
    relay.service.stop();
}

#[test]
fn handshakes_and_errors_by_kind_are_told() {
    let relay = Relay::start(r"haproxy:endpoint=tcp\:0\:interface\=127.0.0.1:timeout=2");
    let proxied = port(&relay.service.description.replace('\\', ""));
    let mut slow = tcp(proxied);
    thread::sleep(Duration::from_millis(300));
    slow.write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\n").expect("it reads");
    ping(&mut slow);
    let _silent = tcp(proxied);
    for _ in 0..2 {
        let mut confused = tcp(proxied);
        confused.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it reads");
        let _ = confused.read(&mut [0]);
    }
    let stats = relay.stats(|stats| stats["connections"]["failed"] == 3);
    assert_eq!(stats["connections"], json!({ "now": 1, "total": 4, "failed": 3 }));
    assert_eq!(stats["errors"], json!({ "handshake-failed": 2, "timed-out": 1 }));
    let handshakes = &stats["handshakes"];
    assert_eq!(handshakes["count"], 1);
    // Between the bounds of its bucket, and of all buckets beyond on a machine that is busy.
    for name in ["sum_seconds", "median_seconds", "p99_seconds"] {
        let seconds = handshakes[name].as_f64().expect("a number");
        assert!((0.25..=30.0).contains(&seconds), "{name}: {handshakes}");
    }
    let (_, metrics) = relay.get("/metrics");
    for line in [
        "endpoints_errors_total{kind=\"handshake-failed\"} 2",
        "endpoints_errors_total{kind=\"timed-out\"} 1",
        "endpoints_handshake_duration_seconds_bucket{le=\"0.25\"} 0",
        "endpoints_handshake_duration_seconds_bucket{le=\"+Inf\"} 1",
        "endpoints_handshake_duration_seconds_count 1",
    ] {
        assert!(metrics.lines().any(|told| told == line), "no {line}:\n{metrics}");
    }
    drop(slow);
    relay.service.stop();
}

#[test]
fn requests_are_answered_as_http_wants_it() {
    let relay = Relay::start(ANY);
    let (head, body) = relay.get("/stats");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("\r\nconnection: close"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/json"), "{head}");
    assert!(head.contains(&format!("\r\ncontent-length: {}", body.len())), "{head}");
    let (head, body) = relay.get("/metrics?x=y");
    assert!(head.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert!(body.starts_with("# HELP "), "{body}");
    let (head, body) = relay.get("/other");
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    assert_eq!(body, "there are /stats and /metrics\n");
    // The head is that of GET, and there is nothing after it.
    let head = relay.answer(b"HEAD /metrics HTTP/1.1\r\nHost: here\r\n\r\n");
    let length = head.split_once("content-length: ").and_then(|(_, rest)| rest.split("\r\n").next());
    assert!(length.is_some_and(|length| length.parse::<usize>().is_ok_and(|length| length > 1000)), "{head}");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    // Of the old kind, in the form for proxies, and with more than one request, of which the first is answered.
    assert!(relay.answer(b"GET /stats HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 200 "));
    assert!(
        relay.answer(b"GET http://here/stats HTTP/1.1\r\nHost: here\r\n\r\n").starts_with("HTTP/1.1 200 ")
    );
    let twice = relay.answer(&b"GET /stats HTTP/1.1\r\nHost: here\r\n\r\n".repeat(2));
    assert_eq!(twice.matches("HTTP/1.1 ").count(), 1, "{twice}");
    assert!(relay.answer(b"nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
    relay.service.stop();
}

/// As `nc -N` and socat do. The end may be there with the request, or soon after it.
#[test]
fn whoever_has_sent_all_there_is_to_say_is_answered() {
    let relay = Relay::start(ANY);
    let ask = |stream: &mut TcpStream| {
        stream.write_all(b"GET /stats HTTP/1.1\r\nHost: here\r\n\r\n").expect("it reads");
        stream.shutdown(Shutdown::Write).expect("half");
    };
    // These are waited for before they ask, and their end is there when that is read.
    let mut readers: Vec<_> = (0..20).map(|_| relay.reader()).collect();
    relay.get("/stats");
    relay.service.signal(Signal::STOP);
    readers.iter_mut().for_each(ask);
    relay.service.signal(Signal::CONT);
    for _ in 0..20 {
        readers.push(relay.reader());
        readers.last_mut().into_iter().for_each(ask);
    }
    for stream in readers {
        let answer = read_all(stream);
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("}\n"), "{answer:?}");
    }
    relay.service.stop();
}

#[test]
fn an_answer_reaches_those_who_send_too_much() {
    let relay = Relay::start(ANY);
    let answer = |beginning: &[u8]| {
        let mut stream = relay.reader();
        // So that the system holds little of it: what is sent has to be read.
        set_socket_send_buffer_size(&stream, 16 << 10).expect("it is set");
        let mut request = beginning.to_vec();
        request.resize(900_000, b'x');
        stream.write_all(&request).expect("it reads");
        stream.shutdown(Shutdown::Write).expect("half");
        read_all(stream)
    };
    let refused = answer(b"POST /stats HTTP/1.1\r\nHost: here\r\nContent-Length: 900000\r\n\r\n");
    assert!(
        refused.starts_with("HTTP/1.1 405 ") && refused.contains("\r\nallow: GET, HEAD\r\n"),
        "{refused}"
    );
    assert!(refused.ends_with("GET is allowed\n"), "{refused}");
    assert!(answer(b"GET /stats HTTP/1.1\r\nX: ").starts_with("HTTP/1.1 431 "));
    relay.service.stop();
}

#[test]
fn a_flood_is_cut() {
    let relay = Relay::start(ANY);
    let mut stream = relay.reader();
    let mut sent = 0;
    while let Ok(count) = stream.write(&[b'x'; 65536]) {
        sent += count;
        assert!(sent < 64 << 20, "it goes on reading");
    }
    assert_eq!(relay.stats(|_| true)["connections"]["total"], 0);
    relay.service.stop();
}

#[test]
fn a_slow_reader_keeps_no_place_and_holds_no_connection_up() {
    let relay = Relay::start(ANY);
    let begun = Instant::now();
    // More than there are places for: those who say nothing, never come to an end, take nothing, or never stop.
    let mut slow = Vec::new();
    for _ in 0..12 {
        let mut begins = relay.reader();
        begins.write_all(b"GET /stats HTTP/1.1\r\nX: y").expect("it reads");
        let mut lingers = relay.reader();
        lingers.write_all(b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n").expect("it reads");
        slow.extend([relay.reader(), begins, lingers]);
    }
    for _ in 0..2 {
        let mut floods = relay.reader();
        slow.push(floods.try_clone().expect("a descriptor"));
        thread::spawn(move || while floods.write_all(&[b'x'; 65536]).is_ok() {});
    }
    // The relay does not mind.
    let mut open = relay.service.tcp();
    for _ in 0..100 {
        ping(&mut open);
    }
    assert!(begun.elapsed() < TIME, "after {:?}", begun.elapsed());
    // Nobody keeps a place for longer than that.
    let stats = relay.stats(|stats| stats["bytes"]["in"] == 400);
    assert_eq!(stats["connections"], json!({ "now": 1, "total": 1, "failed": 0 }));
    assert!(begun.elapsed() < 3 * TIME, "after {:?}", begun.elapsed());
    for stream in &mut slow {
        // Until the end, be it a reset.
        while stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
        assert!(begun.elapsed() < 4 * TIME, "after {:?}", begun.elapsed());
    }
    drop(open);
    relay.service.stop();
}
