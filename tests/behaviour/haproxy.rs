//! The PROXY protocol, as proxies send it and as `forward` passes it on; `tests/peers` has the real HAProxy and nginx.

use std::io::Read as _;
use std::net::SocketAddr;
use std::time::Duration;

use endpoints::{Address, Connection, ConnectionInfo, ErrorKind, Layer, Listener, fact};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{World, assert_kind, both_forms, exchange, port, reachable, rest};

mod relayed;

both_forms!(
    headers_tell_who_connected,
    cuts_do_not_matter,
    version_2_may_come_in_pieces,
    the_longest_header_is_told_in_order,
    the_stream_is_the_bare_socket_afterwards,
    what_came_with_the_header_must_be_read_first,
    what_is_no_header_is_refused,
    headers_come_in_time,
    only_those_who_are_trusted_are_believed,
    a_header_may_be_optional,
    it_is_reached_as_it_says,
    arguments_of_the_wrapper_are_told_from_those_inside,
);

const LINE: &str = "PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\n";

/// Connects without a word of PROXY and sends these bytes.
async fn send(world: &World, listener: &Listener, bytes: &[u8]) -> Connection {
    let mut connection = world.connect(&format!("tcp:127.0.0.1:{}", port(listener))).await;
    connection.write_all(bytes).await.expect("write");
    connection
}

async fn accept(listener: &Listener) -> Result<Connection, endpoints::Error> {
    listener.accept().await.expect("accept").await
}

fn address(text: &str) -> Option<Address> {
    Some(Address::Ip(text.parse::<SocketAddr>().expect("an address")))
}

/// What the outermost layer tells beside addresses.
fn tlvs(info: &ConnectionInfo) -> Vec<&[u8]> {
    let facts = info.layers()[0].facts();
    facts.filter(|(name, _)| *name == fact::PROXY_TLV).map(|(_, value)| value).collect()
}

async fn headers_tell_who_connected(world: &World) {
    let listener = world.listen("haproxy:tcp:0:interface=127.0.0.1").await;
    let mut client = send(world, &listener, format!("{LINE}and more").as_bytes()).await;
    let mut accepted = accept(&listener).await.expect("a header");
    let info = accepted.info();
    assert_eq!(info.layers().iter().map(Layer::scheme).collect::<Vec<_>>(), ["haproxy", "tcp"]);
    assert_eq!((info.peer_addr(), info.local_addr()), (address("192.0.2.1:5000"), address("192.0.2.2:443")));
    assert_eq!(info.fact(fact::PROXY_VERSION), Some(&b"1"[..]));
    // Who really connected is still known.
    assert!(info.layers()[1].peer_addr().is_some_and(|peer| peer.to_string().starts_with("127.0.0.1:")));
    client.shutdown().await.expect("shutdown");
    assert_eq!(rest(&mut accepted).await, b"and more");

    // The proxy's own connection: the real addresses count.
    let mut client = send(world, &listener, b"PROXY UNKNOWN\r\n").await;
    let mut accepted = accept(&listener).await.expect("a header");
    assert!(accepted.info().peer_addr().is_some_and(|peer| peer.to_string().starts_with("127.0.0.1:")));
    exchange(&mut client, &mut accepted).await;
}

async fn cuts_do_not_matter(world: &World) {
    let listener = world.listen("haproxy:tcp:0:interface=127.0.0.1").await;
    let mut client = send(world, &listener, b"").await;
    let slowly = async {
        for byte in LINE.as_bytes() {
            client.write_all(&[*byte]).await.expect("write");
            tokio::task::yield_now().await;
        }
        client.write_all(b"x").await.expect("write");
        client.shutdown().await.expect("shutdown");
    };
    let accepting = async {
        let mut accepted = accept(&listener).await.expect("a header");
        assert_eq!(accepted.info().peer_addr(), address("192.0.2.1:5000"));
        assert_eq!(rest(&mut accepted).await, b"x");
    };
    tokio::join!(slowly, accepting);
}

async fn version_2_may_come_in_pieces(world: &World) {
    let listener = world.listen("haproxy:tcp:0:interface=127.0.0.1").await;
    let header =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x13\xc0\0\x02\x01\xc0\0\x02\x02\x13\x88\x01\xbb\xe0\0\x04word";
    // Cut within the signature, the length, an address and a field; and at the end, with what follows.
    for cuts in [vec![5, 15, 18, 30], vec![1, 12, 14, 16, 28, 31], vec![34], vec![35], (1..36).collect()] {
        let mut client = send(world, &listener, b"").await;
        let stream = [&header[..], b"x"].concat();
        let slowly = async {
            let mut begin = 0;
            for end in cuts.iter().copied().chain([stream.len()]) {
                client.write_all(&stream[begin..end]).await.expect("write");
                // So that it goes alone, and is read.
                tokio::time::sleep(Duration::from_millis(2)).await;
                begin = end;
            }
            client.shutdown().await.expect("shutdown");
        };
        let accepting = async {
            let mut accepted = accept(&listener).await.expect("a header");
            let info = accepted.info();
            assert_eq!(info.peer_addr(), address("192.0.2.1:5000"), "{cuts:?}");
            assert_eq!(tlvs(&info), [b"\xe0word"], "{cuts:?}");
            assert_eq!(rest(&mut accepted).await, b"x", "{cuts:?}");
        };
        tokio::join!(slowly, accepting);
    }
}

async fn the_longest_header_is_told_in_order(world: &World) {
    let listener = world.listen("haproxy:tcp:0:interface=127.0.0.1").await;
    let empty = [0xe0, 0, 0].repeat(21_000);
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
    header.extend(u16::try_from(12 + empty.len() + 4).expect("it fits").to_be_bytes());
    header.extend([192, 0, 2, 1, 192, 0, 2, 2, 0x13, 0x88, 1, 0xbb]);
    header.extend(empty);
    header.extend([0xe1, 0, 1, b'x']);
    let (_client, accepted) = tokio::join!(send(world, &listener, &header), accept(&listener));
    let info = accepted.expect("a header").info();
    let told: Vec<_> = info.layers()[0].facts().filter(|(name, _)| *name == fact::PROXY_TLV).collect();
    assert_eq!(told.len(), 21_001);
    assert_eq!((told[0].1, told[21_000].1), (&b"\xe0"[..], &b"\xe1x"[..]));
}

async fn the_stream_is_the_bare_socket_afterwards(world: &World) {
    let listener = world.listen("haproxy:tcp:0:interface=127.0.0.1").await;
    let _client = send(world, &listener, LINE.as_bytes()).await;
    let accepted = accept(&listener).await.expect("a header");
    assert!(accepted.is_socket() && accepted.into_socket().is_ok());
    let plain = world.listen("tcp:0:interface=127.0.0.1").await;
    let client = world.connect(&format!("haproxy:tcp:127.0.0.1:{}", port(&plain))).await;
    assert!(client.is_socket() && client.into_socket().is_ok());
}

async fn what_came_with_the_header_must_be_read_first(world: &World) {
    let listener = world.listen("haproxy:tcp:0:interface=127.0.0.1").await;
    let mut client = send(world, &listener, format!("{LINE}and more").as_bytes()).await;
    let accepted = accept(&listener).await.expect("a header");
    // In one segment, so that all of it was read; it would be lost, so the connection is given back, whole.
    let mut accepted = accepted.into_socket().expect_err("bytes were read ahead");
    assert_eq!(accepted.info().peer_addr(), address("192.0.2.1:5000"));
    let mut half = [0; 4];
    accepted.read_exact(&mut half).await.expect("read");
    assert_eq!(&half, b"and ");
    let mut accepted = accepted.into_socket().expect_err("not all of them were read");
    accepted.read_exact(&mut half).await.expect("read");
    assert_eq!(&half, b"more");
    let mut socket = std::net::TcpStream::from(accepted.into_socket().expect("the bare socket"));
    socket.set_nonblocking(false).expect("blocking");
    client.write_all(b"later").await.expect("write");
    let later = tokio::task::spawn_blocking(move || {
        let mut later = [0; 5];
        socket.read_exact(&mut later).map(|()| later)
    });
    assert_eq!(&later.await.expect("no panic").expect("read"), b"later");
}

async fn what_is_no_header_is_refused(world: &World) {
    let listener = world.listen("haproxy:tcp:0:interface=127.0.0.1").await;
    for (bytes, mention) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "begin"),
        (b"PROXY TCP4 1.2.3.4\r\n", "few"),
        (b"PROXY TCP4 192.0.2.256 192.0.2.2 5000 443\r\n", "address"),
        (b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0", "version"),
    ] {
        let _client = send(world, &listener, bytes).await;
        let error = accept(&listener).await.expect_err("no header");
        assert_kind(&error, ErrorKind::HandshakeFailed);
        assert!(error.message().contains(mention) && error.message().contains("127.0.0.1:"), "{error}");
    }
    let given_up = ErrorKind::Cancelled;
    for (bytes, kind, mention) in
        [(&b""[..], given_up, "before"), (b"PROXY TC", ErrorKind::HandshakeFailed, "middle")]
    {
        drop(send(world, &listener, bytes).await);
        let error = accept(&listener).await.expect_err("no header");
        assert_kind(&error, kind);
        assert!(error.message().contains(mention), "{error}");
    }
}

async fn headers_come_in_time(world: &World) {
    let listener = world.listen(r"haproxy:timeout=100ms:endpoint=tcp\:0\:interface=127.0.0.1").await;
    // Many that say nothing, and one that does, behind them.
    let mut silent = Vec::new();
    let mut handshakes = Vec::new();
    for _ in 0..200 {
        silent.push(send(world, &listener, b"").await);
        let incoming = listener.accept().await.expect("accept");
        handshakes.push(tokio::spawn(async move { incoming.await }));
    }
    let mut client = send(world, &listener, LINE.as_bytes()).await;
    let mut accepted = accept(&listener).await.expect("a header");
    exchange(&mut client, &mut accepted).await;
    for handshake in handshakes {
        assert_kind(&handshake.await.expect("no panic").expect_err("nothing came"), ErrorKind::TimedOut);
    }
}

async fn only_those_who_are_trusted_are_believed(world: &World) {
    for (trust, is_trusted) in [
        ("127.0.0.0/8", true),
        ("127.0.0.1", true),
        (r"192.0.2.0/24,\:\:1,127.0.0.1", true),
        (r"192.0.2.0/24,\:\:1", false),
        // IPv4 as IPv6 sockets write it.
        (r"\:\:ffff\:127.0.0.1", true),
        (r"\:\:ffff\:127.0.0.0/104", true),
        (r"\:\:ffff\:0.0.0.0/96", true),
        (r"\:\:ffff\:10.0.0.0/104", false),
    ] {
        let server = format!(r"haproxy:trust={trust}:endpoint=tcp\:0\:interface=127.0.0.1");
        let listener = world.listen(&server).await;
        let _client = send(world, &listener, LINE.as_bytes()).await;
        match accept(&listener).await {
            Ok(accepted) => {
                assert!(is_trusted, "{trust}");
                assert_eq!(accepted.info().peer_addr(), address("192.0.2.1:5000"));
            }
            Err(error) => {
                assert!(!is_trusted, "{trust}: {error}");
                assert_kind(&error, ErrorKind::PermissionDenied);
                assert!(error.message().contains("127.0.0.1:"), "{error}");
            }
        }
    }
    // Who sends no header where none need be is not said to send one.
    let server = r"haproxy:mode=optional:trust=192.0.2.1:endpoint=tcp\:0\:interface=127.0.0.1";
    let listener = world.listen(server).await;
    let _client = send(world, &listener, b"").await;
    let error = accept(&listener).await.expect_err("not trusted");
    assert!(error.message().ends_with(" is not among the proxies that trust names"), "{error}");
    let error = world.registry.server(r"haproxy:trust=10.0.0.1/8:endpoint=tcp\:0").expect_err("no network");
    assert_eq!(error.argument(), Some("trust"));
    assert!(error.message().contains("10.0.0.0/8"), "{error}");
}

async fn a_header_may_be_optional(world: &World) {
    let server = r"haproxy:mode=optional:timeout=100ms:endpoint=tcp\:0\:interface=127.0.0.1";
    let listener = world.listen(server).await;
    for (bytes, peer) in
        [(LINE, "192.0.2.1:5000"), ("", "127.0.0.1:"), ("GET / HTTP/1.1\r\n\r\n", "127.0.0.1:")]
    {
        let mut client = send(world, &listener, format!("{bytes}hello").as_bytes()).await;
        let mut accepted = accept(&listener).await.expect("with or without");
        client.shutdown().await.expect("shutdown");
        let expected = if bytes == LINE { "hello".to_owned() } else { format!("{bytes}hello") };
        assert_eq!(rest(&mut accepted).await, expected.as_bytes());
        assert!(accepted.info().peer_addr().is_some_and(|found| found.to_string().starts_with(peer)));
    }
    // Whoever waits for the other side to speak, and ends of streams.
    let mut client = send(world, &listener, b"").await;
    let mut accepted = accept(&listener).await.expect("without");
    exchange(&mut client, &mut accepted).await;
    drop(send(world, &listener, b"").await);
    assert_eq!(rest(&mut accept(&listener).await.expect("without")).await, b"");
    // What only begins as a header is none that may be left out.
    let _client = send(world, &listener, b"PROXY TCP9 x\r\n").await;
    assert_kind(&accept(&listener).await.expect_err("damaged"), ErrorKind::HandshakeFailed);
}

async fn it_is_reached_as_it_says(world: &World) {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = endpoints::quote_str(folder.path().join("s").to_str().expect("UTF-8")).into_owned();
    for server in ["haproxy:tcp:0:interface=127.0.0.1".to_owned(), format!("haproxy:unix:{socket}")] {
        let listener = world.listen(&server).await;
        assert!(reachable(&listener).starts_with("haproxy:"));
        let (mut client, mut accepted) = world.pair(&listener).await;
        exchange(&mut client, &mut accepted).await;
    }
}

async fn arguments_of_the_wrapper_are_told_from_those_inside(world: &World) {
    let error = world.registry.server("haproxy:tcp:80:trust=10.0.0.0/8").expect_err("one of haproxy's own");
    assert_kind(&error, ErrorKind::UnknownArgument);
    assert!(error.message().contains(r"haproxy:endpoint=…:trust=…"), "{error}");
    let error = world.registry.server("haproxy:trust=10.0.0.0/8").expect_err("nothing inside");
    assert_kind(&error, ErrorKind::MissingArgument);
}
