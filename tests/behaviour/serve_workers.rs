//! Workers that end, or are blocked, while they serve.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use endpoints::forward::Forward;
use endpoints::serve::{Event, Outcome, Serve, Workers};
use endpoints::{Connection, Incoming, Listener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::support::{World, around, both_forms, echo, files, folder_with, in_time, reachable};

both_forms!(
    a_worker_that_is_blocked_holds_up_no_other_service,
    one_that_is_blocked_holds_up_no_stop,
    the_end_is_waited_for_no_longer_than_the_drain_timeout,
    workers_that_end_take_their_own_with_them,
);

const LOCAL: &str = "tcp:0:interface=127.0.0.1";

fn is_worker() -> bool {
    thread::current().name().is_some_and(|name| name.starts_with("worker-"))
}

/// Where workers are held.
#[derive(Default)]
struct Gate {
    /// How many are held, and whether no more are.
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    /// Blocks a worker.
    fn hold(&self) {
        if is_worker() {
            let mut state = self.state.lock().expect("no panic");
            state.0 += 1;
            drop(self.changed.wait_while(state, |(_, open)| !*open).expect("no panic"));
        }
    }

    fn held(&self) -> usize {
        self.state.lock().expect("no panic").0
    }
}

/// A service whose handlers block the workers, until it is dropped.
struct Blocked {
    gate: Arc<Gate>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Outcome>,
    _open: Vec<Connection>,
}

impl Blocked {
    async fn all_of(workers: &Workers, count: usize, world: &World) -> Self {
        let listener = world.listen(LOCAL).await;
        let to = reachable(&listener);
        let gate = Arc::new(Gate::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = Serve::new(listener).workers(workers).drain_timeout(Duration::from_millis(200));
        let handler = {
            let gate = Arc::clone(&gate);
            move |_, incoming: Incoming| {
                let gate = Arc::clone(&gate);
                async move {
                    gate.hold();
                    if let Ok(connection) = incoming.await {
                        echo(connection).await;
                    }
                }
            }
        };
        let task = tokio::spawn(serve.run(handler, async move { drop(stopped.await) }));
        let mut open = Vec::new();
        while gate.held() < count {
            open.push(world.connect(&to).await);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Self { gate, stop: Some(stop), task, _open: open }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        self.gate.state.lock().expect("no panic").1 = true;
        self.gate.changed.notify_all();
    }
}

fn start(listener: Listener, workers: &Workers) -> (oneshot::Sender<()>, JoinHandle<Outcome>) {
    let (stop, stopped) = oneshot::channel::<()>();
    // Says which thread it is, and echoes.
    let handler = |_, incoming: Incoming| async {
        if let Ok(mut connection) = incoming.await {
            let name: &[u8] = if is_worker() { b"there" } else { b"-here" };
            if connection.write_all(name).await.is_ok() {
                echo(connection).await;
            }
        }
    };
    let serve = Serve::new(listener).workers(workers);
    (stop, tokio::spawn(serve.run(handler, async move { drop(stopped.await) })))
}

/// A new connection, and whether a worker serves it.
async fn connect(world: &World, to: &str) -> (Connection, bool) {
    let mut connection = world.connect(to).await;
    let mut name = [0; 5];
    in_time(connection.read_exact(&mut name)).await.expect("it is served");
    (connection, &name == b"there")
}

async fn echoes(connection: &mut Connection) -> bool {
    connection.write_all(b"ping").await.is_ok() && in_time(connection.read_exact(&mut [0; 4])).await.is_ok()
}

async fn a_worker_that_is_blocked_holds_up_no_other_service(world: &World) {
    let workers = Workers::new(2).expect("threads");
    let _blocked = Blocked::all_of(&workers, 2, world).await;
    for server in [LOCAL.to_owned(), around("pass", LOCAL)] {
        let listener = world.listen(&server).await;
        let to = reachable(&listener);
        let (stop, task) = start(listener, &workers);
        // More than would stay with one before others have their share.
        let mut open = Vec::new();
        for _ in 0..20 {
            let (connection, is_there) = connect(world, &to).await;
            assert!(!is_there);
            open.push(connection);
        }
        drop(open);
        stop.send(()).expect("it runs");
        assert_eq!(in_time(task).await.expect("no panic").cut, 0);
        world.registry.client(&to).expect("valid").connect().await.expect_err("nobody listens");
    }
}

async fn one_that_is_blocked_holds_up_no_stop(world: &World) {
    let workers = Workers::new(2).expect("threads");
    let _blocked = Blocked::all_of(&workers, 2, world).await;
    let listener = world.listen(LOCAL).await;
    let to = reachable(&listener);
    let told = Arc::new(Mutex::new(Vec::new()));
    let observe = {
        let told = Arc::clone(&told);
        move |event: &Event<'_>| told.lock().expect("no panic").push(format!("{event:?}"))
    };
    // Told to at once: nothing of what begins is waited for.
    let serve = Serve::new(listener).workers(&workers).on_event(observe);
    let handler = |_, incoming| async { drop(incoming) };
    let mut run = std::pin::pin!(serve.run(handler, async { tokio::task::yield_now().await }));
    let limit = Duration::from_secs(1);
    let outcome = tokio::time::timeout(limit, &mut run).await.expect("it does not wait for workers");
    assert_eq!(outcome.cut, 0);
    assert_eq!(*told.lock().expect("no panic"), ["Draining", "ListenerClosed", "Stopped"]);
    world.registry.client(&to).expect("valid").connect().await.expect_err("nobody listens");
}

async fn the_end_is_waited_for_no_longer_than_the_drain_timeout(world: &World) {
    let workers = Workers::new(2).expect("threads");
    let mut blocked = Blocked::all_of(&workers, 2, world).await;
    blocked.stop.take().expect("once").send(()).expect("it runs");
    let outcome = in_time(&mut blocked.task).await.expect("no panic");
    // Those that block, at least: they are left behind.
    assert!(outcome.cut >= 2, "{outcome:?}");
    assert_eq!(blocked.gate.held(), 2);
}

async fn workers_that_end_take_their_own_with_them(world: &World) {
    for server in [LOCAL.to_owned(), around("pass", LOCAL)] {
        let workers = Workers::new(2).expect("threads");
        let listener = world.listen(&server).await;
        let to = reachable(&listener);
        let (stop, task) = start(listener, &workers);
        let mut open = Vec::new();
        for _ in 0..60 {
            open.push(connect(world, &to).await);
        }
        assert!((20..50).contains(&open.iter().filter(|(_, is_there)| *is_there).count()));
        let ending = workers.clone();
        spawn_blocking(move || ending.shutdown_timeout(Duration::from_secs(10))).await.expect("no panic");
        // Also those that a worker has accepted and another thread serves go on; but of a socket that a plugin has for its
        // handshake, the reactor is the worker's.
        let is_socket = server == LOCAL;
        for (connection, was_there) in &mut open {
            let goes_on = echoes(connection).await;
            assert!(if is_socket || *was_there { goes_on != *was_there } else { true }, "{server}");
        }
        for _ in 0..20 {
            let (mut connection, is_there) = connect(world, &to).await;
            assert!(!is_there && echoes(&mut connection).await);
        }
        drop(open);
        stop.send(()).expect("it runs");
        let outcome = in_time(task).await.expect("no panic");
        assert_eq!((outcome.cut, outcome.error.map(|error| error.to_string())), (0, None), "{server}");
    }
}

/// Where one accepts for all; and each connection that was told of comes to an end.
#[tokio::test]
async fn what_a_plugin_accepts_is_served_without_those_that_have_ended() {
    let folder = folder_with(&["endpoints_fixture_own_runtime", "endpoints_plugin_tcp"]);
    let registry = files(&[folder.path()]);
    let listening = |description: &'static str| {
        let server = registry.server(description).expect("valid");
        async move { server.listen().await.expect("listen") }
    };
    let (backend, listener) = (listening(LOCAL).await, listening("own:0").await);
    let address = listener.addresses()[0].ip().expect("an address");
    let client = registry.client(reachable(&backend)).expect("valid");
    let echoing = Serve::new(backend).run(
        |_, incoming| async {
            if let Ok(connection) = incoming.await {
                echo(connection).await;
            }
        },
        std::future::pending(),
    );
    let _backend = tokio::spawn(echoing);
    let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let observe = {
        let counts = Arc::clone(&counts);
        move |event: &Event<'_>| {
            let which = match event {
                Event::Accepted { .. } => 0,
                Event::Closed { .. } => 1,
                _ => return,
            };
            counts[which].fetch_add(1, Ordering::SeqCst);
        }
    };
    let workers = Workers::new(2).expect("threads");
    let (stop, stopped) = oneshot::channel::<()>();
    let forward = Forward::new(listener, client).workers(&workers).on_event(observe);
    let task = tokio::spawn(forward.run(async move { drop(stopped.await) }));
    let mut served = 0;
    let mut open = Vec::new();
    for round in 0..40 {
        if round == 20 {
            let ending = workers.clone();
            spawn_blocking(move || ending.shutdown_timeout(Duration::from_secs(10))).await.expect("no panic");
        }
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(b"ping").await.expect("write");
        served += usize::from(in_time(stream.read_exact(&mut [0; 4])).await.is_ok());
        open.push(stream);
    }
    assert_eq!(served, 40);
    drop(open);
    stop.send(()).expect("it runs");
    assert!(in_time(task).await.expect("no panic").error.is_none());
    let [accepted, closed] = counts.each_ref().map(|count| count.load(Ordering::SeqCst));
    assert_eq!((accepted, closed), (40, 40));
}

/// No runtime may be dropped where others run: that it cannot begin is an error there too.
#[tokio::test]
async fn that_there_is_no_thread_is_an_error() {
    const CHILD: &str = "ENDPOINTS_TEST_WITHOUT_THREADS";
    if std::env::var_os(CHILD).is_some() {
        let error = Workers::new(1).expect_err("no stack is as large as that");
        println!("the error is {error}");
        return;
    }
    // One that runs its tests on its main thread, and can begin no other.
    let mut test = Command::new(std::env::current_exe().expect("a path"));
    test.args(["--exact", "serve_workers::that_there_is_no_thread_is_an_error"]);
    test.args(["--test-threads=1", "--nocapture"]);
    test.env(CHILD, "1").env("RUST_MIN_STACK", (1_u64 << 50).to_string());
    let output = spawn_blocking(move || test.output()).await.expect("no panic").expect("it runs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("the error is "), "{told}{output:?}");
}
