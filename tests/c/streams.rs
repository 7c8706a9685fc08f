//! What every stream must do, whoever made it: bodies that run over plugins in C alone, around others and inside others.

use std::io::IoSlice;
use std::time::Duration;

use endpoints::{Connection, Listener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{exchange, in_time, rest};
use crate::world::World;

/// Servers; clients reach them by what they tell.
const SERVERS: [&str; 9] = [
    "ctcp:127.0.0.1:0",
    r"ctcp:\:\:1:0",
    "ctcp:127.0.0.1:0:stream=host",
    r"cxor:k3y:tcp\:0\:interface\=127.0.0.1",
    r"cxor:k3y:ctcp\:127.0.0.1\:0",
    r"cxor:one:cxor\:other\:ctcp\\\:127.0.0.1\\\:0\\\:stream\\\=host",
    r"pass:cxor\:k\:ctcp\\\:127.0.0.1\\\:0",
    r"cxor:k:pass\:ctcp\\\:127.0.0.1\\\:0",
    r"pass:ctcp\:127.0.0.1\:0",
];

/// Runs a body over each of them.
async fn each(body: impl AsyncFn(&World, &Listener)) {
    let world = World::new();
    for server in SERVERS {
        println!("{server}");
        let listener = world.listen(server).await;
        in_time(body(&world, &listener)).await;
        in_time(listener.close()).await.expect("it closes");
    }
}

/// Bytes that show it when some are lost, doubled or exchanged.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

#[tokio::test]
async fn bytes_go_both_ways() {
    each(async |world, listener| {
        let (mut one, mut other) = world.pair(listener).await;
        exchange(&mut one, &mut other).await;
        exchange(&mut other, &mut one).await;
    })
    .await;
}

#[tokio::test]
async fn one_side_can_end_before_the_other() {
    each(async |world, listener| {
        for turned in [false, true] {
            let (mut one, mut other) = world.pair(listener).await;
            if turned {
                std::mem::swap(&mut one, &mut other);
            }
            one.write_all(b"that is all").await.expect("write");
            one.shutdown().await.expect("shut down");
            assert_eq!(rest(&mut other).await, b"that is all");
            other.write_all(b"but not from here").await.expect("write");
            other.shutdown().await.expect("shut down");
            assert_eq!(rest(&mut one).await, b"but not from here");
            one.shutdown().await.expect("shut down twice");
        }
    })
    .await;
}

/// Much more than any buffer holds, in both directions at once, with a reader that is slow to begin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_amounts_arrive_in_order() {
    each(async |world, listener| {
        let (one, other) = world.pair(listener).await;
        let begun = tokio::spawn(both_at_once(one, Duration::ZERO));
        both_at_once(other, Duration::from_millis(50)).await;
        begun.await.expect("the other side");
    })
    .await;
}

async fn both_at_once(connection: Connection, wait: Duration) {
    let bytes = pattern(4 << 20);
    let (mut reading, mut writing) = tokio::io::split(connection);
    let expected = bytes.clone();
    let writer = tokio::spawn(async move {
        writing.write_all(&bytes).await.expect("write");
        writing.shutdown().await.expect("shut down");
        writing
    });
    tokio::time::sleep(wait).await;
    let mut read = Vec::new();
    reading.read_to_end(&mut read).await.expect("read");
    assert!(read == expected, "{} bytes arrived, of {}", read.len(), expected.len());
    writer.await.expect("the writer");
}

#[tokio::test]
async fn pieces_are_written_in_order() {
    each(async |world, listener| {
        let (mut one, mut other) = world.pair(listener).await;
        let bytes = pattern(60_000);
        // Empty ones too, and more than the system takes at once.
        let mut pieces = vec![IoSlice::new(&[]); 3];
        pieces.extend(bytes.chunks(40).map(IoSlice::new));
        pieces.insert(1000, IoSlice::new(&[]));
        assert!(pieces.len() > 1500);
        let reading = async {
            let mut read = vec![0; bytes.len()];
            other.read_exact(&mut read).await.expect("read");
            read
        };
        let writing = async {
            let mut left = &mut pieces[..];
            while !left.is_empty() {
                let count = one.write_vectored(left).await.expect("write");
                IoSlice::advance_slices(&mut left, count);
                if left.first().is_some_and(|piece| piece.is_empty())
                    && left.iter().all(|piece| piece.is_empty())
                {
                    break;
                }
            }
            one.flush().await.expect("flush");
        };
        let (read, ()) = tokio::join!(reading, writing);
        assert!(read == bytes);
        assert_eq!(one.write_vectored(&[]).await.expect("no piece"), 0);
        assert_eq!(one.write(&[]).await.expect("no byte"), 0);
        assert_eq!(one.read(&mut []).await.expect("no room"), 0);
        exchange(&mut one, &mut other).await;
    })
    .await;
}

#[tokio::test]
async fn single_bytes_are_as_good() {
    each(async |world, listener| {
        let (mut one, mut other) = world.pair(listener).await;
        for byte in pattern(300) {
            one.write_all(&[byte]).await.expect("write");
            assert_eq!(other.read_u8().await.expect("read"), byte);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_connections_at_once() {
    let world = World::new();
    for server in [SERVERS[0], SERVERS[4]] {
        let listener = world.listen(server).await;
        let client = world.registry.client(crate::support::reachable(&listener).as_str()).expect("a client");
        let serving = tokio::spawn(async move {
            for _ in 0..200 {
                let incoming = listener.accept().await.expect("accept");
                tokio::spawn(async move { crate::support::echo(incoming.await.expect("handshake")).await });
            }
        });
        let clients: Vec<_> = (0..200_usize)
            .map(|number| {
                let client = client.clone();
                tokio::spawn(async move {
                    let mut connection = client.connect().await.expect("connect");
                    let bytes = pattern(1000 + number);
                    connection.write_all(&bytes).await.expect("write");
                    connection.shutdown().await.expect("shut down");
                    assert!(rest(&mut connection).await == bytes);
                })
            })
            .collect();
        for client in clients {
            in_time(client).await.expect("a client");
        }
        serving.await.expect("the server");
    }
}

/// A read that waits is woken, be it by bytes that come, by their end, or in another task than it began in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_readers_are_woken() {
    each(async |world, listener| {
        let (mut one, mut other) = world.pair(listener).await;
        let mut byte = [0];
        // Given up, and begun again by another task.
        tokio::time::timeout(Duration::from_millis(10), other.read(&mut byte))
            .await
            .expect_err("nothing comes");
        let reader = tokio::spawn(async move {
            let first = other.read_u8().await.expect("read");
            (first, rest(&mut other).await)
        });
        tokio::time::sleep(Duration::from_millis(10)).await;
        one.write_all(b"!").await.expect("write");
        one.flush().await.expect("flush");
        tokio::time::sleep(Duration::from_millis(10)).await;
        drop(one);
        assert_eq!(reader.await.expect("the reader"), (b'!', Vec::new()));
    })
    .await;
}

#[tokio::test]
async fn connections_outlive_what_they_came_from() {
    let world = World::new();
    for server in SERVERS {
        let listener = world.listen(server).await;
        let (mut one, mut other) = world.pair(&listener).await;
        drop(listener);
        exchange(&mut one, &mut other).await;
    }
    let listener = world.listen(SERVERS[4]).await;
    let (mut one, mut other) = world.pair(&listener).await;
    drop((world, listener));
    exchange(&mut one, &mut other).await;
}

#[tokio::test]
async fn optimised_or_not() {
    for flags in [&["-O0"][..], &["-O2"], &["-O3", "-flto"], &["-Os", "-pedantic", "-Wl,--gc-sections", "-s"]]
    {
        let world = World::built_with(flags);
        let listener = world.listen(SERVERS[4]).await;
        let (mut one, mut other) = world.pair(&listener).await;
        exchange(&mut one, &mut other).await;
    }
}
