//! `ctcp:`, a transport in C.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use endpoints::{Address, ErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{FullBacklog, assert_kind, closed_port, exchange, in_time, port, reachable, say};
use crate::world::World;

#[tokio::test]
async fn addresses_are_told() {
    let world = World::new();
    for stream in ["own", "host"] {
        let listener = world.listen(&format!("ctcp:127.0.0.1:0:stream={stream}")).await;
        let bound = SocketAddr::from((Ipv4Addr::LOCALHOST, port(&listener)));
        assert_eq!(listener.addresses(), [Address::Ip(bound)]);
        assert_eq!(reachable(&listener), format!("ctcp:address=127.0.0.1:port={}", bound.port()));
        let client = format!("ctcp:127.0.0.1:{}:stream={stream}", bound.port());
        let accepting = async { listener.accept().await.expect("accept").await.expect("no handshake") };
        let (connected, accepted) = tokio::join!(world.connect(&client), accepting);
        assert_eq!((connected.is_socket(), accepted.is_socket()), (stream == "host", stream == "host"));
        let (client, server) = (connected.info(), accepted.info());
        assert_eq!(client.peer_addr(), Some(Address::Ip(bound)));
        assert_eq!(server.local_addr(), Some(Address::Ip(bound)));
        assert!(client.local_addr().is_some());
        assert_eq!(client.local_addr(), server.peer_addr());
    }
    for (any, loopback) in [(r"0.0.0.0", "127.0.0.1"), (r"\:\:", r"\:\:1")] {
        let listener = world.listen(&format!("ctcp:{any}:0")).await;
        let expected = format!("ctcp:address={loopback}:port={}", port(&listener));
        assert_eq!(reachable(&listener), expected, "what a client can use");
    }
}

#[tokio::test]
async fn nobody_listening_is_refused() {
    let world = World::new();
    for stream in ["own", "host"] {
        let error = world.try_connect(&format!("ctcp:127.0.0.1:{}:stream={stream}", closed_port())).await;
        let error = error.expect_err("nobody listens");
        assert_kind(&error, ErrorKind::ConnectionRefused);
        assert!(error.is_retryable() && error.message().contains("refused"), "{error}");
    }
}

#[tokio::test]
async fn an_address_in_use_is_told() {
    let world = World::new();
    let listener = world.listen("ctcp:127.0.0.1:0").await;
    let taken = format!("ctcp:127.0.0.1:{}", port(&listener));
    let server = world.registry.server(taken.as_str()).expect("a server");
    let error = server.listen().await.expect_err("it is taken");
    assert_kind(&error, ErrorKind::AddressInUse);
    assert!(error.message().contains("127.0.0.1"), "{error}");
    listener.close().await.expect("close");
    server.listen().await.expect("it is free now");
}

#[tokio::test]
async fn arguments_are_those_of_the_manifest() {
    let world = World::new();
    for (description, argument) in [
        ("ctcp:nowhere:80", "address"),
        ("ctcp:127.0.0.1:80:stream=theirs", "stream"),
        ("ctcp:127.0.0.1:80:timeout=soon", "timeout"),
    ] {
        let error = world.registry.client(description).expect_err(description);
        assert_eq!(error.argument(), Some(argument), "{error}");
    }
}

#[tokio::test]
async fn connecting_takes_no_longer_than_it_may() {
    let world = World::new();
    let full = FullBacklog::new();
    for stream in ["own", "host"] {
        let client = format!("ctcp:127.0.0.1:{}:timeout=0.2:stream={stream}", full.address.port());
        let begun = Instant::now();
        let error = in_time(world.try_connect(&client)).await.expect_err("nobody accepts");
        assert_kind(&error, ErrorKind::TimedOut);
        assert!(error.message().contains("0.2 s"), "{error}");
        assert!((Duration::from_millis(200)..Duration::from_secs(20)).contains(&begun.elapsed()));
    }
}

#[tokio::test]
async fn a_reset_is_an_error_of_the_system() {
    let world = World::new();
    let listener = world.listen("ctcp:127.0.0.1:0").await;
    let peer = TcpStream::connect(("127.0.0.1", port(&listener))).expect("connect");
    let mut accepted = listener.accept().await.expect("accept").await.expect("no handshake");
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).expect("set");
    drop(peer);
    let error = in_time(accepted.read(&mut [0])).await.expect_err("it was reset");
    assert_eq!((error.kind(), error.raw_os_error()), (io::ErrorKind::ConnectionReset, Some(104)));
    // Nor does writing end the process.
    let error = in_time(accepted.write(b"x")).await.expect_err("nobody reads");
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    let _ = accepted.shutdown().await;
}

#[tokio::test]
async fn given_up_accepts_lose_no_connection() {
    let world = World::new();
    let listener = world.listen("ctcp:127.0.0.1:0").await;
    for _ in 0..5 {
        tokio::time::timeout(Duration::from_millis(5), listener.accept()).await.expect_err("nobody comes");
    }
    let mut connected = world.connect(&reachable(&listener)).await;
    let mut accepted = in_time(listener.accept()).await.expect("accept").await.expect("no handshake");
    exchange(&mut connected, &mut accepted).await;
}

/// The socket's buffers fill up, the writer waits; it is woken when there is room again.
#[tokio::test]
async fn writers_wait_for_readers() {
    let world = World::new();
    let listener = world.listen("ctcp:127.0.0.1:0").await;
    let (mut one, mut other) = world.pair(&listener).await;
    let bytes = vec![7; 64 << 10];
    let mut written = 0;
    while let Ok(count) = tokio::time::timeout(Duration::from_millis(200), one.write(&bytes)).await {
        written += count.expect("write");
        assert!(written < 1 << 30, "somebody must say stop");
    }
    // While the writer waits, the other direction works.
    say(&mut other, &mut one, b"go on").await;
    let reading = async {
        let mut left = written;
        let mut into = vec![0; 1 << 20];
        while left > 0 {
            left -= other.read(&mut into).await.expect("read");
        }
    };
    in_time(async { tokio::join!(reading, async { one.write_all(b"").await.expect("write") }) }).await;
    say(&mut one, &mut other, b"at last").await;
}
