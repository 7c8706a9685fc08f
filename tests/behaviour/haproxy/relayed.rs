//! What a `haproxy` client tells of the connections that are relayed.

use endpoints::{Address, ConnectContext, Connection, ConnectionInfo, Layer, Listener, fact};

use super::{LINE, accept, address, send, tlvs};
use crate::support::{World, both_forms, exchange, pki, port, reachable};

both_forms!(
    relayed_connections_are_told_of,
    ipv4_clients_of_ipv6_sockets_are_ipv4,
    around_tls_the_header_comes_first,
    what_is_known_of_tls_is_not_what_was_told,
);

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
