//! `cxor:`, a wrapper in C with a handshake.

use std::time::{Duration, Instant};

use endpoints::{Connection, Error, ErrorKind, Listener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{assert_kind, exchange, in_time, port, reachable, rest, say};
use crate::world::World;

const GREETING: &[u8] = b"cxo1saltsalt";

/// A client of cxor, and a peer that does by hand what the test wants.
async fn with_peer(
    world: &World,
    more: &str,
) -> (tokio::task::JoinHandle<Result<Connection, Error>>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("an address").port();
    let client = world.registry.client(format!(r"cxor:k3y:tcp\:127.0.0.1\:{port}{more}")).expect("a client");
    let connecting = tokio::spawn(async move { in_time(client.connect()).await });
    (connecting, listener.accept().await.expect("accept").0)
}

/// A server of cxor around tcp.
async fn server(world: &World, more: &str) -> Listener {
    world.listen(&format!(r"cxor:k3y:tcp\:0\:interface\=127.0.0.1{more}")).await
}

/// What bytes become.
fn combined(bytes: &[u8], salt: &[u8]) -> Vec<u8> {
    let key = b"k3y".iter().cycle().zip(salt.iter().cycle());
    bytes.iter().zip(key).map(|(byte, (key, salt))| byte ^ key ^ salt).collect()
}

#[tokio::test]
async fn the_protocol_is_as_described() {
    let world = World::new();
    let (connecting, mut peer) = with_peer(&world, "").await;
    let mut theirs = [0; 12];
    peer.read_exact(&mut theirs).await.expect("a greeting");
    assert!(theirs.starts_with(b"cxo1"));
    // In single bytes, and the first bytes of the stream close behind.
    for byte in &GREETING[..11] {
        peer.write_all(&[*byte]).await.expect("write");
        tokio::task::yield_now().await;
    }
    let words = b"a text that is longer than the key and the salt";
    let rest_of_it = [&GREETING[11..], &combined(words, b"saltsalt")].concat();
    peer.write_all(&rest_of_it).await.expect("write");
    let mut connection = connecting.await.expect("the client").expect("a connection");
    assert_eq!(connection.info().fact("cxor.key-length"), Some(&b"3"[..]));
    assert_eq!(
        connection.info().peer_addr(),
        Some(endpoints::Address::Ip(peer.local_addr().expect("an address")))
    );
    let mut read = vec![0; words.len()];
    connection.read_exact(&mut read).await.expect("read");
    assert_eq!(read, words);
    connection.write_all(words).await.expect("write");
    connection.shutdown().await.expect("shut down");
    let mut read = Vec::new();
    peer.read_to_end(&mut read).await.expect("read");
    assert_eq!(read, combined(words, &theirs[4..]));
}

/// Few bytes at a time, and not ready at every other poll, in the handshake too; beneath and around it.
#[tokio::test]
async fn awkward_streams_are_as_good() {
    let world = World::new();
    let listener = server(&world, "").await;
    let port = port(&listener);
    for client in [
        format!(r"cxor:k3y:cchop\:tcp\\\:127.0.0.1\\\:{port}"),
        format!(r"cchop:cxor\:k3y\:tcp\\\:127.0.0.1\\\:{port}"),
        format!(r"cxor:k3y:cchop\:cchop\\\:ctcp\\\\\\\:127.0.0.1\\\\\\\:{port}"),
    ] {
        let accepting = async { listener.accept().await.expect("accept").await.expect("handshake") };
        let (mut connected, accepted) =
            in_time(async { tokio::join!(world.connect(&client), accepting) }).await;
        let echoing = tokio::spawn(crate::support::echo(accepted));
        let bytes: Vec<u8> = (0..8000_u32).map(|at| (at * at / 7) as u8).collect();
        let (mut reading, mut writing) = tokio::io::split(&mut connected);
        let write = async {
            let (first, second) = bytes.split_at(bytes.len() / 2);
            writing.write_all(first).await.expect("write");
            let mut pieces: Vec<_> = second.chunks(3).map(std::io::IoSlice::new).collect();
            let mut left = &mut pieces[..];
            while !left.is_empty() {
                let count = writing.write_vectored(left).await.expect("write");
                std::io::IoSlice::advance_slices(&mut left, count);
            }
            writing.shutdown().await.expect("shut down");
        };
        let mut read = Vec::new();
        let (count, ()) = in_time(async { tokio::join!(reading.read_to_end(&mut read), write) }).await;
        assert_eq!(count.expect("read"), bytes.len());
        assert!(read == bytes, "{client}");
        echoing.await.expect("the echo");
    }
}

#[tokio::test]
async fn wrong_greetings_are_refused() {
    let world = World::new();
    for (greeting, words) in [
        (&b"HTTP/1.1"[..], "use cxor on both sides"),
        (b"c", "before it had greeted"),
        (b"", "before it had greeted"),
    ] {
        let (connecting, mut peer) = with_peer(&world, "").await;
        peer.write_all(greeting).await.expect("write");
        peer.shutdown().await.expect("shut down");
        let error = connecting.await.expect("the client").expect_err("no greeting");
        assert_kind(&error, ErrorKind::HandshakeFailed);
        assert!(error.message().contains(words), "{error}");
        // It was closed.
        let _ = in_time(peer.read_to_end(&mut Vec::new())).await;
    }
}

#[tokio::test]
async fn silent_peers_are_given_up() {
    let world = World::new();
    let (connecting, _peer) = with_peer(&world, ":timeout=0.2").await;
    let begun = Instant::now();
    let error = connecting.await.expect("the client").expect_err("the peer is silent");
    assert_kind(&error, ErrorKind::TimedOut);
    assert!(begun.elapsed() < Duration::from_secs(20) && error.message().contains("0.2 s"), "{error}");

    let listener = server(&world, ":timeout=0.2").await;
    let mut peer = TcpStream::connect(("127.0.0.1", port(&listener))).await.expect("connect");
    peer.write_all(b"cxo").await.expect("write");
    let incoming = in_time(listener.accept()).await.expect("accepting waits for no byte");
    let known = incoming.info();
    assert_eq!(known.peer_addr(), Some(endpoints::Address::Ip(peer.local_addr().expect("an address"))));
    // The time begins when somebody asks for the handshake.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    let error = in_time(async { incoming.await }).await.expect_err("the peer is silent");
    assert_kind(&error, ErrorKind::TimedOut);
    assert!(begun.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn a_slow_peer_delays_nobody() {
    let world = World::new();
    let listener = server(&world, "").await;
    let mut slow = TcpStream::connect(("127.0.0.1", port(&listener))).await.expect("connect");
    let waiting = listener.accept().await.expect("accept");
    let waiting = tokio::spawn(async move { waiting.await });
    let (mut one, mut other) = in_time(world.pair(&listener)).await;
    exchange(&mut one, &mut other).await;
    slow.shutdown().await.expect("shut down");
    let error = in_time(waiting).await.expect("the handshake").expect_err("it ended");
    assert_kind(&error, ErrorKind::HandshakeFailed);
}

#[tokio::test]
async fn listeners_tell_how_they_are_reached() {
    let world = World::new();
    let listener = world.listen(r"cxor:a\:b:cxor\:c\:ctcp\\\:127.0.0.1\\\:0").await;
    let expected = format!(
        r"cxor:endpoint=cxor\:endpoint\=ctcp\\\:address\\\=127.0.0.1\\\:port\\\={}\:key\=c:key=a\:b",
        port(&listener)
    );
    assert_eq!(reachable(&listener), expected);
    assert_eq!(listener.addresses().len(), 1);
    let (connected, accepted) = world.pair(&listener).await;
    for (connection, side) in [(connected, "client"), (accepted, "server")] {
        let info = connection.info();
        let layers: Vec<_> = info.layers().iter().map(endpoints::Layer::scheme).collect();
        assert_eq!(layers, ["cxor", "cxor", "ctcp"], "{side}");
        assert!(info.peer_addr().is_some() && info.local_addr().is_some(), "{side}");
    }
}

#[tokio::test]
async fn what_the_manifest_cannot_say_is_refused_with_its_argument() {
    let error = World::new().registry.client(r"cxor::tcp\:127.0.0.1\:5").expect_err("an empty key");
    assert_eq!((error.kind(), error.argument()), (ErrorKind::InvalidArgument, Some("key")));
}

#[tokio::test]
async fn errors_of_the_inner_endpoint_are_passed_on() {
    let world = World::new();
    let closed = crate::support::closed_port();
    let error =
        world.try_connect(&format!(r"cxor:k:ctcp\:127.0.0.1\:{closed}")).await.expect_err("nobody listens");
    assert_kind(&error, ErrorKind::ConnectionRefused);
    assert!(error.is_retryable() && error.raw_os_error() == Some(111), "{error}");
    let taken = world.listen("ctcp:127.0.0.1:0").await;
    let again =
        world.registry.server(format!(r"cxor:k:ctcp\:127.0.0.1\:{}", port(&taken))).expect("a server");
    assert_kind(&again.listen().await.expect_err("it is taken"), ErrorKind::AddressInUse);

    let plain = world.listen("ctcp:127.0.0.1:0").await;
    for (mode, kind, words) in [
        ("error:kind\\=unreachable", ErrorKind::Unreachable, "told to"),
        ("error-read", ErrorKind::Other, "told to fail"),
        ("panic-connect", ErrorKind::PluginPanicked, "panicked"),
        ("panic-read", ErrorKind::PluginPanicked, "panicked"),
        ("panic-write", ErrorKind::PluginPanicked, "panicked"),
    ] {
        let (mode, more) = mode.split_once(':').unwrap_or((mode, ""));
        let more = if more.is_empty() { String::new() } else { format!(r"\:{more}") };
        let inner = format!(r"ctcp\\\:127.0.0.1\\\:{}", port(&plain));
        let client = format!(r"cxor:k:faulty\:{mode}\:{inner}{more}");
        let error = in_time(world.try_connect(&client)).await.expect_err(mode);
        assert_kind(&error, kind);
        assert!(error.message().contains(words), "{mode}: {error}");
    }
}

/// An error that comes later, with words of its own, is the stream's.
#[tokio::test]
async fn errors_of_the_inner_stream_are_passed_on() {
    let world = World::new();
    let (connecting, mut peer) = with_peer(&world, "").await;
    peer.write_all(GREETING).await.expect("write");
    peer.read_exact(&mut [0; 12]).await.expect("a greeting");
    let mut connection = connecting.await.expect("the client").expect("a connection");
    peer.set_zero_linger().expect("set");
    drop(peer);
    let error = in_time(connection.read(&mut [0])).await.expect_err("it was reset");
    assert_eq!(error.raw_os_error(), Some(104));
    // A faulty stream around it has words of its own.
    let listener = world.listen(r"pass:cxor\:k\:ctcp\\\:127.0.0.1\\\:0").await;
    let client = format!(r"faulty:error-read:cxor\:k\:ctcp\\\:127.0.0.1\\\:{}", port(&listener));
    let accepting = async { listener.accept().await.expect("accept").await.expect("handshake") };
    let (mut connected, mut accepted) = tokio::join!(world.connect(&client), accepting);
    say(&mut connected, &mut accepted, b"one way").await;
    let error = connected.read(&mut [0]).await.expect_err("told to");
    assert!(error.to_string().contains("told to fail"), "{error}");
    drop(connected);
    assert_eq!(rest(&mut accepted).await, b"");
}

#[tokio::test]
async fn closing_reaches_the_inner_listener() {
    let world = World::new();
    let listener = server(&world, "").await;
    let port = port(&listener);
    tokio::time::timeout(Duration::from_millis(20), listener.accept()).await.expect_err("nobody comes");
    in_time(listener.close()).await.expect("close");
    TcpStream::connect(("127.0.0.1", port)).await.expect_err("nobody listens any more");
}

/// The PROXY protocol around a stream in C, and a stream in C within TLS.
#[tokio::test]
async fn plugins_in_rust_stand_around_it() {
    let world = World::new();
    let listener = world.listen("haproxy:ctcp:127.0.0.1:0").await;
    let client = format!("haproxy:ctcp:127.0.0.1:{}", port(&listener));
    let accepting = async { listener.accept().await.expect("accept").await.expect("handshake") };
    let (mut connected, mut accepted) = tokio::join!(world.connect(&client), accepting);
    exchange(&mut connected, &mut accepted).await;
    assert_eq!(accepted.info().fact("proxy.command"), Some(&b"LOCAL"[..]));

    let Some(pki) = crate::support::pki() else { return };
    let quoted =
        |name: &str| endpoints::quote_str(pki.join("pki").join(name).to_str().expect("UTF-8")).into_owned();
    let server =
        format!(r"tls:certificate={}:endpoint=cxor\:k\:ctcp\\\:127.0.0.1\\\:0", quoted("server-rsa.pem"));
    let listener = world.listen(&server).await;
    let inner = format!(r"cxor\:k\:ctcp\\\:127.0.0.1\\\:{}", port(&listener));
    let client = format!("tls:localhost:443:trustRoots={}:endpoint={inner}", quoted("trust"));
    let accepting = async { listener.accept().await.expect("accept").await.expect("handshake") };
    let (mut connected, mut accepted) = tokio::join!(world.connect(&client), accepting);
    exchange(&mut connected, &mut accepted).await;
    assert_eq!(connected.info().fact("tls.version"), Some(&b"TLSv1.3"[..]));
    connected.shutdown().await.expect("shut down");
    assert_eq!(rest(&mut accepted).await, b"");
}
