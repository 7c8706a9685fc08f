//! The relay's statistics as a scrape has them: fetched by curl, read by Prometheus' library for Python.

use std::path::Path;
use std::process::Command;

use endpoints_tests::make_certificates;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Peer, built, need, program, run, wait_for};

fn curl(arguments: &[&str]) -> String {
    let mut command = Command::new(program("curl"));
    command.args(["-sS", "--max-time", "20"]).args(arguments);
    String::from_utf8(run(&mut command, None).expect("curl")).expect("text")
}

/// What Python makes of a scrape.
fn read(scrape: &Path) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/prometheus.py");
    let read = run(Command::new(program("twisted")).arg(script), Some(scrape)).expect("it is well-formed");
    serde_json::from_slice(&read).expect("JSON")
}

/// The sample of that name with those labels.
fn sample(metrics: &Value, metric: &str, name: &str, labels: &Value) -> f64 {
    let samples = metrics[metric]["samples"].as_array().unwrap_or_else(|| panic!("no {metric}: {metrics}"));
    let found = samples.iter().find(|sample| sample[0] == name && sample[1] == *labels);
    found.and_then(|sample| sample[2].as_f64()).unwrap_or_else(|| panic!("no {name}{labels}: {metrics}"))
}

#[test]
fn a_scrape_is_read_by_others() {
    need!("curl", "openssl", "twisted");
    let folder = tempfile::tempdir().expect("a folder");
    make_certificates(&folder.path().join("pki")).expect("certificates");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    // Whoever comes through the relay reads its statistics, over TLS; others read them without.
    let socket = path("statistics");
    let server = format!("tls:{}:0:interface=127.0.0.1", endpoints::quote_str(&path("pki/server.pem")));
    let statistics = format!("unix:{socket}");
    let mut command = Command::new(built("endpoints"));
    command.args(["--no-default-plugin-path", "forward", &server, &statistics, "--stats", &statistics]);
    let mut relay = Peer::start(&mut command, folder.path());
    relay.line("statistics on ");
    let port = relay.port();
    for _ in 0..3 {
        let document = curl(&["--insecure", &format!("https://127.0.0.1:{port}/stats")]);
        assert!(document.contains("\"handshakes\""), "{document}");
    }
    // It speaks no TLS.
    let plain = Command::new(program("curl"))
        .args(["-s", "--max-time", "20", &format!("http://127.0.0.1:{port}/")])
        .output();
    assert!(!plain.expect("curl").status.success());

    let scrape = path("scrape");
    let direct = |kind: &str| {
        let told = curl(&["--unix-socket", &socket, "-o", &scrape, "-w", "%{content_type}", kind]);
        (told, std::fs::read_to_string(&scrape).expect("a body"))
    };
    // A connection is closed a moment after its client has all.
    let (kind, document) = wait_for(|| {
        let (kind, document) = direct("http://any/stats");
        let document: Value = serde_json::from_str(&document).expect("JSON");
        (document["connections"]["now"] == 0).then_some((kind, document))
    })
    .expect("all connections end");
    assert_eq!(kind, "application/json");
    assert_eq!(document["connections"], json!({ "now": 0, "total": 4, "failed": 1 }));
    assert_eq!(document["errors"], json!({ "handshake-failed": 1 }));
    let handshakes = &document["handshakes"];
    assert_eq!(handshakes["count"], 3);
    let seconds = |name: &str| handshakes[name].as_f64().unwrap_or_else(|| panic!("{handshakes}"));
    let (median, slowest) = (seconds("median_seconds"), seconds("p99_seconds"));
    assert!(median > 0.0 && median <= slowest && slowest <= 30.0, "{handshakes}");
    assert!(seconds("sum_seconds") > 0.0);

    let (kind, _) = direct("http://any/metrics");
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    let metrics = read(scrape.as_ref());
    let types: Vec<(&str, &str)> = metrics
        .as_object()
        .expect("an object")
        .iter()
        .map(|(name, metric)| (name.as_str(), metric["type"].as_str().expect("a type")))
        .collect();
    // The library leaves the `_total` of counters out.
    let expected = [
        ("endpoints_connections", "gauge"),
        ("endpoints_connections_accepted", "counter"),
        ("endpoints_connections_failed", "counter"),
        ("endpoints_errors", "counter"),
        ("endpoints_handshake_duration_seconds", "histogram"),
        ("endpoints_received_bytes", "counter"),
        ("endpoints_sent_bytes", "counter"),
        ("endpoints_uptime_seconds", "gauge"),
    ];
    assert_eq!(types, expected);
    let value = |metric: &str, suffix: &str, labels: Value| {
        let metric = format!("endpoints_{metric}");
        sample(&metrics, &metric, &format!("{metric}{suffix}"), &labels)
    };
    assert_eq!(value("connections", "", json!({})), 0.0);
    assert_eq!(value("connections_accepted", "_total", json!({})), 4.0);
    assert_eq!(value("connections_failed", "_total", json!({})), 1.0);
    assert_eq!(value("errors", "_total", json!({ "kind": "handshake-failed" })), 1.0);
    let told = |document: &Value, way: &str| document["bytes"][way].as_f64().expect("a number");
    assert_eq!(value("received_bytes", "_total", json!({})), told(&document, "in"));
    assert_eq!(value("sent_bytes", "_total", json!({})), told(&document, "out"));
    assert!(told(&document, "in") > 0.0 && told(&document, "out") > 3.0 * 100.0);
    assert!(value("uptime_seconds", "", json!({})) >= document["uptime_seconds"].as_f64().expect("a number"));
    let histogram = "handshake_duration_seconds";
    assert_eq!(value(histogram, "_count", json!({})), 3.0);
    assert_eq!(value(histogram, "_sum", json!({})), seconds("sum_seconds"));
    let bounds =
        ["0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10"];
    let buckets: Vec<f64> = bounds
        .iter()
        .chain(&["30", "+Inf"])
        .map(|bound| value(histogram, "_bucket", json!({ "le": bound })))
        .collect();
    assert!(buckets.is_sorted() && buckets.ends_with(&[3.0]), "{buckets:?}");

    relay.signal(Signal::TERM);
    assert!(relay.ended().success(), "{}", relay.log());
}
