//! Runtimes and threads: whichever there are, and however many registries.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use endpoints::{ConnectContext, Connection, ErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

use crate::support::{
    World, all_plugins, around, assert_kind, echo, exchange, files, in_time, port, reachable,
};

fn runtimes() -> [Runtime; 2] {
    let [mut one, mut many] = [Builder::new_current_thread(), Builder::new_multi_thread()];
    [
        one.enable_all().build().expect("a runtime"),
        many.worker_threads(2).enable_all().build().expect("a runtime"),
    ]
}

fn worlds() -> [World; 2] {
    [World::built_in(), World::loaded()]
}

const SERVERS: [&str; 2] = ["tcp:0:interface=127.0.0.1", r"pass:tcp\:0\:interface\=127.0.0.1"];

async fn talk(world: &World, server: &str) {
    let listener = world.listen(server).await;
    let (mut client, mut accepted) = world.pair(&listener).await;
    exchange(&mut client, &mut accepted).await;
    listener.close().await.expect("close");
}

#[test]
fn both_kinds_of_runtimes_serve() {
    for world in worlds() {
        for runtime in runtimes() {
            for server in SERVERS {
                runtime.block_on(in_time(talk(&world, server)));
            }
        }
    }
}

#[test]
fn a_registry_outlives_its_first_runtime() {
    for world in worlds() {
        for first in runtimes() {
            // An endpoint that is kept, as programs do.
            let server = world.registry.server(SERVERS[1]).expect("a server");
            let serve = async {
                let listener = server.listen().await.expect("listen");
                let (mut client, mut accepted) = world.pair(&listener).await;
                exchange(&mut client, &mut accepted).await;
            };
            first.block_on(in_time(serve));
            drop(first);
            for second in runtimes() {
                let again = async {
                    let listener = server.listen().await.expect("listen");
                    let (mut client, mut accepted) = world.pair(&listener).await;
                    exchange(&mut client, &mut accepted).await;
                    // What sleeps and resolves too.
                    let error = world.connect_error("tcp:no..body:80:timeout=20").await;
                    assert_kind(&error, ErrorKind::NameResolution);
                };
                second.block_on(in_time(again));
            }
        }
    }
}

/// Polls as an executor does that knows nothing of tokio.
fn drive<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
        thread::yield_now();
    }
}

#[test]
fn polled_outside_a_runtime_it_uses_the_latest_one() {
    for world in worlds() {
        let [first, _] = runtimes();
        first.block_on(in_time(talk(&world, SERVERS[0])));
        drop(first);
        let [_, second] = runtimes();
        let listener = second.block_on(world.listen(SERVERS[0]));
        // A name, as looking it up mostly takes more than one poll.
        let client = world.registry.client(format!("tcp:localhost:{}", port(&listener))).expect("a client");
        let mut pending = 0;
        for _ in 0..50 {
            let mut connecting = Box::pin(client.connect());
            let begun = second
                .block_on(async { pin!(&mut connecting).poll(&mut Context::from_waker(Waker::noop())) });
            let connected = match begun {
                Poll::Ready(connected) => connected,
                Poll::Pending => {
                    pending += 1;
                    drive(connecting)
                }
            };
            let mut client = connected.expect("the second runtime lives");
            second.block_on(in_time(async {
                let mut accepted = listener.accept().await.expect("accept").await.expect("handshake");
                exchange(&mut client, &mut accepted).await;
            }));
        }
        assert!(pending > 0, "nothing was polled outside");
    }
}

#[test]
fn without_a_runtime_there_is_an_error() {
    for world in worlds() {
        let client = world.registry.client("tcp:127.0.0.1:1").expect("a client");
        let context = ConnectContext::new().with_timeout(Duration::from_secs(1));
        let server = world.registry.server(SERVERS[0]).expect("a server");
        for _ in 0..2 {
            for error in [
                drive(client.connect()).map(drop).expect_err("no runtime"),
                drive(client.connect_with(context.clone())).map(drop).expect_err("no runtime"),
                drive(server.listen()).map(drop).expect_err("no runtime"),
            ] {
                assert_kind(&error, ErrorKind::Internal);
                assert!(error.message().contains("runtime"), "{error}");
            }
        }
        // The same once there was one.
        let [runtime, _] = runtimes();
        runtime.block_on(in_time(talk(&world, SERVERS[0])));
        drop(runtime);
        assert_kind(&drive(server.listen()).map(drop).expect_err("no runtime"), ErrorKind::Internal);
        assert_kind(
            &drive(client.connect_with(context)).map(drop).expect_err("no runtime"),
            ErrorKind::Internal,
        );
    }
}

#[tokio::test]
async fn registries_share_a_process_and_its_files() {
    let plugins = all_plugins();
    let registries: Vec<_> = (0..3).map(|_| files(&[plugins.path()])).collect();
    let mut listeners = Vec::new();
    for registry in &registries {
        listeners.push(registry.server(SERVERS[1]).expect("a server").listen().await.expect("listen"));
    }
    for listener in &listeners {
        for registry in &registries {
            let client = registry.client(reachable(listener)).expect("a client");
            let accepting = async { listener.accept().await.expect("accept").await.expect("handshake") };
            let (client, mut accepted) = tokio::join!(client.connect(), accepting);
            exchange(&mut client.expect("connect"), &mut accepted).await;
        }
    }
    // One that is dropped takes nothing from the others, nor from what it made.
    drop(registries);
    let listener = listeners.pop().expect("a listener");
    let mut client = World::built_in().connect(&format!("tcp:127.0.0.1:{}", port(&listener))).await;
    let mut accepted = listener.accept().await.expect("accept").await.expect("handshake");
    drop(listeners);
    exchange(&mut client, &mut accepted).await;
}

#[test]
fn endpoints_are_used_from_many_threads() {
    const THREADS: u8 = 8;
    const EACH: u8 = 10;
    for world in worlds() {
        for server in SERVERS {
            let [_, runtime] = runtimes();
            let listener = Arc::new(runtime.block_on(world.listen(server)));
            let clients = world.registry.client(reachable(&listener)).expect("a client");
            let serving = runtime.spawn({
                let listener = Arc::clone(&listener);
                async move {
                    loop {
                        let incoming = listener.accept().await.expect("accept");
                        tokio::spawn(async move { echo(incoming.await.expect("handshake")).await });
                    }
                }
            });
            thread::scope(|scope| {
                for number in 0..THREADS {
                    let clients = &clients;
                    scope.spawn(move || {
                        let [runtime, _] = runtimes();
                        runtime.block_on(in_time(async {
                            for round in 0..EACH {
                                let client = clients.connect().await.expect("connect");
                                echoes(client, &[number, round]).await;
                            }
                        }));
                    });
                }
            });
            serving.abort();
        }
    }
}

async fn echoes(mut client: Connection, bytes: &[u8]) {
    client.write_all(bytes).await.expect("write");
    client.shutdown().await.expect("shutdown");
    let mut back = Vec::new();
    client.read_to_end(&mut back).await.expect("read");
    assert_eq!(back, bytes);
}

#[test]
fn endpoints_are_made_by_many_threads_at_once() {
    // All ask for the plugin to be loaded at the same moment.
    let plugins = all_plugins();
    let registry = files(&[plugins.path()]);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let client = registry.client(around("pass", "tcp:127.0.0.1:1")).expect("a client");
                assert_eq!(client.scheme(), "pass");
            });
        }
    });
}
