//! Workers: who serves what, and what is left when serving ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use endpoints::serve::{Outcome, Serve, Workers};
use endpoints::{Connection, Incoming, Listener, fact as name};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::{World, around, both_forms, echo, files, folder_with, in_time, pki, reachable};
use crate::tls;

both_forms!(
    all_threads_serve,
    sessions_of_tls_are_resumed_by_any,
    what_stays_is_balanced,
    a_limit_starves_nobody,
    dropping_it_cuts_what_others_serve,
    workers_that_have_ended_are_done_without,
);

const LOCAL: &str = "tcp:0:interface=127.0.0.1";

/// How many connections each thread has served.
type Served = Arc<Mutex<HashMap<String, usize>>>;

fn handler(served: &Served) -> impl Fn(u64, Incoming) -> EchoOf + Send + Sync + 'static + use<> {
    let served = Arc::clone(served);
    move |_, incoming| {
        let served = Arc::clone(&served);
        Box::pin(async move {
            let name = thread::current().name().unwrap_or_default().to_owned();
            *served.lock().expect("no panic").entry(name).or_default() += 1;
            if let Ok(connection) = incoming.await {
                echo(connection).await;
            }
        })
    }
}

type EchoOf = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

fn start(
    listener: Listener,
    served: &Served,
    set: impl FnOnce(Serve) -> Serve,
) -> (oneshot::Sender<()>, JoinHandle<Outcome>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let serve = set(Serve::new(listener));
    let task = tokio::spawn(serve.run(handler(served), async move { drop(stopped.await) }));
    (stop, task)
}

async fn ping(connection: &mut Connection) {
    connection.write_all(b"ping").await.expect("write");
    let mut got = [0; 4];
    in_time(connection.read_exact(&mut got)).await.expect("its turn comes");
}

/// Connects until each thread has served one; this test's own is the third.
async fn connected_until_all_serve(world: &World, to: &str, served: &Served) -> Vec<Connection> {
    let mut open = Vec::new();
    in_time(async {
        while served.lock().expect("no panic").len() < 3 {
            let mut connection = world.connect(to).await;
            ping(&mut connection).await;
            open.push(connection);
        }
    })
    .await;
    open
}

async fn all_threads_serve(world: &World) {
    let folder = tempfile::tempdir().expect("a folder");
    let unix = format!("unix:{}", folder.path().join("s").display());
    let servers = [LOCAL.to_owned(), around("pass", LOCAL), around("pass", &around("pass", &unix)), unix];
    let workers = Workers::new(2).expect("threads");
    for server in servers {
        let listener = world.listen(&server).await;
        let reached_by = reachable(&listener);
        let served = Served::default();
        let (stop, task) = start(listener, &served, |serve| serve.workers(&workers));
        let open = connected_until_all_serve(world, &reached_by, &served).await;
        for mut connection in open {
            ping(&mut connection).await;
        }
        stop.send(()).expect("it runs");
        let outcome = in_time(task).await.expect("no panic");
        assert_eq!((outcome.cut, outcome.error.map(|error| error.to_string())), (0, None), "{server}");
        // Nobody listens any more.
        world.registry.client(&reached_by).expect("valid").connect().await.expect_err(&server);
        assert!(!folder.path().join("s").exists(), "{server}");
    }
}

async fn sessions_of_tls_are_resumed_by_any(world: &World) {
    let Some(files) = pki().map(|folder| folder.join("pki")) else { return };
    let listener = world.listen(&tls::server(&files, "server.pem", "")).await;
    let client = tls::client(&files, "localhost", &listener, "");
    let client = world.registry.client(client).expect("valid");
    let workers = Workers::new(2).expect("threads");
    // What each thread knows of the handshakes that it has done.
    let known = Arc::new(Mutex::new(HashMap::<ThreadId, Vec<_>>::new()));
    let (stop, stopped) = oneshot::channel::<()>();
    let handler = {
        let known = Arc::clone(&known);
        move |_, incoming: Incoming| {
            let known = Arc::clone(&known);
            async move {
                let connection = incoming.await.expect("a handshake");
                let fact = |name| connection.info().fact(name).map(<[u8]>::to_vec);
                let facts = (fact(name::TLS_RESUMED), fact(name::TLS_SNI));
                known.lock().expect("no panic").entry(thread::current().id()).or_default().push(facts);
                echo(connection).await;
            }
        }
    };
    let task =
        tokio::spawn(Serve::new(listener).workers(&workers).run(handler, async move { drop(stopped.await) }));
    let is_resumed = async || {
        let mut connection = client.connect().await.expect("connect");
        ping(&mut connection).await;
        connection.info().fact(name::TLS_RESUMED) == Some(b"1")
    };
    in_time(async {
        assert!(!is_resumed().await);
        // Each one takes a ticket and gives two, so that there are some for several at the same time.
        for _ in 0..4 {
            assert!(is_resumed().await);
        }
        // What comes one after the other may all be accepted by the thread that is the first to wake up.
        while known.lock().expect("no panic").len() < 3 {
            assert_eq!(tokio::join!(is_resumed(), is_resumed(), is_resumed()), (true, true, true));
        }
    })
    .await;
    let known: Vec<_> = known.lock().expect("no panic").values().flatten().cloned().collect();
    let full = known.iter().filter(|(resumed, _)| resumed.as_deref() == Some(b"0")).count();
    assert_eq!(full, 1, "{known:?}");
    assert!(known.iter().all(|(_, sni)| sni.as_deref() == Some(b"localhost")), "{known:?}");
    stop.send(()).expect("it runs");
    assert!(in_time(task).await.expect("no panic").error.is_none());
}

/// Where it is no socket that is listened on, one accepts, and all serve in turn.
#[tokio::test]
async fn all_threads_serve_what_a_plugin_accepts() {
    let folder = folder_with(&["endpoints_fixture_own_runtime"]);
    let registry = files(&[folder.path()]);
    let listener = registry.server("own:0").expect("valid").listen().await.expect("listen");
    let address = listener.addresses()[0].ip().expect("an address");
    let workers = Workers::new(2).expect("threads");
    let served = Served::default();
    let (stop, task) = start(listener, &served, |serve| serve.workers(&workers));
    let mut open = Vec::new();
    for _ in 0..9 {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(b"ping").await.expect("write");
        in_time(stream.read_exact(&mut [0; 4])).await.expect("an echo");
        open.push(stream);
    }
    let each: Vec<usize> = served.lock().expect("no panic").values().copied().collect();
    assert_eq!(each, [3, 3, 3]);
    drop(open);
    stop.send(()).expect("it runs");
    assert!(in_time(task).await.expect("no panic").error.is_none());
}

/// Connections that stay are shared fairly, whoever is quicker to accept them.
async fn what_stays_is_balanced(world: &World) {
    let workers = Workers::new(2).expect("threads");
    for server in [LOCAL.to_owned(), around("pass", LOCAL)] {
        let listener = world.listen(&server).await;
        let reached_by = reachable(&listener);
        let served = Served::default();
        let (stop, task) = start(listener, &served, |serve| serve.workers(&workers));
        let mut open = Vec::new();
        for _ in 0..60 {
            let mut connection = world.connect(&reached_by).await;
            ping(&mut connection).await;
            open.push(connection);
        }
        let each: Vec<usize> = served.lock().expect("no panic").values().copied().collect();
        assert!(each.len() == 3 && each.iter().all(|one| *one >= 16), "{server}: {each:?}");
        for connection in &mut open {
            ping(connection).await;
        }
        drop(open);
        stop.send(()).expect("it runs");
        assert_eq!(in_time(task).await.expect("no panic").cut, 0);
    }
}

/// Whoever has the place accepts whatever waits.
async fn a_limit_starves_nobody(world: &World) {
    let workers = Workers::new(3).expect("threads");
    let listener = world.listen(LOCAL).await;
    let reached_by = reachable(&listener);
    let (stop, task) =
        start(listener, &Served::default(), |serve| serve.workers(&workers).max_connections(1));
    for _ in 0..50 {
        let (mut first, mut second) = tokio::join!(world.connect(&reached_by), world.connect(&reached_by));
        let one = async {
            ping(&mut first).await;
            drop(first);
        };
        let other = async {
            ping(&mut second).await;
            drop(second);
        };
        tokio::join!(one, other);
    }
    stop.send(()).expect("it runs");
    assert_eq!(in_time(task).await.expect("no panic").cut, 0);
}

async fn dropping_it_cuts_what_others_serve(world: &World) {
    let workers = Workers::new(2).expect("threads");
    let listener = world.listen(LOCAL).await;
    let reached_by = reachable(&listener);
    let served = Served::default();
    let (_stop, task) = start(listener, &served, |serve| serve.workers(&workers));
    let open = connected_until_all_serve(world, &reached_by, &served).await;
    task.abort();
    for mut connection in open {
        // Ended or broken.
        assert_eq!(in_time(connection.read(&mut [0])).await.unwrap_or(0), 0);
    }
}

/// What they served is gone, but not what others do.
async fn workers_that_have_ended_are_done_without(world: &World) {
    let workers = Workers::new(2).expect("threads");
    workers.clone().shutdown_timeout(std::time::Duration::from_secs(10));
    let listener = world.listen(LOCAL).await;
    let reached_by = reachable(&listener);
    let (stop, task) = start(listener, &Served::default(), |serve| serve.workers(&workers));
    for _ in 0..10 {
        ping(&mut world.connect(&reached_by).await).await;
    }
    stop.send(()).expect("it runs");
    assert!(in_time(task).await.expect("no panic").error.is_none());
}
