//! Serving: limits on connections, handshakes and idleness, and what handlers are told when it is to stop.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use endpoints::serve::{Event, Outcome, Serve, WhenFull};
use endpoints::{Connection, ErrorKind, Incoming};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::{World, around, both_forms, echo, in_time, say};

both_forms!(
    one_address_has_a_limit_of_its_own,
    clients_of_a_proxy_are_counted_one_by_one,
    one_user_has_a_limit_of_its_own,
    a_limit_of_none_is_one,
    handshakes_beyond_the_limit_wait,
    what_is_established_is_no_handshake_any_more,
    a_handshake_has_its_time_however_it_is_awaited,
    idle_connections_end,
    reading_and_writing_may_wait_at_once,
    handlers_are_told_to_stop,
    a_handler_that_panics_ends_its_connection_alone,
    an_observer_that_panics_ends_nothing,
);

const LOCAL: &str = "tcp:0:interface=127.0.0.1";

/// What is served, and the errors that are told.
struct Served {
    reached_by: String,
    errors: UnboundedReceiver<(Option<u64>, ErrorKind, String)>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Outcome>,
}

impl Served {
    async fn start<F>(
        world: &World,
        server: &str,
        set: impl FnOnce(Serve) -> Serve,
        handle: impl Fn(u64, Incoming) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = world.listen(server).await;
        let reached_by = match listener.addresses().first().and_then(endpoints::Address::ip) {
            // With no wrapper around.
            Some(address) => format!("tcp:{address}"),
            None => crate::support::reachable(&listener),
        };
        let (told, errors) = unbounded_channel();
        let serve = Serve::new(listener).on_event(move |event| {
            if let Event::Error { id, error, .. } = event {
                let _ = told.send((*id, error.kind(), error.message().to_owned()));
            }
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(set(serve).run(handle, async move { drop(stopped.await) }));
        Self { reached_by, errors, stop, task }
    }

    /// One that echoes.
    async fn echo(world: &World, server: &str, set: impl FnOnce(Serve) -> Serve) -> Self {
        Self::start(world, server, set, |_, incoming| async {
            if let Ok(connection) = incoming.await {
                echo(connection).await;
            }
        })
        .await
    }

    fn address(&self) -> SocketAddr {
        self.reached_by.strip_prefix("tcp:").expect("TCP").parse().expect("an address")
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address()).await.expect("it listens")
    }

    async fn connect_from(&self, from: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(format!("{from}:0").parse().expect("an address")).expect("bind");
        socket.connect(self.address()).await.expect("it listens")
    }

    async fn error(&mut self) -> (Option<u64>, ErrorKind, String) {
        in_time(self.errors.recv()).await.expect("it runs")
    }

    /// Stops it; nothing more went wrong than was looked at, and nothing was cut.
    async fn end(mut self) {
        self.stop.send(()).expect("it runs");
        let outcome = in_time(self.task).await.expect("it does not panic");
        assert_eq!((outcome.cut, outcome.error.map(|error| error.to_string())), (0, None));
        assert_eq!(self.errors.try_recv().ok(), None);
    }
}

/// Whether something comes back.
async fn echoes(stream: &mut TcpStream) -> bool {
    let mut back = [0; 4];
    // Who is refused may see a reset already.
    stream.write_all(b"ping").await.is_ok() && matches!(in_time(stream.read_exact(&mut back)).await, Ok(4))
}

/// Connects again and again, until there is a place.
async fn eventually<T>(connect: impl AsyncFn() -> T, serves: impl AsyncFn(&mut T) -> bool) -> T {
    in_time(async {
        loop {
            let mut connection = connect().await;
            if serves(&mut connection).await {
                return connection;
            }
        }
    })
    .await
}

async fn one_address_has_a_limit_of_its_own(world: &World) {
    for server in [LOCAL.to_owned(), around("pass", LOCAL)] {
        let mut served = Served::echo(world, &server, |serve| serve.max_per_peer(2).acceptors(2)).await;
        let mut first = served.connect().await;
        let mut second = served.connect().await;
        assert!(echoes(&mut first).await && echoes(&mut second).await, "{server}");
        assert!(!echoes(&mut served.connect().await).await, "{server}");
        let (id, kind, message) = served.error().await;
        assert_eq!((id, kind), (None, ErrorKind::ResourceExhausted), "{message}");
        assert!(message.contains("from 127.0.0.1 ") && message.contains('2'), "{message}");
        // Others have places of their own, and those that are left are given again.
        let mut other = served.connect_from("127.0.0.2").await;
        assert!(echoes(&mut other).await, "{server}");
        drop(second);
        let third = eventually(async || served.connect().await, async |stream| echoes(stream).await).await;
        while let Ok((_, kind, _)) = served.errors.try_recv() {
            assert_eq!(kind, ErrorKind::ResourceExhausted);
        }
        drop((first, other, third));
        served.end().await;
    }
}

async fn clients_of_a_proxy_are_counted_one_by_one(world: &World) {
    let server = format!("haproxy:{LOCAL}");
    let mut served = Served::start(
        world,
        &server,
        |serve| serve.max_per_peer(1),
        |_, incoming| async {
            match incoming.await {
                Ok(connection) => echo(connection).await,
                // Those that have said nothing to the end.
                Err(error) if error.kind() == ErrorKind::Cancelled => {}
                Err(error) => assert!(error.message().contains("from 192.0.2.1 "), "{error}"),
            }
        },
    )
    .await;
    let header = |client: &str| format!("PROXY TCP4 {client} 192.0.2.9 5000 443\r\n");
    // What has not said yet for whom it is takes no place, and neither does the proxy itself.
    let silent = [served.connect().await, served.connect().await];
    let mut clients = Vec::new();
    for client in ["192.0.2.1", "192.0.2.2"] {
        let mut stream = served.connect().await;
        stream.write_all(header(client).as_bytes()).await.expect("written");
        assert!(echoes(&mut stream).await, "{client}");
        clients.push(stream);
    }
    let mut again = served.connect().await;
    again.write_all(header("192.0.2.1").as_bytes()).await.expect("written");
    assert!(!echoes(&mut again).await);
    drop((silent, clients));
    let connect = async || {
        let mut stream = served.connect().await;
        stream.write_all(header("192.0.2.2").as_bytes()).await.expect("written");
        stream
    };
    // Its place is free again.
    let stream = eventually(connect, async |stream| echoes(stream).await).await;
    drop(stream);
    // It is the handler that has heard of the refusal.
    assert_eq!(served.errors.try_recv().ok(), None);
    served.end().await;
}

async fn one_user_has_a_limit_of_its_own(world: &World) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = format!("unix:{}/s", folder.path().display());
    let mut served = Served::echo(world, &server, |serve| serve.max_per_peer(1)).await;
    let mut first = world.connect(&served.reached_by).await;
    first.write_all(b"ping").await.expect("write");
    first.read_exact(&mut [0; 4]).await.expect("echo");
    let mut second = world.connect(&served.reached_by).await;
    assert_eq!(second.read(&mut [0]).await.unwrap_or(0), 0);
    let (_, kind, message) = served.error().await;
    let user = format!("from user {} ", rustix::process::geteuid().as_raw());
    assert!(kind == ErrorKind::ResourceExhausted && message.contains(&user), "{message}");
    drop((first, second));
    served.end().await;
}

async fn a_limit_of_none_is_one(world: &World) {
    for acceptors in [0, usize::MAX] {
        let set =
            |serve: Serve| serve.max_connections(0).max_per_peer(0).max_handshakes(0).acceptors(acceptors);
        let mut served = Served::echo(world, LOCAL, |serve| set(serve).when_full(WhenFull::Refuse)).await;
        let mut first = served.connect().await;
        assert!(echoes(&mut first).await);
        assert!(!echoes(&mut served.connect().await).await);
        let (_, kind, message) = served.error().await;
        assert!(kind == ErrorKind::ResourceExhausted && message.contains("1 are open"), "{message}");
        drop(first);
        served.end().await;
    }
}

async fn handshakes_beyond_the_limit_wait(world: &World) {
    const MANY: usize = 5;
    let (pending, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (done, mut ended) = unbounded_channel();
    let seen = Arc::clone(&most);
    let limit = Duration::from_millis(50);
    let set = |serve: Serve| serve.max_handshakes(2).handshake_timeout(limit).acceptors(3);
    let served = Served::start(world, &around("faulty:hang", LOCAL), set, move |_, incoming| {
        // From accepting on.
        seen.fetch_max(pending.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let (pending, done) = (Arc::clone(&pending), done.clone());
        async move {
            let error = incoming.await.map(drop).expect_err("it hangs");
            // Its place was given back just now, and nobody else has run since: there is one thread.
            pending.fetch_sub(1, Ordering::SeqCst);
            let _ = done.send(error.kind());
        }
    })
    .await;
    let mut clients = Vec::new();
    for _ in 0..MANY {
        clients.push(served.connect().await);
    }
    // All have their turn.
    for _ in 0..MANY {
        assert_eq!(in_time(ended.recv()).await, Some(ErrorKind::TimedOut));
    }
    let most = most.load(Ordering::SeqCst);
    assert!((1..=2).contains(&most), "{most} at a time");
    served.end().await;
}

async fn what_is_established_is_no_handshake_any_more(world: &World) {
    for server in [LOCAL.to_owned(), around("pass", LOCAL)] {
        let served = Served::echo(world, &server, |serve| serve.max_handshakes(1)).await;
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut client = served.connect().await;
            assert!(echoes(&mut client).await, "{server}");
            clients.push(client);
        }
        drop(clients);
        served.end().await;
    }
}

async fn a_handshake_has_its_time_however_it_is_awaited(world: &World) {
    let (done, mut ended) = unbounded_channel();
    let limit = Duration::from_millis(50);
    let set = |serve: Serve| serve.handshake_timeout(limit);
    let served = Served::start(world, &around("faulty:hang", LOCAL), set, move |id, incoming| {
        let done = done.clone();
        async move {
            let result = match id {
                1 => incoming.await,
                // The shorter limit counts.
                2 => incoming.establish(Duration::from_secs(3600)).await,
                _ => incoming.establish(Duration::from_millis(1)).await,
            };
            let _ = done.send(result.map(drop).expect_err("it hangs"));
        }
    })
    .await;
    for limit in ["50ms", "50ms", "1ms"] {
        let mut client = served.connect().await;
        let error = in_time(ended.recv()).await.expect("it runs");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.message().ends_with(&format!(" {limit}")), "{error}");
        assert_eq!(in_time(client.read(&mut [0])).await.unwrap_or(0), 0, "it is closed");
    }
    served.end().await;
}

async fn idle_connections_end(world: &World) {
    for server in [LOCAL.to_owned(), around("pass", LOCAL)] {
        let (done, mut ended) = unbounded_channel();
        let set = |serve: Serve| serve.idle_timeout(Duration::from_millis(200));
        let served = Served::start(world, &server, set, move |_, incoming| {
            let done = done.clone();
            async move {
                let mut connection = incoming.await.expect("handshake");
                connection.read_exact(&mut [0; 5]).await.expect("what came");
                let error = connection.read(&mut [0]).await.expect_err("nothing comes");
                // A last word is still possible.
                let said = connection.write_all(b"too late").await;
                let _ = done.send((error.kind(), said.is_ok()));
            }
        })
        .await;
        let mut client = served.connect().await;
        client.write_all(b"hello").await.expect("write");
        assert_eq!(in_time(ended.recv()).await, Some((io::ErrorKind::TimedOut, true)), "{server}");
        let mut last = String::new();
        in_time(client.read_to_string(&mut last)).await.expect("its end");
        assert_eq!(last, "too late");
        served.end().await;
    }
}

async fn reading_and_writing_may_wait_at_once(world: &World) {
    for server in [LOCAL.to_owned(), around("pass", LOCAL)] {
        let listener = world.listen(&server).await;
        let (client, mut accepted) = world.pair(&listener).await;
        accepted.set_idle_timeout(Some(Duration::from_millis(200)));
        let (mut reading, mut writing) = tokio::io::split(accepted);
        // Each in a task of its own, none of which must be forgotten.
        let read = tokio::spawn(async move { reading.read(&mut [0]).await.map(drop) });
        let written = tokio::spawn(async move {
            loop {
                writing.write_all(&[7; 1 << 16]).await?;
            }
        });
        for ended in [in_time(read).await, in_time(written).await] {
            let error: io::Error = ended.expect("it does not panic").expect_err("nothing moves");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{server}");
        }
        drop(client);
        // Without a limit it is as before.
        let (mut client, mut accepted) = world.pair(&listener).await;
        accepted.set_idle_timeout(Some(Duration::ZERO));
        accepted.set_idle_timeout(None);
        say(&mut client, &mut accepted, b"there").await;
        let waited = tokio::time::timeout(Duration::from_millis(50), accepted.read(&mut [0])).await;
        waited.expect_err("it waits");
    }
}

async fn handlers_are_told_to_stop(world: &World) {
    for server in [LOCAL.to_owned(), around("pass", LOCAL)] {
        let set = |serve: Serve| serve.drain_timeout(Duration::from_secs(3600));
        let served = Served::start(world, &server, set, |_, incoming| async {
            let stopping = incoming.stopping();
            let mut connection: Connection = incoming.await.expect("handshake");
            assert!(!stopping.is_stopping());
            connection.write_all(b"hello").await.expect("write");
            // As one that stays open between requests.
            let (mut byte, also) = ([0], stopping.clone());
            tokio::select! {
                read = connection.read(&mut byte) => panic!("nothing is sent: {read:?}"),
                () = also.wait() => {}
            }
            assert!(stopping.is_stopping());
            connection.write_all(b"bye").await.expect("write");
        })
        .await;
        let mut client = served.connect().await;
        client.read_exact(&mut [0; 5]).await.expect("it is served");
        let (ended, rest) = tokio::join!(served.end(), async {
            let mut rest = String::new();
            in_time(client.read_to_string(&mut rest)).await.expect("its end");
            rest
        });
        assert_eq!((ended, rest.as_str()), ((), "bye"));
        // Where nobody serves, nobody stops.
        let listener = world.listen(&server).await;
        let _client = world.reach(&listener).await;
        let stopping = listener.accept().await.expect("accept").stopping();
        assert!(!stopping.is_stopping());
        let waited = tokio::time::timeout(Duration::from_millis(20), stopping.wait()).await;
        waited.expect_err("it waits");
    }
}

async fn a_handler_that_panics_ends_its_connection_alone(world: &World) {
    for server in [LOCAL.to_owned(), around("pass", LOCAL)] {
        let mut served = Served::start(world, &server, std::convert::identity, |id, incoming| {
            // Before there is a future.
            assert!(id != 2, "at once");
            async move {
                let connection = incoming.await.expect("handshake");
                assert!(id != 3, "later");
                echo(connection).await;
            }
        })
        .await;
        let mut first = served.connect().await;
        assert!(echoes(&mut first).await, "{server}");
        for (number, why) in [(2, "at once"), (3, "later")] {
            let mut client = served.connect().await;
            assert_eq!(in_time(client.read(&mut [0])).await.unwrap_or(0), 0, "{server}");
            let (id, kind, message) = served.error().await;
            assert_eq!((id, kind), (Some(number), ErrorKind::Internal), "{message}");
            assert!(message.ends_with(why), "{message}");
        }
        // Those of others, before and after, go on.
        let mut last = served.connect().await;
        assert!(echoes(&mut first).await && echoes(&mut last).await, "{server}");
        drop((first, last));
        served.end().await;
    }
}

async fn an_observer_that_panics_ends_nothing(world: &World) {
    let listener = world.listen(LOCAL).await;
    let address = listener.addresses()[0].ip().expect("TCP");
    let (told, mut events) = unbounded_channel();
    let serve = Serve::new(listener).on_event(move |event| {
        let _ = told.send(format!("{event:?}").split(' ').next().map(str::to_owned));
        panic!("on purpose");
    });
    let (stop, stopped) = oneshot::channel::<()>();
    let handle = |_, incoming: Incoming| async { echo(incoming.await.expect("handshake")).await };
    let task = tokio::spawn(serve.run(handle, async move { drop(stopped.await) }));
    let connect = async || TcpStream::connect(address).await.expect("it listens");
    let mut clients = [connect().await, connect().await];
    for client in &mut clients {
        assert!(echoes(client).await);
    }
    stop.send(()).expect("it runs");
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| last != "ListenerClosed") {
        seen.push(in_time(events.recv()).await.flatten().expect("it goes on"));
    }
    assert_eq!(seen, ["Accepted", "Accepted", "Draining", "ListenerClosed"]);
    for client in &mut clients {
        assert!(echoes(client).await);
    }
    drop(clients);
    let outcome = in_time(task).await.expect("it does not panic");
    assert_eq!((outcome.cut, outcome.error.map(|error| error.to_string())), (0, None));
}
