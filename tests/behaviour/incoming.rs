//! Accepting: it waits for nobody's handshake, loses nothing, and ends cleanly.

use std::collections::HashSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use endpoints::{Address, Incoming};
use tokio::task::JoinSet;

use crate::support::{World, around, both_forms, echo, exchange, port, reachable, rest, say};
use crate::transport::servers;

both_forms!(
    silent_clients_hold_nobody_up,
    handshakes_that_never_end_hold_nobody_up,
    an_accept_that_is_dropped_loses_nothing,
    several_tasks_accept,
    the_address_is_free_after_close,
    a_dropped_incoming_closes_the_connection,
    a_handshake_goes_on_after_its_listener,
);

const MANY: usize = 100;

async fn silent_clients_hold_nobody_up(world: &World) {
    let plain = "tcp:0:interface=127.0.0.1:backlog=200";
    for server in [plain.to_owned(), around("pass", plain), around("pass", &around("pass", plain))] {
        let listener = world.listen(&server).await;
        let mut silent = Vec::new();
        for _ in 0..MANY {
            silent.push((world.reach(&listener).await, listener.accept().await.expect("accept")));
        }
        let mut client = world.reach(&listener).await;
        let mut accepted = listener.accept().await.expect("accept").await.expect("handshake");
        exchange(&mut client, &mut accepted).await;
        // Those that waited are as good as the last.
        let (mut client, incoming) = silent.swap_remove(7);
        exchange(&mut client, &mut incoming.await.expect("handshake")).await;
    }
}

async fn handshakes_that_never_end_hold_nobody_up(world: &World) {
    let server = around("faulty:hang", "tcp:0:interface=127.0.0.1:backlog=200");
    let listener = world.listen(&server).await;
    let plain = format!("tcp:127.0.0.1:{}", port(&listener));
    let mut handshakes = JoinSet::new();
    let mut clients = Vec::new();
    for _ in 0..MANY {
        clients.push(world.connect(&plain).await);
        let incoming = listener.accept().await.expect("accept");
        assert!(!incoming.is_ready());
        handshakes.spawn(async { incoming.await.map(drop) });
    }
    let last = world.connect(&plain).await;
    let incoming = listener.accept().await.expect("accept");
    assert_eq!(incoming.info().peer_addr(), last.info().local_addr(), "known before the handshake");
    assert!(handshakes.try_join_next().is_none(), "none of them has ended");
    handshakes.shutdown().await;
    // Giving a handshake up closes its connection.
    for mut client in clients {
        assert_eq!(rest(&mut client).await, b"");
    }
}

/// Polls once.
fn poll<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

async fn an_accept_that_is_dropped_loses_nothing(world: &World) {
    let folder = tempfile::tempdir().expect("a folder");
    for server in servers(folder.path()) {
        let listener = world.listen(&server).await;
        let mut accepted = Vec::new();
        for round in 0..20 {
            assert!(poll(listener.accept()).is_pending(), "{server}, round {round}");
            let client = world.reach(&listener).await;
            // Given up again and again, just as a `select!` does, until one has it.
            let incoming = loop {
                match poll(listener.accept()) {
                    Poll::Ready(incoming) => break incoming.expect("accept"),
                    Poll::Pending => tokio::task::yield_now().await,
                }
            };
            accepted.push((client, incoming.await.expect("handshake")));
        }
        for (client, accepted) in &mut accepted {
            exchange(client, accepted).await;
        }
    }
}

async fn several_tasks_accept(world: &World) {
    let folder = tempfile::tempdir().expect("a folder");
    for server in servers(folder.path()) {
        let listener = Arc::new(world.listen(&server).await);
        let mut tasks = JoinSet::new();
        for _ in 0..4 {
            let listener = Arc::clone(&listener);
            tasks.spawn(async move {
                let mut connections = JoinSet::new();
                loop {
                    let connection = listener.accept().await.expect("accept").await.expect("handshake");
                    connections.spawn(echo(connection));
                }
            });
        }
        // One that is given up while it waits must not take the others' turn with it.
        let given_up = tokio::spawn({
            let listener = Arc::clone(&listener);
            async move { listener.accept().await.map(drop) }
        });
        tokio::task::yield_now().await;
        given_up.abort();
        let _ = given_up.await;
        let mut clients = Vec::new();
        for _ in 0..40 {
            clients.push(world.reach(&listener).await);
        }
        for client in &mut clients {
            say_and_hear(client, b"hello").await;
        }
        tasks.shutdown().await;
        Arc::into_inner(listener).expect("the last").close().await.expect("close");
    }
}

async fn say_and_hear(client: &mut endpoints::Connection, words: &[u8]) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    client.write_all(words).await.expect("write");
    let mut back = vec![0; words.len()];
    client.read_exact(&mut back).await.expect("read");
    assert_eq!(back, words);
}

async fn the_address_is_free_after_close(world: &World) {
    let folder = tempfile::tempdir().expect("a folder");
    let unix = format!("unix:{}/s", folder.path().display());
    let first = world.listen("tcp:0:interface=127.0.0.1").await;
    let tcp = format!("tcp:{}:interface=127.0.0.1", port(&first));
    first.close().await.expect("close");
    for plain in [tcp, unix] {
        for server in [plain.clone(), around("pass", &plain), around("pass", &around("pass", &plain))] {
            for round in 0..10 {
                let listener = world.listen(&server).await;
                if round % 2 == 0 {
                    // Also with a connection open, and with one nobody has accepted.
                    let (mut client, mut accepted) = world.pair(&listener).await;
                    let _waiting = world.reach(&listener).await;
                    listener.close().await.expect("close");
                    say(&mut client, &mut accepted, b"still open").await;
                } else {
                    listener.close().await.expect("close");
                }
            }
            let listener = world.listen(&server).await;
            drop(listener);
            world.listen(&server).await;
        }
    }
}

async fn a_dropped_incoming_closes_the_connection(world: &World) {
    for server in ["tcp:0:interface=127.0.0.1".to_owned(), around("pass", "tcp:0:interface=127.0.0.1")] {
        let listener = world.listen(&server).await;
        let mut client = world.reach(&listener).await;
        drop(listener.accept().await.expect("accept"));
        assert_eq!(rest(&mut client).await, b"", "{server}");
    }
}

async fn a_handshake_goes_on_after_its_listener(world: &World) {
    for server in ["tcp:0:interface=127.0.0.1".to_owned(), around("pass", "tcp:0:interface=127.0.0.1")] {
        let listener = world.listen(&server).await;
        let mut client = world.reach(&listener).await;
        let incoming: Incoming = listener.accept().await.expect("accept");
        listener.close().await.expect("close");
        let mut accepted = incoming.await.expect("handshake");
        exchange(&mut client, &mut accepted).await;
    }
}

#[tokio::test]
async fn wrapped_listeners_tell_their_addresses() {
    let world = World::loaded();
    let listener = world.listen(&around("pass", &around("pass", "tcp:0:interface=127.0.0.1"))).await;
    let Some(Address::Ip(address)) = listener.addresses().first() else { panic!("{listener:?}") };
    let nested = format!(r"pass:endpoint=tcp\:host\=127.0.0.1\:port\={}", address.port());
    assert_eq!(reachable(&listener), around("pass:endpoint=", &nested).replacen("=:", "=", 1));
    let (client, accepted) = world.pair(&listener).await;
    let schemes = |connection: &endpoints::Connection| {
        connection.info().layers().iter().map(|layer| layer.scheme().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(schemes(&client), ["pass", "pass", "tcp"]);
    assert_eq!(schemes(&accepted), ["pass", "pass", "tcp"]);
    assert_eq!(client.info().peer_addr(), Some(Address::Ip(*address)));
    let own: HashSet<_> = [client.info().local_addr(), accepted.info().peer_addr()].into();
    assert_eq!(own.len(), 1, "the same address from both ends");
}
