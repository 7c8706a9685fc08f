//! Counts of the relay, and the small HTTP service that tells them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use endpoints::forward::Meter;
use endpoints::serve::Event;
use endpoints::{Connection, Incoming};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Requests that are answered at a time; more wait.
pub(crate) const MOST_READERS: usize = 32;

/// How long a request may take from its first byte to the end of the connection.
const TIME: Duration = Duration::from_secs(5);

/// The longest head of a request, in bytes.
const LONGEST: usize = 8 * 1024;

pub(crate) struct Statistics {
    begun: Instant,
    accepted: AtomicU64,
    closed: AtomicU64,
    failed: AtomicU64,
    pub(crate) meter: Arc<Meter>,
}

impl Default for Statistics {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            accepted: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            meter: Arc::default(),
        }
    }
}

/// The counts at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) now: u64,
    pub(crate) total: u64,
    pub(crate) failed: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) uptime: Duration,
}

impl Statistics {
    pub(crate) fn count(&self, event: &Event<'_>) {
        let counter = match event {
            Event::Accepted { .. } => &self.accepted,
            Event::Closed { .. } => &self.closed,
            Event::Error { id: Some(_), .. } => &self.failed,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> Counts {
        // What is closed was accepted before: read in this order, the difference is never negative.
        let closed = self.closed.load(Ordering::Relaxed);
        let total = self.accepted.load(Ordering::Relaxed);
        let traffic = self.meter.traffic();
        Counts {
            now: total.saturating_sub(closed),
            total,
            failed: self.failed.load(Ordering::Relaxed),
            bytes_in: traffic.bytes_in,
            bytes_out: traffic.bytes_out,
            uptime: self.begun.elapsed(),
        }
    }
}

/// Answers one request, and never waits longer than [`TIME`] for its sender.
pub(crate) async fn answer(incoming: Incoming, statistics: Arc<Statistics>) {
    let answered = tokio::time::timeout(TIME, async {
        let mut connection = incoming.await.ok()?;
        let head = read_head(&mut connection).await;
        let response = respond(&head, statistics.counts());
        connection.write_all(&response).await.ok()?;
        connection.shutdown().await.ok()?;
        // Closing with something unread would reset the connection, and the answer could be lost.
        let mut rest = [0; 1024];
        while connection.read(&mut rest).await.ok()? > 0 {}
        Some(())
    });
    if answered.await.is_err() {
        tracing::debug!("a request for statistics took too long");
    }
}

/// Reads up to the empty line; what comes with it beyond that is left alone.
async fn read_head(connection: &mut Connection) -> Vec<u8> {
    let mut head = Vec::with_capacity(1024);
    let mut chunk = [0; 1024];
    while head.len() < LONGEST {
        match connection.read(&mut chunk).await {
            Ok(count @ 1..) => head.extend_from_slice(&chunk[..count]),
            _ => break,
        }
        if ends(&head) {
            break;
        }
    }
    head
}

fn ends(head: &[u8]) -> bool {
    head.windows(4).any(|window| window == b"\r\n\r\n") || head.windows(2).any(|window| window == b"\n\n")
}

/// The response to the head of a request (RFC 1945).
fn respond(head: &[u8], counts: Counts) -> Vec<u8> {
    const PLAIN: &str = "text/plain; charset=utf-8";
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_ascii_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let (status, kind, body) = match (method, path) {
        _ if !ends(head) || !words.next().is_some_and(|version| version.starts_with("HTTP/")) => {
            ("400 Bad Request", PLAIN, "this is no HTTP request, or its head is too long\n".to_owned())
        }
        ("GET" | "HEAD", "/stats") => ("200 OK", "application/json", as_json(counts)),
        ("GET" | "HEAD", "/metrics") => {
            ("200 OK", "text/plain; version=0.0.4; charset=utf-8", as_metrics(counts))
        }
        ("GET" | "HEAD", _) => ("404 Not Found", PLAIN, "there are /stats and /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", PLAIN, "GET is allowed\n".to_owned()),
    };
    let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    let length = body.len();
    let body = if method == "HEAD" { "" } else { &body };
    let head = format!("HTTP/1.0 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{allow}");
    format!("{head}Connection: close\r\n\r\n{body}").into_bytes()
}

fn as_json(counts: Counts) -> String {
    let Counts { now, total, failed, bytes_in, bytes_out, uptime } = counts;
    let document = json!({
        "connections": { "now": now, "total": total, "failed": failed },
        "bytes": { "in": bytes_in, "out": bytes_out },
        "uptime_seconds": uptime.as_secs_f64(),
    });
    format!("{document}\n")
}

fn as_metrics(counts: Counts) -> String {
    let uptime = counts.uptime.as_secs_f64();
    let metrics = [
        ("connections", "gauge", "Connections that are open.", counts.now.to_string()),
        ("connections_total", "counter", "Connections that were accepted.", counts.total.to_string()),
        (
            "connections_failed_total",
            "counter",
            "Connections that ended with an error.",
            counts.failed.to_string(),
        ),
        ("bytes_in_total", "counter", "Bytes from accepted connections.", counts.bytes_in.to_string()),
        ("bytes_out_total", "counter", "Bytes to accepted connections.", counts.bytes_out.to_string()),
        ("uptime_seconds", "gauge", "Time since the start.", uptime.to_string()),
    ];
    let lines = metrics.map(|(name, kind, help, value)| {
        format!("# HELP endpoints_{name} {help}\n# TYPE endpoints_{name} {kind}\nendpoints_{name} {value}\n")
    });
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(request: &str) -> String {
        let counts = Counts {
            now: 1,
            total: 3,
            failed: 2,
            bytes_in: 10,
            bytes_out: 20,
            uptime: Duration::from_millis(1500),
        };
        String::from_utf8(respond(request.as_bytes(), counts)).expect("text")
    }

    #[test]
    fn counts_are_told_as_json_and_as_metrics() {
        let json = response("GET /stats HTTP/1.1\r\nHost: x\r\n\r\n");
        let (head, body) = json.split_once("\r\n\r\n").expect("a head and a body");
        assert!(
            head.starts_with("HTTP/1.0 200 OK\r\n")
                && head.contains(&format!("Content-Length: {}", body.len()))
        );
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        let expected = json!({
            "connections": { "now": 1, "total": 3, "failed": 2 },
            "bytes": { "in": 10, "out": 20 },
            "uptime_seconds": 1.5,
        });
        assert_eq!(body, expected);
        let metrics = response("GET /metrics?x HTTP/1.0\n\n");
        assert!(
            metrics.contains("\nendpoints_connections_total 3\n") && metrics.contains("# TYPE "),
            "{metrics}"
        );
    }

    #[test]
    fn other_requests_are_refused() {
        assert!(response("GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.0 404 "));
        assert!(response("POST /stats HTTP/1.1\r\n\r\n").starts_with("HTTP/1.0 405 "));
        assert!(response("GET /stats HTTP/1.1\r\n").starts_with("HTTP/1.0 400 "));
        assert!(response("").starts_with("HTTP/1.0 400 "));
        assert!(response("HEAD /stats HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n"));
    }
}
