//! Nothing stays open behind an operation that was given up, or behind many that were not.
//!
//! Descriptors are counted for the whole process, so these bodies have a process of their own and run one by one.

#[path = "../behaviour/support.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "the bodies here use a part of it")]
mod support;

use std::fs;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use endpoints::{Connection, ErrorKind, Listener};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::runtime::Builder;

use support::{FullBacklog, World, around, in_time, port, reachable, rest};

/// Runs a body in both forms, alone.
fn alone(body: &impl AsyncFn(&World)) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for world in [World::built_in(), World::loaded()] {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(in_time(body(&world)));
    }
}

/// How many descriptors are open.
fn count() -> usize {
    fs::read_dir("/proc/self/fd").expect("the descriptors").count()
}

/// Runs a round often. After the first, which may load plugins, there must be no more descriptors than before.
async fn leaves_nothing(what: &str, rounds: usize, round: impl AsyncFn()) {
    round().await;
    let before = settled(|now| now > 0).await;
    for _ in 0..rounds {
        round().await;
    }
    // The other end of a connection may be closed by another task.
    let after = settled(|now| now <= before).await;
    assert!(after <= before, "{what}: {before} descriptors before, {after} after {rounds} rounds");
}

async fn settled(good: impl Fn(usize) -> bool) -> usize {
    let begun = Instant::now();
    loop {
        let now = count();
        if good(now) || begun.elapsed() > Duration::from_secs(5) {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Polls a few times, as long as it has not ended, and drops it.
async fn given_up<F: Future>(future: F) {
    let mut future = Box::pin(future);
    for _ in 0..5 {
        assert!(poll(future.as_mut()).is_pending(), "it is not to end");
        tokio::task::yield_now().await;
    }
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

const LOCAL: &str = "tcp:0:interface=127.0.0.1:backlog=1000";

#[test]
fn connecting_to_a_full_backlog() {
    alone(&async |world| {
        let full = FullBacklog::new();
        let folder = tempfile::tempdir().expect("a folder");
        let unix = format!("unix:{}/s", folder.path().display());
        let listener = world.listen(&format!("{unix}:backlog=0")).await;
        let _filler = world.reach(&listener).await;
        let tcp = full.client("");
        let socks = format!("socks5:t.example:80:proxy={}", endpoints::quote_str(&tcp));
        for client in [tcp.clone(), unix, around("pass", &tcp), around("pass", &around("pass", &tcp)), socks]
        {
            let endpoint = world.registry.client(client.as_str()).expect("a client");
            leaves_nothing(&client, 50, async || given_up(endpoint.connect()).await).await;
            // Given up after the name was resolved, and by a limit of its own.
            let limited = async || {
                let limit = Duration::from_millis(5);
                tokio::time::timeout(limit, endpoint.connect()).await.expect_err("it is not to end");
            };
            leaves_nothing(&client, 10, limited).await;
        }
    });
}

#[test]
fn shaking_hands() {
    alone(&async |world| {
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let tcp = format!("tcp:{}", silent.local_addr().expect("an address"));
        let socks = format!("socks5:t.example:80:proxy={}", endpoints::quote_str(&tcp));
        let hang = around("faulty:hang", &tcp);
        for client in [around("pass", &hang), around("pass", &around("pass", &socks)), hang, socks] {
            let endpoint = world.registry.client(client.as_str()).expect("a client");
            let round = async || {
                let mut connecting = Box::pin(endpoint.connect());
                let (mut accepted, _) = tokio::select! {
                    accepted = silent.accept() => accepted.expect("accept"),
                    _ = &mut connecting => panic!("the handshake is not to end"),
                };
                // In the midst of it.
                given_up(connecting).await;
                // The peer sees that it was closed, after what was sent.
                let mut sent = Vec::new();
                tokio::io::AsyncReadExt::read_to_end(&mut accepted, &mut sent).await.expect("its end");
            };
            leaves_nothing(&client, 50, round).await;
        }
    });
}

#[test]
fn resolving() {
    alone(&async |world| {
        for client in ["tcp:no..body:80", "tcp:localhost:1", "tcp:127.0.0.1:1:bindAddress=localhost"] {
            let endpoint = world.registry.client(client).expect("a client");
            let round = async || {
                // The first poll only begins the look-up.
                let _ = poll(Box::pin(endpoint.connect()).as_mut());
            };
            leaves_nothing(client, 50, round).await;
        }
    });
}

#[test]
fn accepting() {
    alone(&async |world| {
        let folder = tempfile::tempdir().expect("a folder");
        let unix = format!("unix:{}/s", folder.path().display());
        for server in [LOCAL.to_owned(), unix, around("pass", LOCAL), around("faulty:hang", LOCAL)] {
            let listener = world.listen(&server).await;
            leaves_nothing(&server, 100, async || given_up(listener.accept()).await).await;
        }
        // The handshake of what was accepted.
        let listener = world.listen(&around("faulty:hang", LOCAL)).await;
        let plain = world.registry.client(format!("tcp:127.0.0.1:{}", port(&listener))).expect("a client");
        let round = async || {
            let mut client = plain.connect().await.expect("connect");
            let incoming = listener.accept().await.expect("accept");
            given_up(incoming.into_future()).await;
            assert_eq!(rest(&mut client).await, b"");
        };
        leaves_nothing("a handshake", 50, round).await;
    });
}

#[test]
fn listening() {
    alone(&async |world| {
        let folder = tempfile::tempdir().expect("a folder");
        let unix = format!("unix:{}/s", folder.path().display());
        for server in [LOCAL.to_owned(), around("pass", LOCAL), unix.clone(), around("pass", &unix)] {
            let endpoint = world.registry.server(server.as_str()).expect("a server");
            leaves_nothing(&server, 100, async || drop(endpoint.listen().await.expect("listen"))).await;
            let closed = async || endpoint.listen().await.expect("listen").close().await.expect("close");
            leaves_nothing(&server, 100, closed).await;
            let listener = endpoint.listen().await.expect("listen");
            if server == unix {
                leaves_nothing("a taken path", 100, async || {
                    drop(endpoint.listen().await.expect_err("taken"));
                })
                .await;
            }
            drop(listener);
        }
        let named = world.registry.server("tcp:0:interface=localhost").expect("a server");
        let begun = async || {
            let _ = poll(Box::pin(named.listen()).as_mut());
        };
        leaves_nothing("resolving", 50, begun).await;
    });
}

#[test]
fn failing() {
    alone(&async |world| {
        let listener = world.listen(LOCAL).await;
        let plain = format!("tcp:127.0.0.1:{}", port(&listener));
        let refused = format!("tcp:127.0.0.1:{}", support::closed_port());
        for client in [
            refused.clone(),
            around("pass", &refused),
            around("faulty:panic-connect", &plain),
            around("faulty:panic-await", &plain),
            around("faulty:error", &plain),
        ] {
            let endpoint = world.registry.client(client.as_str()).expect("a client");
            let round = async || {
                endpoint.connect().await.expect_err("it fails");
                // What got as far as connecting waits to be accepted.
                let mut accepting = Box::pin(listener.accept());
                while let Poll::Ready(accepted) = poll(accepting.as_mut()) {
                    drop(accepted.expect("accept"));
                    accepting = Box::pin(listener.accept());
                }
            };
            leaves_nothing(&client, 50, round).await;
        }
    });
}

#[test]
fn running_out() {
    alone(&async |world| {
        for server in [LOCAL.to_owned(), around("pass", LOCAL)] {
            let listener = world.listen(&server).await;
            let endpoint = world.registry.client(reachable(&listener)).expect("a client");
            let mut client = endpoint.connect().await.expect("connect");
            let exhausted = Exhausted::new();
            let accepting = listener.accept().await;
            let connecting = endpoint.connect().await;
            drop(exhausted);
            for error in
                [accepting.map(drop).expect_err("no room"), connecting.map(drop).expect_err("no room")]
            {
                assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
                assert!(error.is_retryable(), "{error}");
            }
            // Nothing is lost: it waits still.
            let mut accepted = listener.accept().await.expect("accept").await.expect("handshake");
            support::exchange(&mut client, &mut accepted).await;
        }
    });
}

/// As many descriptors as the limit allows, and that limit; both are given back when it is dropped.
struct Exhausted {
    fillers: Vec<fs::File>,
    before: rustix::process::Rlimit,
}

impl Exhausted {
    fn new() -> Self {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let before = getrlimit(Resource::Nofile);
        // Until there is none with a number below the limit, which is what the limit counts.
        let open = fs::File::open("/dev/null").expect("one more");
        let highest = fs::read_dir("/proc/self/fd")
            .expect("the descriptors")
            .filter_map(|entry| entry.expect("an entry").file_name().to_str()?.parse::<u64>().ok());
        let highest = highest.max().expect("a descriptor");
        setrlimit(Resource::Nofile, Rlimit { current: Some(highest + 1), ..before }).expect("a lower limit");
        drop(open);
        let mut fillers = Vec::new();
        while let Ok(filler) = fs::File::open("/dev/null") {
            fillers.push(filler);
        }
        Self { fillers, before }
    }
}

impl Drop for Exhausted {
    fn drop(&mut self) {
        self.fillers.clear();
        let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, self.before);
    }
}

#[test]
fn serving_while_descriptors_are_short() {
    alone(&async |world| {
        served_while_descriptors_are_short(world, LOCAL, "").await;
        served_while_descriptors_are_short(world, &around("pass", LOCAL), "").await;
        served_while_descriptors_are_short(world, &format!("haproxy:{LOCAL}"), "PROXY UNKNOWN\r\n").await;
    });
}

/// Each connection begins with a header.
async fn served_while_descriptors_are_short(world: &World, server: &str, header: &str) {
    use endpoints::serve::{Event, Serve};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpSocket, TcpStream};
    let listener = world.listen(server).await;
    let address = listener.addresses()[0].ip().expect("an IP address");
    let (told, mut errors) = tokio::sync::mpsc::unbounded_channel();
    let serve = Serve::new(listener).on_event(move |event| {
        if let Event::Error { error, .. } = event {
            let _ = told.send((error.kind(), error.message().to_owned()));
        }
    });
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let handle = |_, incoming: endpoints::Incoming| async {
        support::echo(incoming.await.expect("the handshake")).await;
    };
    let serving = tokio::spawn(serve.run(handle, async { drop(stopped.await) }));
    let echoes = async |mut stream: TcpStream| {
        stream.write_all(b"ping").await.expect("write");
        in_time(stream.read_exact(&mut [0; 4])).await.expect("echo");
        stream
    };
    let connected = async || {
        let mut stream = TcpStream::connect(address).await.expect("connect");
        stream.write_all(header.as_bytes()).await.expect("write");
        echoes(stream).await
    };
    // Kept, as each that is closed leaves a descriptor to be served with.
    let mut open = vec![connected().await];
    // More than one time, with several that wait each time.
    for round in 0..2 {
        let sockets: Vec<_> = (0..3).map(|_| TcpSocket::new_v4().expect("a socket")).collect();
        let exhausted = Exhausted::new();
        let mut clients = Vec::new();
        for socket in sockets {
            let mut stream = socket.connect(address).await.expect("the backlog takes it");
            // It hears at once, though there is no descriptor for it.
            let ended = in_time(stream.read(&mut [0])).await;
            assert!(matches!(ended, Ok(0) | Err(_)), "{server}, round {round}: {ended:?}");
            clients.push(stream);
        }
        let (kind, message) = in_time(errors.recv()).await.expect("it is told");
        assert_eq!(kind, ErrorKind::ResourceExhausted, "{message}");
        assert!(message.ends_with("waited is closed") || message.ends_with("waited are closed"), "{message}");
        // The reserve is there again: nothing else can be opened.
        fs::File::open("/dev/null").map(drop).expect_err("there is none");
        drop(exhausted);
        // It recovers by itself, and what was open is open still.
        open.push(connected().await);
        while errors.try_recv().is_ok() {}
    }
    for stream in open {
        drop(echoes(stream).await);
    }
    stop.send(()).expect("it runs");
    let outcome = in_time(serving).await.expect("it does not panic");
    assert!(outcome.error.is_none() && outcome.cut == 0, "{outcome:?}");
}

#[test]
fn registries_of_the_same_file() {
    alone(&async |_: &World| {
        let make = async || {
            let world = World::loaded();
            world.registry.client("tcp:h:80").expect("tcp");
        };
        // The file that is loaded stays open, once for the process.
        make().await;
        leaves_nothing("another registry", 20, make).await;
    });
}

/// Whoever refuses those that wait, where there are no more descriptors, is told when none waits.
#[test]
fn looking_for_who_waits_takes_no_descriptor() {
    alone(&async |world| {
        let folder = tempfile::tempdir().expect("a folder");
        for server in [LOCAL.to_owned(), format!("unix:{}/s", folder.path().display())] {
            let listener = world.listen(&server).await;
            let endpoint = world.registry.client(reachable(&listener)).expect("a client");
            // As the reactor has it, another one may be waiting behind it.
            let _first = both(&endpoint, &listener).await;
            let before = getrlimit(Resource::Nofile);
            setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..before }).expect("a limit");
            let accepted = poll(Box::pin(listener.accept()).as_mut());
            setrlimit(Resource::Nofile, before).expect("a limit");
            assert!(accepted.is_pending(), "{server}: {accepted:?}");
            // Nor is who comes then overlooked.
            let _second = both(&endpoint, &listener).await;
        }
    });
}

#[test]
fn ten_thousand_connections() {
    alone(&async |world| {
        let folder = tempfile::tempdir().expect("a folder");
        let unix = format!("unix:{}/s", folder.path().display());
        let wrapped = around("pass", &format!("unix:{}/w", folder.path().display()));
        // Of TCP there is a share, as each takes a port; the rest goes over sockets that take none.
        for (server, rounds) in [(LOCAL.to_owned(), 2_000), (unix, 5_000), (wrapped, 3_000)] {
            let listener = world.listen(&server).await;
            let endpoint = world.registry.client(reachable(&listener)).expect("a client");
            let round = async || {
                let (client, accepted) = both(&endpoint, &listener).await;
                reset(client);
                drop(accepted);
            };
            leaves_nothing(&server, rounds, round).await;
        }
    });
}

async fn both(endpoint: &endpoints::ClientEndpoint, listener: &Listener) -> (Connection, Connection) {
    let accepting = async { listener.accept().await.expect("accept").await.expect("handshake") };
    let (client, accepted) = tokio::join!(endpoint.connect(), accepting);
    (client.expect("connect"), accepted)
}

/// Closes so that its port is free at once, where it is a bare socket.
fn reset(connection: Connection) {
    if let Ok(socket) = connection.into_socket() {
        let _ = rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
    }
}
