//! What is told of handshakes that are done.

use std::net::SocketAddr;
use std::time::Duration;

use endpoints::serve::{Event, Outcome, Serve};
use endpoints::{ErrorKind, Incoming};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::{World, both_forms, in_time};

both_forms!(
    handshakes_are_told_with_their_time,
    a_handshake_is_told_however_it_is_awaited,
    no_handshake_is_told_of_what_has_none,
    a_handshake_that_failed_is_an_error_alone,
);

const LOCAL: &str = "tcp:0:interface=127.0.0.1";
const PROXIED: &str = "haproxy:tcp:0:interface=127.0.0.1";

#[derive(Debug, PartialEq)]
enum Told {
    Accepted(u64),
    /// With what is known of the peer by then.
    Established(u64, String),
    Error(u64, ErrorKind),
}

struct Served {
    address: SocketAddr,
    told: UnboundedReceiver<(Told, Duration)>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Outcome>,
}

impl Served {
    async fn start(world: &World, server: &str) -> Self {
        let listener = world.listen(server).await;
        let address = listener.addresses()[0].ip().expect("TCP");
        let (tell, told) = unbounded_channel();
        let observer = tell.clone();
        let serve = Serve::new(listener).on_event(move |event| {
            let told = match event {
                Event::Accepted { id, .. } => (Told::Accepted(*id), Duration::ZERO),
                Event::Established { id, connection, duration, .. } => {
                    let peer = connection.info().peer_addr().expect("an address").to_string();
                    (Told::Established(*id, peer), *duration)
                }
                _ => return,
            };
            let _ = observer.send(told);
        });
        let handle = move |id, incoming: Incoming| {
            let tell = tell.clone();
            async move {
                let established = if id % 2 == 0 {
                    incoming.establish(Duration::from_secs(60)).await
                } else {
                    incoming.await
                };
                match established {
                    Ok(mut connection) => drop(connection.read(&mut [0]).await),
                    Err(error) => _ = tell.send((Told::Error(id, error.kind()), Duration::ZERO)),
                }
            }
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(serve.run(handle, async move { drop(stopped.await) }));
        Self { address, told, stop, task }
    }

    async fn connect(&mut self, id: u64) -> TcpStream {
        let stream = TcpStream::connect(self.address).await.expect("it listens");
        assert_eq!(self.next().await.0, Told::Accepted(id));
        stream
    }

    async fn next(&mut self) -> (Told, Duration) {
        in_time(self.told.recv()).await.expect("it runs")
    }

    /// Stops it; there was nothing more to tell.
    async fn end(mut self) {
        self.stop.send(()).expect("it runs");
        in_time(self.task).await.expect("it does not panic");
        assert_eq!(self.told.try_recv().ok(), None);
    }
}

const HEADER: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\n";
const PEER: &str = "192.0.2.1:5000";

async fn handshakes_are_told_with_their_time(world: &World) {
    let mut served = Served::start(world, PROXIED).await;
    let mut slow = served.connect(1).await;
    tokio::time::sleep(Duration::from_millis(120)).await;
    slow.write_all(HEADER).await.expect("it reads");
    let (told, time) = served.next().await;
    assert_eq!(told, Told::Established(1, PEER.to_owned()));
    assert!(time >= Duration::from_millis(120) && time < Duration::from_secs(30), "{time:?}");
    drop(slow);
    served.end().await;
}

async fn a_handshake_is_told_however_it_is_awaited(world: &World) {
    let mut served = Served::start(world, PROXIED).await;
    for id in 1..=2 {
        let mut stream = served.connect(id).await;
        stream.write_all(HEADER).await.expect("it reads");
        assert_eq!(served.next().await.0, Told::Established(id, PEER.to_owned()));
    }
    served.end().await;
}

async fn no_handshake_is_told_of_what_has_none(world: &World) {
    let mut served = Served::start(world, LOCAL).await;
    for id in 1..=2 {
        let mut stream = served.connect(id).await;
        stream.write_all(b"x").await.expect("it reads");
        // It is closed once it was read from.
        let _ = in_time(stream.read(&mut [0])).await;
    }
    served.end().await;
}

async fn a_handshake_that_failed_is_an_error_alone(world: &World) {
    let mut served = Served::start(world, PROXIED).await;
    for id in 1..=2 {
        let mut stream = served.connect(id).await;
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("it reads");
        assert_eq!(served.next().await.0, Told::Error(id, ErrorKind::HandshakeFailed));
    }
    served.end().await;
}
