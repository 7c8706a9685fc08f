//! Everything at once, for long: nothing grows.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use endpoints::{ClientEndpoint, Connection, ErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, split};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::harness::{Service, port};
use crate::load::{ANY, alone};
use crate::process::{Process, wait_until};
use crate::support::{World, closed_port, pki};

/// How long it goes on, unless `ENDPOINTS_TEST_SOAK` says how many seconds.
const SECONDS: u64 = 90;

/// Pipes that a process keeps for the next ones, with two threads.
const KEPT: usize = 2 * 8;

/// Longer than tokio keeps a thread for the next call that blocks, which is 10 s.
const KEPT_ALIVE: Duration = Duration::from_secs(12);

/// A relay, and how it is reached.
struct Relayed {
    service: Service,
    process: Process,
    way: Way,
}

/// How a relay is connected to.
#[derive(Clone)]
struct Way {
    client: ClientEndpoint,
    /// What is sent first.
    first: &'static [u8],
    /// Whether there is a backend.
    answers: bool,
}

/// What a process holds while nobody is connected.
#[derive(Clone, Copy, Debug)]
struct Held {
    memory: usize,
    /// Without the pipes that are kept.
    descriptors: usize,
    threads: usize,
}

#[test]
#[ignore = "takes two minutes, or half a minute more than ENDPOINTS_TEST_SOAK says in seconds; `tests/run --full` does it"]
fn nothing_grows() {
    let _alone = alone();
    let seconds = std::env::var("ENDPOINTS_TEST_SOAK").map_or(SECONDS, |text| text.parse().expect("seconds"));
    let time = Duration::from_secs(seconds);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let relays = runtime.block_on(relays());
    let begin = (time / 10).min(Duration::from_secs(60));
    runtime.block_on(work(&relays, begin));
    let before = held(&relays);
    runtime.block_on(work(&relays, time - begin));
    let after = held(&relays);
    for ((before, after), relay) in before.iter().zip(&after).zip(relays.iter()) {
        let what = format!("{}: {before:?}, then {after:?}", relay.service.description);
        println!("{what}");
        assert!(after.descriptors <= before.descriptors && after.threads <= before.threads, "{what}");
        assert!(after.memory <= before.memory + before.memory / 10 + (1 << 20), "{what}");
    }
    for relay in relays {
        relay.service.stop();
    }
}

/// What they hold once the threads have ended that look after certificates, of which each worker may have had one or not.
fn held(relays: &[Relayed]) -> Vec<Held> {
    std::thread::sleep(KEPT_ALIVE);
    relays.iter().map(Relayed::held).collect()
}

async fn relays() -> Vec<Relayed> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let backend = format!("tcp:127.0.0.1:{}", listener.local_addr().expect("its address").port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = split(stream);
                let _ = copy(&mut read, &mut write).await;
                write.shutdown().await
            });
        }
    });
    let world = World::built_in();
    let relayed = |server: &str, backend: &str, client: &dyn Fn(u16) -> String, first| {
        let service = Service::start(["forward", server, backend, "--workers", "2"]);
        let client = client(port(&service.description.replace('\\', "")));
        let client = world.registry.client(client.as_str()).expect("a client");
        Relayed { process: Process::of(&service), service, way: Way { client, first, answers: true } }
    };
    let tcp = |port: u16| format!("tcp:127.0.0.1:{port}");
    let header: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\n";
    let refused = format!("tcp:127.0.0.1:{}", closed_port());
    let mut relays = vec![
        relayed(ANY, &backend, &tcp, b""),
        relayed(&format!("haproxy:{ANY}"), &backend, &tcp, header),
        relayed(ANY, &refused, &tcp, b""),
    ];
    relays[2].way.answers = false;
    if let Some(folder) = pki() {
        let quoted = |name: &str| {
            let path = folder.join("pki").join(name);
            endpoints::quote_str(path.to_str().expect("UTF-8")).into_owned()
        };
        let server = format!("tls:certificate={}:port=0:interface=127.0.0.1", quoted("server.pem"));
        let trust = quoted("trust");
        let client =
            |port: u16| format!(r"tls:localhost:443:trustRoots={trust}:endpoint=tcp\:127.0.0.1\:{port}");
        relays.push(relayed(&server, &backend, &client, b""));
    }
    relays
}

impl Relayed {
    /// What it holds now that nobody is connected any more.
    fn held(&self) -> Held {
        let open = || self.process.descriptors() - 2 * self.process.pipes();
        wait_until("pipes go back", || self.process.pipes() <= KEPT);
        // Those that were reset may go on for a moment.
        let (mut last, mut since) = (open(), Instant::now());
        while since.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(Duration::from_millis(50));
            let now = open();
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        Held { memory: self.process.memory(), descriptors: last, threads: self.process.threads() }
    }
}

impl Way {
    /// A connection; none where it was reset before it was seen, as there is no backend.
    async fn connect(&self) -> Option<Connection> {
        match self.client.connect().await {
            Ok(mut connection) => {
                connection.write_all(self.first).await.expect("it reads");
                Some(connection)
            }
            Err(error) if !self.answers && error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("it listens: {error}"),
        }
    }
}

/// All kinds of work with all relays, for so long.
async fn work(relays: &[Relayed], time: Duration) {
    let stop = Arc::new(AtomicBool::new(false));
    let rounds = Arc::new(AtomicU64::new(0));
    let mut work = JoinSet::new();
    for Relayed { way, .. } in relays {
        let mut begin = Begin { work: &mut work, way, stop: &stop, rounds: &rounds };
        if way.answers {
            begin.often(2, bulk);
            begin.often(4, ping_pong);
            begin.often(1, slow);
            begin.often(2, reset);
        } else {
            begin.often(2, refused);
        }
    }
    sleep(time).await;
    stop.store(true, Ordering::SeqCst);
    while let Some(ended) = work.join_next().await {
        ended.expect("no work fails");
    }
    println!("{} rounds", rounds.load(Ordering::SeqCst));
}

/// What begins work.
struct Begin<'a> {
    work: &'a mut JoinSet<()>,
    way: &'a Way,
    stop: &'a Arc<AtomicBool>,
    rounds: &'a Arc<AtomicU64>,
}

impl Begin<'_> {
    /// Does some work again and again, so many times at a time.
    fn often<F: Future<Output = ()> + Send + 'static>(&mut self, count: usize, round: fn(Connection) -> F) {
        for _ in 0..count {
            let (way, stop, rounds) = (self.way.clone(), Arc::clone(self.stop), Arc::clone(self.rounds));
            self.work.spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let round = async {
                        if let Some(connection) = way.connect().await {
                            round(connection).await;
                        }
                    };
                    tokio::time::timeout(Duration::from_secs(30), round).await.expect("it is not stuck");
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    }
}

const MUCH: usize = 4 << 20;

/// Much, there and back, with the end passed on.
async fn bulk(connection: Connection) {
    let (mut read, mut write) = split(connection);
    let writing = async {
        let block = vec![7; 256 * 1024];
        for _ in 0..MUCH / block.len() {
            write.write_all(&block).await.expect("it is taken");
        }
        write.shutdown().await.expect("the end is passed on");
    };
    let mut sink = tokio::io::sink();
    let (came, ()) = tokio::join!(copy(&mut read, &mut sink), writing);
    assert_eq!(came.expect("all of it"), MUCH as u64);
}

async fn ping_pong(mut connection: Connection) {
    for _ in 0..fastrand::usize(1..50) {
        connection.write_all(b"ping").await.expect("it is taken");
        connection.flush().await.expect("it is taken");
        connection.read_exact(&mut [0; 4]).await.expect("it answers");
    }
}

/// Reads slowly what comes back, and goes away in the midst of it.
async fn slow(connection: Connection) {
    let (mut read, mut write) = split(connection);
    let writing = async {
        let _ = write.write_all(&vec![7; MUCH]).await;
    };
    let reading = async {
        for _ in 0..100 {
            read.read_exact(&mut [0; 4096]).await.expect("bytes");
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = reading => {}
        () = async { writing.await; std::future::pending().await } => {}
    }
}

/// Goes away while bytes move both ways.
async fn reset(mut connection: Connection) {
    let some = vec![7; fastrand::usize(1..1 << 20)];
    let _ = tokio::time::timeout(Duration::from_millis(20), connection.write_all(&some)).await;
    connection.abort();
    // What was sent is still relayed; without a pause more would come than that takes, until no descriptor is left.
    sleep(Duration::from_millis(10)).await;
}

/// There is no backend.
async fn refused(mut connection: Connection) {
    assert_eq!(connection.read(&mut [0]).await.unwrap_or(0), 0);
    sleep(Duration::from_millis(2)).await;
}
