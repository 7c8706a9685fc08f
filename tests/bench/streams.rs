//! Bytes and connections: raw tokio, built-in, loaded, wrapped.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener as StdListener};
use std::thread;
use std::time::Duration;

use endpoints::{ClientEndpoint, Connection, Listener, Registry};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use crate::Plugins;
use crate::measure::{Table, thread_cpu};

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A peer that echoes, on a thread of its own.
fn echo_server() -> SocketAddr {
    let listener = StdListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || {
                let mut bytes = vec![0; 64 * 1024];
                stream.set_nodelay(true).ok();
                while let Ok(count @ 1..) = stream.read(&mut bytes) {
                    if stream.write_all(&bytes[..count]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

enum Stream {
    Raw(TcpStream),
    Ours(Connection),
}

/// CPU nanoseconds of this thread for each round trip of `size` bytes.
fn round_trips<S: AsyncRead + AsyncWrite + Unpin>(
    runtime: &Runtime,
    stream: &mut S,
    size: usize,
    count: u32,
) -> f64 {
    let mut bytes = vec![7; size];
    runtime.block_on(async {
        let begun = thread_cpu();
        for _ in 0..count {
            stream.write_all(&bytes).await.expect("the peer reads");
            stream.read_exact(&mut bytes).await.expect("the peer echoes");
        }
        (thread_cpu() - begun).as_secs_f64() * 1e9 / f64::from(count)
    })
}

/// Keeps this thread, and those that it starts, on one processor: waking a peer on another one costs ten times what is
/// measured here, and not the same each time.
fn pin() {
    let mut one = CpuSet::new();
    let Ok(allowed) = sched_getaffinity(None) else { return };
    if let Some(first) = (0..CpuSet::MAX_CPU).find(|processor| allowed.is_set(*processor)) {
        one.set(first);
        sched_setaffinity(None, &one).ok();
    }
}

pub(crate) fn run(quick: bool, plugins: &Plugins) {
    pin();
    let (built_in, loaded) = (plugins.built_in(), plugins.loaded());
    let rounds = if quick { 3 } else { 21 };
    for (size, count, wrapped) in [(64, 4_000, 1.10), (16 * 1024, 1_000, 1.05)] {
        let count = if quick { count / 10 } else { count };
        let runtime = runtime();
        let address = echo_server();
        let tcp = format!("tcp:127.0.0.1:{}", address.port());
        let wrap = |inner: &str| format!("pass:endpoint={}", endpoints::quote_str(inner));
        let raw = || {
            let stream = runtime.block_on(TcpStream::connect(address)).expect("the peer listens");
            stream.set_nodelay(true).ok();
            Stream::Raw(stream)
        };
        let ours = |registry: &Registry, description: &str| {
            let client =
                registry.client(description).unwrap_or_else(|error| panic!("{description}: {error}"));
            Stream::Ours(runtime.block_on(client.connect()).expect("the peer listens"))
        };
        let mut variants = vec![
            ("raw tokio".to_owned(), raw()),
            ("raw tokio again (the noise)".to_owned(), raw()),
            ("tcp, built in".to_owned(), ours(&built_in, &tcp)),
            ("tcp, from a .so".to_owned(), ours(&loaded, &tcp)),
            ("wrapped once, all from .so".to_owned(), ours(&loaded, &wrap(&tcp))),
            ("wrapped twice, all from .so".to_owned(), ours(&loaded, &wrap(&wrap(&tcp)))),
        ];
        let table = Table::measure(
            &format!("{size}-byte round trips, CPU of the client"),
            "ns",
            rounds,
            &mut variants,
            |stream| match stream {
                Stream::Raw(stream) => round_trips(&runtime, stream, size, count),
                Stream::Ours(stream) => round_trips(&runtime, stream, size, count),
            },
        );
        table.print(&[None, None, None, None, Some(wrapped), None]);
    }
    connections(quick, &built_in, &loaded);
}

enum Pair {
    Raw(TcpListener, SocketAddr),
    /// With the time limit that every description has, whether it is given or not.
    RawInTime(TcpListener, SocketAddr),
    Ours(Listener, ClientEndpoint),
}

const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Connects, accepts and closes; few enough that no ports run out, though each waits after its end.
fn connections(quick: bool, built_in: &Registry, loaded: &Registry) {
    let (rounds, count) = if quick { (3, 100) } else { (21, 300) };
    let runtime = runtime();
    let raw = || {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        (listener, address)
    };
    let pair = |(listener, address)| Pair::Raw(listener, address);
    let in_time = |(listener, address)| Pair::RawInTime(listener, address);
    let ours = |registry: &Registry, wrapped: bool| {
        let text = if wrapped { r"pass:tcp\:0\:127.0.0.1" } else { "tcp:0:127.0.0.1" };
        let server = registry.server(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let listener = runtime.block_on(server.listen()).expect("a port");
        let client = registry.client(listener.reachable().remove(0).into_text()).expect("it can be reached");
        Pair::Ours(listener, client)
    };
    let mut variants = vec![
        ("raw tokio".to_owned(), pair(raw())),
        ("raw tokio again (the noise)".to_owned(), pair(raw())),
        ("raw tokio, connect in a timeout".to_owned(), in_time(raw())),
        ("tcp, built in".to_owned(), ours(built_in, false)),
        ("tcp, from a .so".to_owned(), ours(loaded, false)),
        ("wrapped once, all from .so".to_owned(), ours(loaded, true)),
    ];
    let table =
        Table::measure("connect, accept and close, CPU of both", "ns", rounds, &mut variants, |pair| {
            runtime.block_on(async {
                let begun = thread_cpu();
                for _ in 0..count {
                    match pair {
                        Pair::Raw(listener, address) => {
                            let (connected, accepted) =
                                tokio::join!(TcpStream::connect(*address), listener.accept());
                            drop((connected.expect("connected"), accepted.expect("accepted")));
                        }
                        Pair::RawInTime(listener, address) => {
                            let connecting = tokio::time::timeout(TIME_LIMIT, TcpStream::connect(*address));
                            let (connected, accepted) = tokio::join!(connecting, listener.accept());
                            let connected = connected.expect("in time");
                            drop((connected.expect("connected"), accepted.expect("accepted")));
                        }
                        Pair::Ours(listener, client) => {
                            let (connected, accepted) =
                                tokio::join!(client.connect(), async { listener.accept().await?.await });
                            drop((connected.expect("connected"), accepted.expect("accepted")));
                        }
                    }
                }
                (thread_cpu() - begun).as_secs_f64() * 1e9 / f64::from(count)
            })
        });
    table.print(&[]);
}

/// What a wrapping layer costs where nothing else does.
pub(crate) fn memory(quick: bool, plugins: &Plugins) {
    let (rounds, count) = if quick { (5, 10_000) } else { (51, 100_000) };
    let registry = plugins.loaded();
    let runtime = runtime();
    let mut text = "memory".to_owned();
    let mut variants = Vec::new();
    for layers in 0..=4 {
        let client = registry.client(text.as_str()).unwrap_or_else(|error| panic!("{text}: {error}"));
        let stream = runtime.block_on(client.connect()).expect("memory is always there");
        variants.push((format!("{layers} layers"), stream));
        text = format!("pass:endpoint={}", endpoints::quote_str(&text));
    }
    for write in [false, true] {
        let title = format!("{} of 64 bytes in memory", if write { "writes" } else { "reads" });
        let table = Table::measure(&title, "ns", rounds, &mut variants, |stream| {
            runtime.block_on(async {
                // Without a budget each call is free to be ready, so that the call alone is measured.
                tokio::task::coop::unconstrained(async {
                    let mut bytes = [0; 64];
                    let begun = thread_cpu();
                    for _ in 0..count {
                        if write {
                            stream.write_all(&bytes).await.expect("memory takes all");
                        } else {
                            stream.read_exact(&mut bytes).await.expect("memory gives all");
                        }
                    }
                    (thread_cpu() - begun).as_secs_f64() * 1e9 / f64::from(count)
                })
                .await
            })
        });
        table.print(&[]);
        println!("  a layer: {:.1} ns (target 10)", (table.median(4) - table.median(0)) / 4.0);
    }
}
