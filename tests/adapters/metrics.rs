//! Metrics of what is served.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use endpoints::adapters::metrics::{Recorder, record, record_client};
use endpoints::forward::{Forward, Relay, Traffic};
use endpoints::serve::{Event, Serve};
use endpoints::service::{ClientService, ServerService};
use endpoints::{Error, ErrorKind, Registry};
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, SharedString, Unit,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::harness::PATIENCE;

/// What an exporter would have: a value for each name with its labels. Of a histogram, how many values it has.
#[derive(Clone, Default)]
struct Exporter(Arc<Mutex<BTreeMap<String, f64>>>);

struct Cell(Exporter, String);

impl Cell {
    fn add(&self, value: f64) {
        *self.0.0.lock().unwrap().entry(self.1.clone()).or_default() += value;
    }
}

impl CounterFn for Cell {
    fn increment(&self, value: u64) {
        self.add(value as f64);
    }

    fn absolute(&self, _: u64) {
        panic!("a counter is set");
    }
}

impl GaugeFn for Cell {
    fn increment(&self, value: f64) {
        self.add(value);
    }

    fn decrement(&self, value: f64) {
        self.add(-value);
    }

    fn set(&self, value: f64) {
        self.0.0.lock().unwrap().insert(self.1.clone(), value);
    }
}

impl HistogramFn for Cell {
    fn record(&self, value: f64) {
        assert!((0.0..30.0).contains(&value), "{value} s");
        self.add(1.0);
    }
}

impl Exporter {
    fn cell(&self, key: &Key) -> Arc<Cell> {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        Arc::new(Cell(self.clone(), format!("{}{{{}}}", key.name(), labels.join(","))))
    }

    fn value(&self, name: &str, labels: &str) -> f64 {
        self.0.lock().unwrap().get(&format!("endpoints_{name}{{{labels}}}")).copied().unwrap_or_default()
    }

    /// Waits until it has that value.
    async fn wait(&self, name: &str, labels: &str, value: f64) {
        let reached = async {
            while (self.value(name, labels) - value).abs() > f64::EPSILON {
                tokio::task::yield_now().await;
            }
        };
        let reached = timeout(PATIENCE, reached).await;
        assert!(reached.is_ok(), "{name}{{{labels}}} is not {value}: {:?}", self.0.lock().unwrap());
    }
}

impl metrics::Recorder for Exporter {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let cell = self.cell(key);
        cell.add(0.0);
        Counter::from_arc(cell)
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.cell(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.cell(key))
    }
}

const LOCAL: &str = "tcp:0:interface=127.0.0.1";

/// Listens on a port of loopback.
async fn listen() -> (endpoints::Listener, std::net::SocketAddr) {
    listen_on(LOCAL).await
}

async fn listen_on(server: &str) -> (endpoints::Listener, std::net::SocketAddr) {
    let registry = Registry::builder().default_plugin_path(false).build().expect("a registry");
    let server = registry.server(server).expect("a description");
    let listener = server.listen().await.expect("a listener");
    let address = listener.addresses()[0].ip().expect("an address");
    (listener, address)
}

// On one thread, whose exporter is that of the test.
#[tokio::test]
async fn relayed_connections_are_counted() {
    let exporter = Exporter::default();
    let _installed = metrics::set_default_local_recorder(&exporter);
    let target = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = target.local_addr().expect("its address").port();
    let client = endpoints::client(format!("tcp:127.0.0.1:{port}")).expect("a description");
    let (listener, address) = listen().await;
    let (stop, stopped) = oneshot::channel::<()>();
    let forward = Forward::new(listener, client)
        .drain_timeout(Duration::ZERO)
        .on_event(record("web"))
        .run(async { drop(stopped.await) });
    let drive = async {
        let mut streams = Vec::new();
        for _ in 0..2 {
            let near = TcpStream::connect(address).await.expect("a connection");
            streams.push((near, target.accept().await.expect("the other side").0));
        }
        exporter.wait("connections_open", "service=web", 2.0).await;
        let (mut near, mut far) = streams.remove(0);
        near.write_all(b"hello").await.expect("sending");
        far.read_exact(&mut [0; 5]).await.expect("receiving");
        far.write_all(b"bye").await.expect("sending");
        drop((near, far));
        exporter.wait("connections_open", "service=web", 1.0).await;
        // Nobody is there any more.
        drop(target);
        let refused = TcpStream::connect(address).await.expect("a connection");
        exporter.wait("errors_total", "service=web,kind=connection-refused", 1.0).await;
        assert!(exporter.value("connections_open", "service=web") < 1.5);
        // One is cut.
        drop(stop);
        (streams, refused)
    };
    let (outcome, _held) = tokio::join!(forward, drive);
    assert_eq!(outcome.cut, 1);
    for (name, value) in [
        ("connections_accepted_total", 3.0),
        ("connections_open", 0.0),
        ("connection_duration_seconds", 2.0),
        ("received_bytes_total", 5.0),
        ("sent_bytes_total", 3.0),
    ] {
        exporter.wait(name, "service=web", value).await;
    }
}

#[tokio::test]
async fn whoever_serves_tells_what_is_open() {
    let exporter = Exporter::default();
    let _installed = metrics::set_default_local_recorder(&exporter);
    let recorder = Recorder::new(String::from("echo"));
    let observer = recorder.clone();
    let handle = move |_, incoming: endpoints::Incoming| {
        let recorder = recorder.clone();
        async move {
            let mut connection = incoming.await.expect("a connection");
            let _open = recorder.open();
            let _ = connection.read(&mut [0; 1]).await;
        }
    };
    let (listener, address) = listen().await;
    let (stop, stopped) = oneshot::channel::<()>();
    let serve = Serve::new(listener).on_event(move |event| observer.observe(event));
    let drive = async {
        let stream = TcpStream::connect(address).await.expect("a connection");
        exporter.wait("connections_open", "service=echo", 1.0).await;
        drop(stream);
        exporter.wait("connections_open", "service=echo", 0.0).await;
        drop(stop);
    };
    tokio::join!(serve.run(handle, async { drop(stopped.await) }), drive);
    exporter.wait("connections_accepted_total", "service=echo", 1.0).await;
    exporter.wait("connection_duration_seconds", "service=echo", 1.0).await;
}

#[tokio::test]
async fn the_time_of_handshakes_is_recorded() {
    let exporter = Exporter::default();
    let _installed = metrics::set_default_local_recorder(&exporter);
    for (server, header, handshakes) in [
        (LOCAL.to_owned(), "", 0.0),
        (format!("haproxy:{LOCAL}"), "PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\n", 1.0),
        (format!("haproxy:{LOCAL}"), "no header\r\n", 1.0),
    ] {
        let recorder = Recorder::new("any");
        let (listener, address) = listen_on(&server).await;
        let (stop, stopped) = oneshot::channel::<()>();
        let handle = |_, incoming: endpoints::Incoming| async { drop(incoming.await) };
        let serve = Serve::new(listener).on_event(move |event| recorder.observe(event));
        let drive = async {
            let mut stream = TcpStream::connect(address).await.expect("a connection");
            stream.write_all(header.as_bytes()).await.expect("sending");
            // Until the handler is done with it.
            let _ = stream.read(&mut [0]).await;
            drop(stop);
        };
        tokio::join!(serve.run(handle, async { drop(stopped.await) }), drive);
        exporter.wait("handshake_duration_seconds", "service=any", handshakes).await;
    }
    exporter.wait("connections_accepted_total", "service=any", 3.0).await;
}

#[tokio::test]
async fn a_connection_that_is_kept_up_is_recorded() {
    let exporter = Exporter::default();
    let _installed = metrics::set_default_local_recorder(&exporter);
    let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = server.local_addr().expect("its address").port();
    let service =
        ClientService::builder(endpoints::client(format!("tcp:127.0.0.1:{port}")).expect("a description"))
            .retry_policy(|_| Duration::from_millis(1))
            .on_state(record_client("uplink"))
            .handle(|mut connection, _stopping| async move { drop(connection.read(&mut [0]).await) });
    service.start().expect("a runtime");
    let (peer, _) = server.accept().await.expect("a connection");
    exporter.wait("client_connected", "service=uplink", 1.0).await;
    exporter.wait("client_attempts_total", "service=uplink", 1.0).await;
    drop(server);
    drop(peer);
    exporter.wait("client_connected", "service=uplink", 0.0).await;
    service.when_connected_within(2).await.expect_err("nobody is there any more");
    service.stop().await.expect("stopped");
    exporter.wait("client_connected", "service=uplink", 0.0).await;
    let failures = exporter.value("client_failures_total", "service=uplink,kind=connection-refused");
    assert!(failures > 1.5, "{failures}");
}

#[tokio::test]
async fn what_is_dropped_while_it_relays_is_open_no_more() {
    let exporter = Exporter::default();
    let _installed = metrics::set_default_local_recorder(&exporter);
    let target = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = target.local_addr().expect("its address").port();
    let client = endpoints::client(format!("tcp:127.0.0.1:{port}")).expect("a description");
    // A relay.
    let (listener, address) = listen().await;
    let forward = Forward::new(listener, client.clone()).on_event(record("relay"));
    let forward = tokio::spawn(forward.run(std::future::pending()));
    let _near = TcpStream::connect(address).await.expect("a connection");
    exporter.wait("connections_open", "service=relay", 1.0).await;
    forward.abort();
    exporter.wait("connections_open", "service=relay", 0.0).await;
    exporter.wait("connection_duration_seconds", "service=relay", 1.0).await;
    // A service that relays, with an observer for each, and of which a run before has been stopped.
    let recorder = Recorder::new("service");
    let (service, relay) = (recorder.clone(), recorder);
    let relay = Arc::new(Relay::new(client).on_event(move |event| relay.observe(event)));
    let handle = move |id, incoming| {
        let relay = Arc::clone(&relay);
        async move { relay.serve(id, incoming).await }
    };
    let server = endpoints::server("tcp:0:interface=127.0.0.1").expect("a description");
    let service = ServerService::builder(server)
        .drain_timeout(Duration::ZERO)
        .on_event(move |event| service.observe(event))
        .handle_incoming(handle);
    for runs in [1.0, 2.0] {
        service.start().await.expect("it listens");
        let address = service.addresses()[0].ip().expect("an address");
        let _near = TcpStream::connect(address).await.expect("a connection");
        exporter.wait("connections_open", "service=service", 1.0).await;
        if runs < 1.5 {
            service.stop().await.expect_err("one is cut");
            exporter.wait("connections_open", "service=service", 0.0).await;
        }
        exporter.wait("connections_accepted_total", "service=service", runs).await;
    }
    drop(service);
    exporter.wait("connections_open", "service=service", 0.0).await;
    exporter.wait("connection_duration_seconds", "service=service", 2.0).await;
}

#[tokio::test]
async fn a_connection_whose_service_is_dropped_is_down() {
    let exporter = Exporter::default();
    let _installed = metrics::set_default_local_recorder(&exporter);
    let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = server.local_addr().expect("its address").port();
    let service =
        ClientService::builder(endpoints::client(format!("tcp:127.0.0.1:{port}")).expect("a description"))
            .on_state(record_client("uplink"))
            .handle(|mut connection, _stopping| async move { drop(connection.read(&mut [0]).await) });
    service.start().expect("a runtime");
    exporter.wait("client_connected", "service=uplink", 1.0).await;
    drop(service);
    exporter.wait("client_connected", "service=uplink", 0.0).await;
}

#[test]
fn errors_are_counted_from_0() {
    let exporter = Exporter::default();
    let _installed = metrics::set_default_local_recorder(&exporter);
    let _recorder = (Recorder::new("web"), record_client("uplink"));
    let there = exporter.0.lock().unwrap().clone();
    for kind in ErrorKind::ALL.iter().map(|kind| kind.name()) {
        for name in ["errors_total{service=web", "client_failures_total{service=uplink"] {
            assert_eq!(there.get(&format!("endpoints_{name},kind={kind}}}")), Some(&0.0), "{name}, {kind}");
        }
    }
}

#[tokio::test]
async fn what_a_handler_of_the_program_tells_is_counted() {
    let exporter = Exporter::default();
    let _installed = metrics::set_default_local_recorder(&exporter);
    let recorder = Recorder::new("own");
    let (listener, address) = listen().await;
    let _near = TcpStream::connect(address).await.expect("a connection");
    let incoming = listener.accept().await.expect("a connection");
    recorder.observe(&Event::accepted(7, &incoming));
    let connection = incoming.await.expect("a handshake");
    recorder.observe(&Event::connected(7, None, &connection));
    exporter.wait("connections_open", "service=own", 1.0).await;
    let error = Error::new(ErrorKind::TimedOut, "nobody answers");
    recorder.observe(&Event::error(Some(7), &error));
    let mut traffic = Traffic::default();
    (traffic.bytes_in, traffic.bytes_out) = (5, 3);
    recorder.observe(&Event::closed(7, traffic, Duration::from_secs(1)));
    for (name, labels, value) in [
        ("connections_accepted_total", "service=own", 1.0),
        ("connections_open", "service=own", 0.0),
        ("errors_total", "service=own,kind=timed-out", 1.0),
        ("received_bytes_total", "service=own", 5.0),
        ("sent_bytes_total", "service=own", 3.0),
    ] {
        exporter.wait(name, labels, value).await;
    }
}
