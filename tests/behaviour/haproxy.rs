//! The PROXY protocol, as proxies send it and as `forward` passes it on; `tests/peers` has the real HAProxy and nginx.

use std::net::SocketAddr;

use endpoints::{Address, ConnectContext, Connection, ConnectionInfo, ErrorKind, Layer, Listener, fact};
use tokio::io::AsyncWriteExt;

use crate::support::{World, assert_kind, both_forms, exchange, pki, port, reachable, rest};

both_forms!(
    headers_tell_who_connected,
    cuts_do_not_matter,
    the_longest_header_is_told_in_order,
    the_stream_is_the_bare_socket_afterwards,
    what_is_no_header_is_refused,
    headers_come_in_time,
    only_those_who_are_trusted_are_believed,
    a_header_may_be_optional,
    it_is_reached_as_it_says,
    relayed_connections_are_told_of,
    ipv4_clients_of_ipv6_sockets_are_ipv4,
    around_tls_the_header_comes_first,
    what_is_known_of_tls_is_not_what_was_told,
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
    for (bytes, mention) in [(&b""[..], "before"), (b"PROXY TC", "middle")] {
        drop(send(world, &listener, bytes).await);
        let error = accept(&listener).await.expect_err("no header");
        assert_kind(&error, ErrorKind::HandshakeFailed);
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

/// What arrives when a connection is relayed by way of `client`.
async fn relayed(world: &World, front: &Listener, client: &str, back: &Listener, line: &str) -> Connection {
    let _sender = send(world, front, line.as_bytes()).await;
    let accepted = accept(front).await.expect("a header");
    let endpoint = world.registry.client(client).expect(client);
    let context = ConnectContext::new().with_origin(accepted.info());
    let (connected, arrived) = tokio::join!(endpoint.connect_with(context), accept(back));
    drop(connected.expect("connect"));
    arrived.expect("a header")
}

async fn relayed_connections_are_told_of(world: &World) {
    let front = world.listen("haproxy:tcp:0:interface=127.0.0.1").await;
    let back = world.listen("haproxy:tcp:0:interface=127.0.0.1").await;
    for version in ["1", "2"] {
        let client = format!(r"haproxy:version={version}:endpoint=tcp\:127.0.0.1\:{}", port(&back));
        let arrived = relayed(world, &front, &client, &back, LINE).await.info();
        assert_eq!(arrived.peer_addr(), address("192.0.2.1:5000"));
        assert_eq!(arrived.local_addr(), address("192.0.2.2:443"));
        assert_eq!(arrived.fact(fact::PROXY_VERSION), Some(version.as_bytes()));
        assert_eq!(arrived.fact(fact::PROXY_COMMAND), Some(&b"PROXY"[..]));
    }
    // Through a wrapper in between, too; and where nobody told, the address that connected is told.
    let client = format!(r"pass:haproxy\:tcp\:127.0.0.1\:{}", port(&back));
    let arrived = relayed(world, &front, &client, &back, LINE).await.info();
    assert_eq!(arrived.peer_addr(), address("192.0.2.1:5000"));
    let arrived = relayed(world, &front, &client, &back, "PROXY UNKNOWN\r\n").await.info();
    assert!(arrived.peer_addr().is_some_and(|peer| peer.to_string().starts_with("127.0.0.1:")));
    assert_eq!(arrived.fact(fact::PROXY_COMMAND), Some(&b"PROXY"[..]));
}

async fn ipv4_clients_of_ipv6_sockets_are_ipv4(world: &World) {
    let back = world.listen("haproxy:tcp:0:interface=127.0.0.1").await;
    for interface in [r"\:\:ffff\:127.0.0.1", r"\:\:"] {
        let front = world.listen(&format!("tcp:0:interface={interface}")).await;
        // As it says itself.
        let (mut client, mut accepted) = world.pair(&front).await;
        exchange(&mut client, &mut accepted).await;
        let to = format!("127.0.0.1:{}", port(&front));
        let client = world.connect(&format!("tcp:{to}")).await;
        let local = client.info().local_addr();
        let incoming = front.accept().await.expect("accept");
        assert_eq!(incoming.info().peer_addr(), local);
        let info = incoming.await.expect("no handshake").info();
        assert_eq!((info.peer_addr(), info.local_addr()), (local.clone(), address(&to)));
        for version in ["1", "2"] {
            let client = format!(r"haproxy:version={version}:endpoint=tcp\:127.0.0.1\:{}", port(&back));
            let client = world.registry.client(client).expect("a client");
            let context = ConnectContext::new().with_origin(info.clone());
            let (connected, arrived) = tokio::join!(client.connect_with(context), accept(&back));
            connected.expect("connect");
            let arrived = arrived.expect("a header").info();
            // What the header says to the letter.
            let told = arrived.fact(fact::PEER_IP).map(|fact| String::from_utf8_lossy(fact).into_owned());
            assert_eq!(told, local.as_ref().map(Address::to_string));
            assert_eq!(arrived.fact(fact::LOCAL_IP), Some(to.as_bytes()));
        }
    }
    // And where a proxy writes it so.
    let front = world.listen("haproxy:tcp:0:interface=127.0.0.1").await;
    let line = "PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 5000 443\r\n";
    let client = format!("haproxy:tcp:127.0.0.1:{}", port(&back));
    let arrived = relayed(world, &front, &client, &back, line).await.info();
    assert_eq!(arrived.fact(fact::PEER_IP), Some(&b"192.0.2.1:5000"[..]));
    let _sender = send(world, &front, line.as_bytes()).await;
    assert_eq!(accept(&front).await.expect("a header").info().peer_addr(), address("192.0.2.1:5000"));
}

async fn around_tls_the_header_comes_first(world: &World) {
    let Some(folder) = pki() else { return };
    let file = |name: &str| {
        endpoints::quote_str(folder.join("pki").join(name).to_str().expect("UTF-8")).into_owned()
    };
    for server in [
        format!("haproxy:tls:{}:0:interface=127.0.0.1", file("server.pem")),
        format!(r"haproxy:tls:certificate={}:endpoint=tcp\:0\:interface=127.0.0.1", file("server.pem")),
        format!("haproxy:ssl:0:{}:interface=127.0.0.1", file("server.pem")),
    ] {
        let listener = world.listen(&server).await;
        // By hand: a header, then TLS, over one connection.
        let client = format!(
            r"tls:localhost:443:trustRoots={}:endpoint=haproxy\:tcp\:127.0.0.1\:{}",
            file("trust"),
            port(&listener)
        );
        // And as it is written on the client side.
        let same = format!(
            r"haproxy:tls:localhost:443:trustRoots={}:endpoint=tcp\:127.0.0.1\:{}",
            file("trust"),
            port(&listener)
        );
        for client in [client, same, format!("{}:trustRoots={}", reachable(&listener), file("trust"))] {
            let front = world.listen("haproxy:tcp:0:interface=127.0.0.1").await;
            let arrived = relayed(world, &front, &client, &listener, LINE).await;
            let info = arrived.info();
            let schemes: Vec<_> = info.layers().iter().map(Layer::scheme).collect();
            assert_eq!(schemes[1..], ["haproxy", "tcp"], "{client}");
            assert_eq!(info.peer_addr(), address("192.0.2.1:5000"), "{client}");
            assert!(info.fact(fact::TLS_VERSION).is_some());
        }
    }
    // What TLS tells is passed on by version 2.
    let front =
        world.listen(&format!("haproxy:tls:{}:0:interface=127.0.0.1:alpn=h2", file("server.pem"))).await;
    let back = world.listen("haproxy:tcp:0:interface=127.0.0.1").await;
    let sender = format!(
        r"haproxy:tls:localhost:443:alpn=h2:trustRoots={}:endpoint=tcp\:127.0.0.1\:{}",
        file("trust"),
        port(&front)
    );
    let sending = world.connect(&sender);
    let (_sender, accepted) = tokio::join!(sending, accept(&front));
    let context = ConnectContext::new().with_origin(accepted.expect("a handshake").info());
    let client = world.registry.client(format!("haproxy:tcp:127.0.0.1:{}", port(&back))).expect("a client");
    let (_connected, arrived) = tokio::join!(client.connect_with(context), accept(&back));
    let arrived = arrived.expect("a header").info();
    let tlvs = tlvs(&arrived);
    assert!(tlvs.contains(&&b"\x01h2"[..]), "ALPN: {tlvs:?}");
    assert!(tlvs.contains(&&b"\x02localhost"[..]), "AUTHORITY: {tlvs:?}");
    assert!(tlvs.iter().any(|tlv| tlv.starts_with(b"\x20\x01")), "SSL: {tlvs:?}");
}

fn tlvs(info: &ConnectionInfo) -> Vec<&[u8]> {
    let facts = info.layers()[0].facts();
    facts.filter(|(name, _)| *name == fact::PROXY_TLV).map(|(_, value)| value).collect()
}

async fn what_is_known_of_tls_is_not_what_was_told(world: &World) {
    let Some(folder) = pki() else { return };
    let file = |name: &str| {
        endpoints::quote_str(folder.join("pki").join(name).to_str().expect("UTF-8")).into_owned()
    };
    let plain = world.listen("haproxy:tcp:0:interface=127.0.0.1").await;
    let back = world.listen("haproxy:tcp:0:interface=127.0.0.1").await;
    let tls = format!("haproxy:tls:{}:0:interface=127.0.0.1:clientCA={}", file("server.pem"), file("ca.crt"));
    let tls = world.listen(&tls).await;
    let on = world.registry.client(format!("haproxy:tcp:127.0.0.1:{}", port(&back))).expect("a client");
    // A header that says the client is somebody else, with another name, protocol and certificate; and has a name.
    let told =
        [&b"\x01\0\x01x"[..], b"\x02\0\x05other", b"\x05\0\x02id", b"\x20\0\x0d\x07\0\0\0\0\x22\0\x05admin"]
            .concat();
    let length = u16::try_from(12 + told.len()).expect("it fits").to_be_bytes();
    let start = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11"[..], &length, &[192, 0, 2, 1, 192, 0, 2, 2, 1, 2, 1, 3]];
    let _forger = send(world, &plain, &[&start.concat()[..], &told].concat()).await;
    let forged = accept(&plain).await.expect("a header").info();
    let relay = async |origin: &ConnectionInfo| {
        let context = ConnectContext::new().with_origin(origin.clone());
        let (connected, arrived) = tokio::join!(on.connect_with(context), accept(&back));
        connected.expect("connect");
        arrived.expect("a header").info()
    };
    // Without TLS here, what was told is all there is.
    let arrived = relay(&forged).await;
    let expected: [&[u8]; 4] = [b"\x01x", b"\x02other", b"\x05id", b"\x20\x07\0\0\0\0\x22\0\x05admin"];
    assert_eq!(tlvs(&arrived)[..4], expected);
    // The same header ahead of TLS with a certificate of the client's own; then again, with that session resumed.
    let client = format!(
        r"tls:localhost:443:trustRoots={}:certificate={}:endpoint=haproxy\:tcp\:127.0.0.1\:{}",
        file("trust"),
        file("client.pem"),
        port(&tls)
    );
    let client = world.registry.client(client).expect("a client");
    for (resumed, bits) in [(b"0", 7), (b"1", 5)] {
        let context = ConnectContext::new().with_origin(forged.clone());
        let (client, accepted) = tokio::join!(client.connect_with(context), accept(&tls));
        let (mut client, mut accepted) = (client.expect("connect"), accepted.expect("a handshake"));
        exchange(&mut client, &mut accepted).await;
        let info = accepted.info();
        assert_eq!(info.fact(fact::TLS_RESUMED), Some(&resumed[..]));
        let arrived = relay(&info).await;
        let [name, ssl, id, _checksum] = tlvs(&arrived)[..] else { panic!("{:?}", tlvs(&arrived)) };
        assert_eq!((name, id), (&b"\x02localhost"[..], &b"\x05id"[..]));
        let expected = [0x20, bits, 0, 0, 0, 0, 0x21, 0, 7];
        assert!(ssl.starts_with(&expected), "{ssl:?}");
        assert_eq!(ssl[expected.len()..][..20], *b"TLSv1.3\x22\0\x0aclient one");
    }
}

async fn arguments_of_the_wrapper_are_told_from_those_inside(world: &World) {
    let error = world.registry.server("haproxy:tcp:80:trust=10.0.0.0/8").expect_err("one of haproxy's own");
    assert_kind(&error, ErrorKind::UnknownArgument);
    assert!(error.message().contains(r"haproxy:endpoint=…:trust=…"), "{error}");
    let error = world.registry.server("haproxy:trust=10.0.0.0/8").expect_err("nothing inside");
    assert_kind(&error, ErrorKind::MissingArgument);
}
