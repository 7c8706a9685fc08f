//! Each service of the host, called by a plugin of either form, in the runtime and on a thread that has none.

use std::sync::{Arc, Mutex};

use endpoints::{Connection, ErrorKind, Listener};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::World;

const LOCAL: &str = "tcp:0:interface=127.0.0.1";

fn worlds() -> [World; 2] {
    World::both("endpoints_fixture_services", "services")
}

/// The two ways to call a service.
fn ways(service: &str) -> [String; 2] {
    [format!("services:{service}"), format!("services:{service}:thread=1")]
}

/// What each way tells, in each form.
async fn told(service: &str) -> Vec<String> {
    let mut all = Vec::new();
    for world in worlds() {
        // Whoever calls from a thread without a runtime uses that of the one who connects.
        for description in ways(service) {
            all.push(world.told(&description).await);
        }
    }
    all
}

#[tokio::test]
async fn sleeping_takes_its_time() {
    for told in told("sleep:50").await {
        let millis: u64 = told.parse().expect("milliseconds");
        assert!((50..5000).contains(&millis), "{millis}");
    }
}

#[tokio::test]
async fn a_limit_ends_what_takes_too_long_alone() {
    for told in told("timeout:50").await {
        assert_eq!(told, "done, not done within 50ms");
    }
}

#[tokio::test]
async fn tasks_are_driven() {
    assert_eq!(told("spawn").await, ["from a task"; 4]);
}

#[tokio::test]
async fn descriptors_are_watched_both_ways() {
    assert_eq!(told("watch").await, ["from a descriptor and 4 bytes back"; 4]);
}

#[tokio::test]
async fn work_that_blocks_runs_elsewhere() {
    assert_eq!(told("blocking").await, ["on a thread for that"; 4]);
    for world in worlds() {
        for description in ways("blocking-panic") {
            let error = world.try_connect(&description).await.expect_err("it panics");
            assert_eq!(error.kind(), ErrorKind::PluginPanicked, "{error}");
        }
    }
}

#[tokio::test]
async fn names_are_resolved() {
    for told in told("resolve:localhost").await {
        let addresses: Vec<std::net::SocketAddr> =
            told.lines().map(|line| line.parse().expect("an address")).collect();
        assert!(!addresses.is_empty());
        assert!(addresses.iter().all(|to| to.ip().is_loopback() && to.port() == 80), "{addresses:?}");
    }
    for world in worlds() {
        for description in ways("resolve:no..body") {
            let error = world.try_connect(&description).await.expect_err("there is no such name");
            assert_eq!(error.kind(), ErrorKind::NameResolution, "{error}");
        }
    }
}

async fn accepted(listener: &Listener) -> Connection {
    listener.accept().await.expect("accept").await.expect("handshake")
}

/// Says something each way, after what the plugin has said.
async fn exchange(mut connected: Connection, mut accepted: Connection, first: &str) {
    connected.write_all(b"there").await.expect("write");
    connected.shutdown().await.expect("shutdown");
    let mut heard = String::new();
    accepted.read_to_string(&mut heard).await.expect("read");
    assert_eq!(heard, format!("{first}there"));
    accepted.write_all(b"x").await.expect("write");
    assert_eq!(connected.read_u8().await.expect("read"), b'x');
}

#[tokio::test]
async fn descriptions_become_endpoints() {
    for world in worlds() {
        for thread in ["", ":thread=1"] {
            let server = format!(r"services:tcp\:0\:interface\=127.0.0.1{thread}");
            let listener = world.listen(&server).await;
            let port = listener.addresses()[0].port().expect("a port");
            let client = format!(r"services:client:tcp\:127.0.0.1\:{port}{thread}");
            let (connected, accepted) = tokio::join!(world.connect(&client), accepted(&listener));
            // Handed on as it was, it is the host's own socket.
            assert!(connected.is_socket(), "{client}");
            exchange(connected, accepted, "").await;
        }
        for description in ways(r"client:nothing\:") {
            let error = world.try_connect(&description).await.expect_err("there is no such scheme");
            assert!(error.message().contains("no plugin provides"), "{error}");
        }
    }
}

#[tokio::test]
async fn sockets_become_the_hosts_own() {
    for world in worlds() {
        let listener = world.listen(LOCAL).await;
        let port = listener.addresses()[0].port().expect("a port");
        for (service, first) in [("finish-connect", ""), ("adopt", "adopted: ")] {
            for description in ways(&format!("{service}:{port}")) {
                let (connected, accepted) = tokio::join!(world.connect(&description), accepted(&listener));
                assert!(connected.is_socket(), "{description}");
                exchange(connected, accepted, first).await;
            }
        }
        listener.close().await.expect("close");
        for service in ["finish-connect", "adopt"] {
            for description in ways(&format!("{service}:{port}")) {
                let error = world.try_connect(&description).await.expect_err("nobody listens");
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
            }
        }
    }
}

/// Lines of JSON, as a subscriber writes them.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// Level, plugin and message of each line of plugins, with these words in it.
    fn of_plugins(&self, words: &str) -> Vec<[String; 3]> {
        let text = String::from_utf8(self.0.lock().expect("no panic").clone()).expect("text");
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let lines = lines.filter(|line| line["target"] == "endpoints::plugin");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        lines
            .map(|line| [&line["level"], &line["fields"]["plugin"], &line["fields"]["message"]].map(text))
            .filter(|line| line[2].starts_with(words))
            .collect()
    }
}

#[tokio::test]
async fn log_lines_reach_the_hosts_log_as_far_as_they_are_wanted() {
    use tracing::Level;
    // The one of all threads. Each test has words of its own.
    let everywhere = Lines::default();
    let writer = everywhere.clone();
    let subscriber = tracing_subscriber::fmt().json().with_max_level(Level::TRACE);
    subscriber.with_writer(move || writer.clone()).init();
    let all = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"];
    let expected = |words: &str, levels: &[&str]| -> Vec<[String; 3]> {
        let camel = |level: &str| format!("{}{}", &level[..1], level[1..].to_lowercase());
        let line = |level: &&str| {
            let message = format!("{words} at {}", camel(level));
            [(*level).to_owned(), "endpoints-fixture-services".to_owned(), message]
        };
        levels.iter().map(line).collect()
    };
    for (form, world) in worlds().into_iter().enumerate() {
        for (way, thread) in ["", ":thread=1"].into_iter().enumerate() {
            let words = format!("words {form} {way}");
            assert_eq!(world.told(&format!("services:log:{words}{thread}")).await, "11111");
            assert_eq!(everywhere.of_plugins(&words), expected(&words, &all));
        }
        // Of this thread alone, and less of it.
        for (level, enabled, count) in [(Level::INFO, "11100", 3), (Level::ERROR, "10000", 1)] {
            let here = Lines::default();
            let writer = here.clone();
            let subscriber = tracing_subscriber::fmt().json().with_max_level(level);
            let subscriber = subscriber.with_writer(move || writer.clone()).finish();
            let _guard = tracing::subscriber::set_default(subscriber);
            let words = format!("fewer words {form}");
            assert_eq!(world.told(&format!("services:log:{words}")).await, enabled);
            assert_eq!(here.of_plugins(&words), expected(&words, &all[..count]));
        }
    }
}
