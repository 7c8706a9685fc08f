//! A plugin that brings a runtime of its own: traffic, cancelling, and what becomes of its threads.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use endpoints::ErrorKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Mutex, MutexGuard};

use crate::support::World;

/// The threads of all instances are those of this process, so one test at a time has instances.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

fn worlds() -> [World; 2] {
    World::both("endpoints_fixture_own_runtime", "own")
}

/// How many threads of the plugin's runtimes there are.
fn threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("the threads of this process");
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim() == "own-runtime").count()
}

async fn assert_threads(wanted: usize) {
    let begun = Instant::now();
    while threads() != wanted {
        assert!(begun.elapsed() < Duration::from_secs(10), "{} threads, and not {wanted}", threads());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Serves one connection after another, each in a task, and sends everything back.
async fn serve(listener: endpoints::Listener) {
    loop {
        let incoming = listener.accept().await.expect("accept");
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(incoming.await.expect("handshake"));
            tokio::io::copy(&mut read, &mut write).await.expect("copy");
            write.shutdown().await.expect("shutdown");
        });
    }
}

async fn many_connections() {
    const CONNECTIONS: usize = 200;
    let _alone = alone().await;
    for world in worlds() {
        let listener = world.listen("own:0").await;
        let client = listener.reachable()[0].to_string();
        let serving = tokio::spawn(serve(listener));
        let mut talking = tokio::task::JoinSet::new();
        for number in 0..CONNECTIONS {
            // Half of them are read and written by the host's reactor on this side.
            let client =
                world.registry.client(format!("{client}:handover={}", number % 2)).expect("a client");
            talking.spawn(async move {
                let mut connection = client.connect().await.expect("connect");
                assert_eq!(connection.is_socket(), number % 2 == 1);
                let sent = vec![number as u8; 10_000];
                connection.write_all(&sent).await.expect("write");
                connection.shutdown().await.expect("shutdown");
                let mut back = Vec::new();
                connection.read_to_end(&mut back).await.expect("read");
                assert!(back == sent);
            });
        }
        while let Some(done) = talking.join_next().await {
            done.expect("an echo");
        }
        // However many connections: the threads are those of one runtime.
        assert!(threads() <= 2, "{}", threads());
        serving.abort();
    }
}

#[tokio::test]
async fn many_connections_on_one_thread() {
    many_connections().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_connections_on_several_threads() {
    many_connections().await;
}

#[tokio::test]
async fn cancelling_closes_what_was_opened() {
    let _alone = alone().await;
    for world in worlds() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        listener.set_nonblocking(true).expect("non-blocking");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        let port = listener.local_addr().expect("an address").port();
        let client = world.registry.client(format!("own:{port}:delay=60")).expect("a client");
        let mut accepted = tokio::select! {
            _ = client.connect() => panic!("it waits for a minute"),
            accepted = listener.accept() => accepted.expect("accept").0,
        };
        // The attempt was dropped when the other branch was ready.
        let ended = tokio::time::timeout(Duration::from_secs(10), accepted.read(&mut [0])).await;
        assert_eq!(ended.expect("soon").expect("read"), 0);
    }
}

#[tokio::test]
async fn errors_are_those_of_the_system() {
    let _alone = alone().await;
    for world in worlds() {
        let listener = world.listen("own:0").await;
        let port = listener.addresses()[0].port().expect("a port");
        let taken = world.registry.server(format!("own:{port}")).expect("a server").listen().await;
        assert_eq!(taken.expect_err("it is taken").kind(), ErrorKind::AddressInUse);
        listener.close().await.expect("close");
        let begun = Instant::now();
        // The socket is closed by the task that accepted, a moment later.
        loop {
            match world.try_connect(&format!("own:{port}")).await {
                Err(error) => break assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}"),
                Ok(_) => assert!(begun.elapsed() < Duration::from_secs(10), "it still listens"),
            }
        }
    }
}

#[tokio::test]
async fn without_its_runtime_it_works_compiled_in_alone() {
    let _alone = alone().await;
    let [compiled, loaded] = worlds();
    let listener = compiled.listen("own:0").await;
    let client = format!("{}:direct=1", listener.reachable()[0]);
    compiled.connect(&client).await;
    // There, the host's runtime is that of another tokio.
    let error = loaded.try_connect(&client).await.expect_err("there is no reactor");
    assert_eq!(error.kind(), ErrorKind::PluginPanicked, "{error}");
}

#[tokio::test]
async fn its_threads_end_with_what_uses_them() {
    let _alone = alone().await;
    assert_threads(0).await;
    for world in worlds() {
        let listener = world.listen("own:0").await;
        assert_threads(2).await;
        let client = listener.reachable()[0].to_string();
        let accepting = async { listener.accept().await.expect("accept").await.expect("handshake") };
        let (mut connected, mut accepted) = tokio::join!(world.connect(&client), accepting);
        drop(listener);
        drop(world);
        // The connection is still there, and so is what serves it.
        connected.write_all(b"x").await.expect("write");
        assert_eq!(accepted.read_u8().await.expect("read"), b'x');
        assert_threads(2).await;
        drop((connected, accepted));
        assert_threads(0).await;
    }
}
