//! The relay, at the ends of connections that do not end well.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use endpoints::ErrorKind;
use endpoints::forward::Forward;
use endpoints::serve::Event;
use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use crate::support::{FullBacklog, World, both_forms, closed_port, in_time, pki, port};
use crate::tls;

both_forms!(
    a_reset_is_passed_on_both_ways,
    a_client_whose_backend_is_down_sees_a_reset,
    idle_connections_are_reset,
    what_is_cut_is_reset,
    a_cut_of_tls_is_no_failed_handshake,
    handshakes_have_a_limit,
    silent_clients_do_not_hold_the_end_up,
    a_client_that_vanishes_holds_nothing
);

const LOCAL: &str = "tcp:0:interface=127.0.0.1";

/// A relay, and what errors it told.
struct Relay {
    port: u16,
    errors: Arc<Mutex<Vec<(ErrorKind, String)>>>,
    accepted: Arc<Notify>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<endpoints::serve::Outcome>,
}

impl Relay {
    async fn start(world: &World, server: &str, client: &str, set: impl FnOnce(Forward) -> Forward) -> Self {
        let listener = world.listen(server).await;
        let port = port(&listener);
        let (stop, stopped) = oneshot::channel::<()>();
        let errors = Arc::new(Mutex::new(Vec::new()));
        let accepted = Arc::new(Notify::new());
        let (told, tell) = (Arc::clone(&errors), Arc::clone(&accepted));
        let forward =
            Forward::new(listener, world.registry.client(client).expect(client)).on_event(move |event| {
                match event {
                    Event::Accepted { .. } => tell.notify_one(),
                    Event::Error { error, .. } => {
                        told.lock().unwrap().push((error.kind(), error.message().to_owned()));
                    }
                    _ => {}
                }
            });
        let running = set(forward).run(async move { drop(stopped.await) });
        Self { port, errors, accepted, stop, task: tokio::spawn(running) }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.expect("the relay listens")
    }

    /// Stops it, and gives the errors that it told.
    async fn end(self) -> Vec<(ErrorKind, String)> {
        self.end_with(0).await
    }

    /// The same where so many connections are cut.
    async fn end_with(self, cut: usize) -> Vec<(ErrorKind, String)> {
        self.stop.send(()).expect("it runs");
        let outcome = in_time(self.task).await.expect("it does not panic");
        assert_eq!(outcome.cut, cut);
        self.errors.lock().unwrap().clone()
    }
}

/// Reads all there is; the error at the end of it, where there is one.
async fn read_out(stream: &mut TcpStream) -> (usize, Option<io::ErrorKind>) {
    let mut bytes = Vec::new();
    let ended = in_time(stream.read_to_end(&mut bytes)).await;
    (bytes.len(), ended.err().map(|error| error.kind()))
}

fn reset(stream: TcpStream) {
    set_socket_linger(&stream, Some(Duration::ZERO)).expect("a socket");
    drop(stream);
}

async fn backend() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let description = format!("tcp:127.0.0.1:{}", listener.local_addr().expect("an address").port());
    (listener, description)
}

async fn a_reset_is_passed_on_both_ways(world: &World) {
    let (backend, description) = backend().await;
    let relay = Relay::start(world, "tcp:0:127.0.0.1", &description, |forward| forward).await;
    for from_backend in [true, false] {
        let client = relay.connect().await;
        let (accepted, _) = in_time(backend.accept()).await.expect("the relay connects");
        let (mut breaks, mut hears) = if from_backend { (accepted, client) } else { (client, accepted) };
        breaks.write_all(&[7; 1000]).await.expect("written");
        hears.read_exact(&mut [0; 1000]).await.expect("what came before is passed on");
        reset(breaks);
        assert_eq!(read_out(&mut hears).await, (0, Some(io::ErrorKind::ConnectionReset)), "{from_backend}");
    }
    let errors = relay.end().await;
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].1.contains("reading from the connected one"), "{errors:?}");
    assert!(errors[1].1.contains("reading from the accepted connection"), "{errors:?}");
    assert!(errors.iter().all(|(kind, _)| *kind == ErrorKind::ConnectionReset), "{errors:?}");
}

async fn a_client_whose_backend_is_down_sees_a_reset(world: &World) {
    let description = format!("tcp:127.0.0.1:{}", closed_port());
    let relay = Relay::start(world, "tcp:0:127.0.0.1", &description, |forward| forward).await;
    let mut client = relay.connect().await;
    assert_eq!(read_out(&mut client).await, (0, Some(io::ErrorKind::ConnectionReset)));
    let errors = relay.end().await;
    assert!(matches!(errors.as_slice(), [(ErrorKind::ConnectionRefused, _)]), "{errors:?}");
}

async fn a_cut_of_tls_is_no_failed_handshake(world: &World) {
    let Some(files) = pki().map(|folder| folder.join("pki")) else { return };
    let (listener, client) = backend().await;
    let relay = Relay::start(world, &tls::server(&files, "server.pem", ""), &client, |forward| forward).await;
    let mut near = world.connect(&tls::client_to(&files, "localhost", relay.port, "")).await;
    near.write_all(b"hello").await.expect("write");
    let (mut far, _) = listener.accept().await.expect("accept");
    in_time(far.read_exact(&mut [0; 5])).await.expect("it is relayed");
    // Without a word of TLS.
    drop(near);
    assert_eq!(read_out(&mut far).await, (0, Some(io::ErrorKind::ConnectionReset)));
    let errors = relay.end().await;
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].0, ErrorKind::ConnectionReset, "{errors:?}");
}

/// In the middle, and while the backend is connected to: neither peer may take that for the end of what the other had to say.
async fn what_is_cut_is_reset(world: &World) {
    let at_once = |forward: Forward| forward.drain_timeout(Duration::from_millis(50));
    let (listener, client) = backend().await;
    let relay = Relay::start(world, LOCAL, &client, at_once).await;
    let mut near = relay.connect().await;
    near.write_all(b"half of the question").await.expect("write");
    let (mut far, _) = listener.accept().await.expect("accept");
    in_time(far.read_exact(&mut [0; 20])).await.expect("it is relayed");
    relay.end_with(1).await;
    for stream in [&mut near, &mut far] {
        assert_eq!(read_out(stream).await, (0, Some(io::ErrorKind::ConnectionReset)));
    }
    let full = FullBacklog::new();
    let relay = Relay::start(world, LOCAL, &full.client(""), at_once).await;
    let mut near = relay.connect().await;
    in_time(relay.accepted.notified()).await;
    relay.end_with(1).await;
    assert_eq!(read_out(&mut near).await, (0, Some(io::ErrorKind::ConnectionReset)));
}

async fn idle_connections_are_reset(world: &World) {
    let (backend, description) = backend().await;
    let limit = Duration::from_millis(200);
    let relay =
        Relay::start(world, "tcp:0:127.0.0.1", &description, |forward| forward.idle_timeout(limit)).await;
    let mut client = relay.connect().await;
    let (mut accepted, _) = in_time(backend.accept()).await.expect("the relay connects");
    assert_eq!(read_out(&mut client).await, (0, Some(io::ErrorKind::ConnectionReset)));
    assert_eq!(read_out(&mut accepted).await, (0, Some(io::ErrorKind::ConnectionReset)));
    let errors = relay.end().await;
    assert!(matches!(errors.as_slice(), [(ErrorKind::TimedOut, _)]), "{errors:?}");
}

async fn handshakes_have_a_limit(world: &World) {
    let (_backend, description) = backend().await;
    let server = format!("faulty:hang:endpoint={}", endpoints::quote_str("tcp:0:127.0.0.1"));
    let limit = Duration::from_millis(100);
    let relay = Relay::start(world, &server, &description, |forward| {
        forward.handshake_timeout(limit).max_connections(1)
    })
    .await;
    // The second one is served only because the first was given up.
    for _ in 0..2 {
        let mut client = relay.connect().await;
        assert_eq!(read_out(&mut client).await.0, 0);
    }
    let errors = relay.end().await;
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors.iter().all(|(kind, _)| *kind == ErrorKind::TimedOut), "{errors:?}");
}

async fn silent_clients_do_not_hold_the_end_up(world: &World) {
    let (_backend, description) = backend().await;
    let server = format!("faulty:hang:endpoint={}", endpoints::quote_str("tcp:0:127.0.0.1"));
    let relay = Relay::start(world, &server, &description, |forward| forward).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(relay.connect().await);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begun = std::time::Instant::now();
    let errors = relay.end().await;
    assert!(begun.elapsed() < Duration::from_secs(15), "the drain timeout is 30 s: {:?}", begun.elapsed());
    assert_eq!(errors.len(), 3, "{errors:?}");
    assert!(errors.iter().all(|(kind, _)| *kind == ErrorKind::Closed), "{errors:?}");
}

/// It sends without reading until nothing goes any more, and is gone.
async fn a_client_that_vanishes_holds_nothing(world: &World) {
    let (backend, description) = backend().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = backend.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    let set = |forward: Forward| forward.max_connections(1);
    let relay = Relay::start(world, LOCAL, &description, set).await;
    for by_reset in [true, false] {
        let mut client = relay.connect().await;
        let bytes = vec![7; 1 << 20];
        let full = async {
            loop {
                if tokio::time::timeout(Duration::from_millis(500), client.write(&bytes)).await.is_err() {
                    return;
                }
            }
        };
        in_time(full).await;
        if by_reset {
            reset(client);
        } else {
            drop(client);
        }
        let mut next = relay.connect().await;
        next.write_all(b"hello").await.expect("write");
        let answered = tokio::time::timeout(Duration::from_secs(8), next.read_exact(&mut [0; 5])).await;
        answered.expect("its turn comes at once").expect("read");
    }
    relay.end().await;
}

#[tokio::test]
async fn a_relay_that_is_dropped_tells_the_end() {
    let registry = endpoints::Registry::builder().default_plugin_path(false).build().expect("a registry");
    let server = registry.server(LOCAL).expect("a description");
    let listener = server.listen().await.expect("a listener");
    let target = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let description = format!("tcp:127.0.0.1:{}", target.local_addr().expect("its address").port());
    let told = Arc::new(Mutex::new(Vec::new()));
    let closed = Arc::clone(&told);
    let relay = endpoints::forward::Relay::new(registry.client(&description).expect("a description"));
    let relay = relay.on_event(move |event| {
        if let Event::Closed { id, bytes_in, bytes_out, .. } = event {
            closed.lock().unwrap().push((*id, *bytes_in, *bytes_out));
        }
    });
    let mut near = TcpStream::connect(("127.0.0.1", port(&listener))).await.expect("it listens");
    let incoming = listener.accept().await.expect("a connection");
    let relaying = tokio::spawn(async move { relay.serve(7, incoming).await });
    let (mut far, _) = in_time(target.accept()).await.expect("the other side");
    near.write_all(b"hello").await.expect("it reads");
    in_time(far.read_exact(&mut [0; 5])).await.expect("it is passed on");
    assert!(told.lock().unwrap().is_empty());
    relaying.abort();
    assert!(in_time(relaying).await.is_err());
    assert_eq!(*told.lock().unwrap(), [(7, 5, 0)]);
}
