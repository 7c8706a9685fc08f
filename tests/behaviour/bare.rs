//! A wrapper that only shakes hands leaves the bare socket; one that carries bytes does not.

use std::net::SocketAddr;

use endpoints::{Address, ConnectContext, Connection, ErrorKind};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::socks::{Script, proxy};
use crate::support::{FullBacklog, World, around, assert_kind, both_forms, closed_port, exchange, in_time};

both_forms!(
    socks_leaves_the_socket,
    sockets_can_be_taken_out,
    facts_stand_in_layers,
    credentials_are_given,
    refusals_are_told,
    what_is_no_socks_proxy_is_told,
    bytes_may_come_one_by_one,
    what_comes_with_the_reply_is_not_lost,
    slow_proxies_time_out,
    a_pass_through_carries_bytes_and_is_no_socket,
    proxies_are_chained,
);

fn through(proxy: SocketAddr, target: &str, more: &str) -> String {
    format!(r"socks5:{target}:proxy=tcp\:127.0.0.1\:{}{more}", proxy.port())
}

async fn echoes(connection: &mut Connection) {
    connection.write_all(b"to the target").await.expect("write");
    let mut back = [0; 13];
    connection.read_exact(&mut back).await.expect("read");
    assert_eq!(&back, b"to the target");
}

async fn socks_leaves_the_socket(world: &World) {
    for (target, asked) in [
        ("t.example:80", [&[3][..], b"t.example", &[0, 80]].concat()),
        ("192.0.2.9:443", vec![1, 192, 0, 2, 9, 1, 187]),
        (r"\:\:1:8080", [&[4][..], &[0; 15], &[1, 0x1f, 0x90]].concat()),
    ] {
        let (address, task) = proxy(Script::GOOD).await;
        let mut client = world.connect(&through(address, target, "")).await;
        assert!(client.is_socket());
        echoes(&mut client).await;
        drop(client);
        assert_eq!(task.await.expect("the proxy"), Some(asked));
    }
}

async fn sockets_can_be_taken_out(world: &World) {
    let (address, _task) = proxy(Script::GOOD).await;
    let client = world.connect(&through(address, "t.example:80", "")).await;
    let socket = client.into_socket().expect("a bare socket");
    let socket = std::net::TcpStream::from(socket);
    assert_eq!(socket.peer_addr().expect("an address"), address);
    let mut socket = tokio::net::TcpStream::from_std(socket).expect("non-blocking");
    socket.write_all(b"x").await.expect("write");
    assert_eq!(socket.read_u8().await.expect("read"), b'x');
}

async fn facts_stand_in_layers(world: &World) {
    let (address, _task) = proxy(Script::GOOD).await;
    let client = world.connect(&through(address, "t.example:80", "")).await;
    let info = client.info();
    let [socks, tcp] = info.layers() else { panic!("{info:?}") };
    assert_eq!((socks.scheme(), tcp.scheme()), ("socks5", "tcp"));
    assert_eq!(socks.peer_addr(), Some(Address::Name("t.example:80".into())));
    assert_eq!(socks.fact("socks5.bound"), Some(&b"192.0.2.7:8080"[..]));
    assert_eq!(tcp.peer_addr(), Some(Address::Ip(address)));
    assert_eq!(
        info.peer_addr().map(|peer| peer.to_string()),
        Some("t.example:80".into()),
        "the outermost counts"
    );
    assert_eq!(
        (info.local_addr(), info.peer_addr().and_then(|peer| peer.port())),
        (tcp.local_addr(), Some(80))
    );

    let (address, _task) = proxy(Script::GOOD).await;
    let client = world.connect(&through(address, "192.0.2.9:80", "")).await;
    assert_eq!(client.info().peer_addr(), Some(Address::Ip("192.0.2.9:80".parse().expect("an address"))));
}

async fn credentials_are_given(world: &World) {
    let script = Script { login: Some(("me", "s:e=c")), ..Script::GOOD };
    let right = r":username=me:password=s\:e\=c";
    let (address, _task) = proxy(script).await;
    let mut client = world.connect(&through(address, "t.example:80", right)).await;
    assert!(client.is_socket());
    echoes(&mut client).await;

    for wrong in ["", ":username=me:password=wrong"] {
        let (address, _task) = proxy(script).await;
        let error = world.connect_error(&through(address, "t.example:80", wrong)).await;
        assert_kind(&error, ErrorKind::AuthenticationFailed);
        assert!(!error.is_retryable(), "{error}");
    }
    // They are not forced upon a proxy that does not ask.
    let (address, _task) = proxy(Script::GOOD).await;
    echoes(&mut world.connect(&through(address, "t.example:80", right)).await).await;
}

async fn refusals_are_told(world: &World) {
    for (reply, kind, retryable) in [
        (1, ErrorKind::Other, None),
        (2, ErrorKind::PermissionDenied, Some(false)),
        (3, ErrorKind::Unreachable, Some(true)),
        (4, ErrorKind::Unreachable, Some(true)),
        (5, ErrorKind::ConnectionRefused, Some(true)),
        (6, ErrorKind::Unreachable, Some(true)),
        (7, ErrorKind::Unsupported, Some(false)),
        (8, ErrorKind::Unsupported, Some(false)),
        (99, ErrorKind::Other, None),
    ] {
        let (address, _task) = proxy(Script { reply, ..Script::GOOD }).await;
        let error = world.connect_error(&through(address, "t.example:80", "")).await;
        assert_kind(&error, kind);
        if let Some(retryable) = retryable {
            assert_eq!(error.is_retryable(), retryable, "{error}");
        }
        assert!(error.message().contains("t.example:80"), "{error}");
        assert_eq!(error.scheme(), Some("socks5"));
    }
}

async fn what_is_no_socks_proxy_is_told(world: &World) {
    let (address, _task) = proxy(Script { version: 4, ..Script::GOOD }).await;
    let error = world.connect_error(&through(address, "t.example:80", "")).await;
    assert_kind(&error, ErrorKind::HandshakeFailed);
    assert!(error.message().contains("SOCKS4"), "{error}");

    // One that hangs up.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("an address");
    let client = through(address, "t.example:80", "");
    let hanging_up = async { drop(listener.accept().await.expect("accept")) };
    let (error, ()) = tokio::join!(world.connect_error(&client), hanging_up);
    assert!(matches!(error.kind(), ErrorKind::HandshakeFailed | ErrorKind::ConnectionReset), "{error}");

    let refused = format!(r"socks5:t.example:80:tcp\:127.0.0.1\:{}", closed_port());
    let error = world.connect_error(&refused).await;
    assert_kind(&error, ErrorKind::ConnectionRefused);
    assert!(error.message().contains("proxy"), "{error}");
}

async fn bytes_may_come_one_by_one(world: &World) {
    let bound: &[u8] = &[3, 4, b'h', b'o', b's', b't', 0, 80];
    let script = Script { bytewise: true, login: Some(("me", "secret")), bound, ..Script::GOOD };
    let (address, _task) = proxy(script).await;
    let client = through(address, "t.example:80", ":username=me:password=secret");
    let mut client = world.connect(&client).await;
    assert!(client.is_socket());
    echoes(&mut client).await;
}

async fn what_comes_with_the_reply_is_not_lost(world: &World) {
    for bytewise in [false, true] {
        let (address, _task) = proxy(Script { at_once: b"220 welcome", bytewise, ..Script::GOOD }).await;
        let mut client = world.connect(&through(address, "t.example:80", "")).await;
        let mut greeting = [0; 11];
        client.read_exact(&mut greeting).await.expect("read");
        assert_eq!(&greeting, b"220 welcome");
        echoes(&mut client).await;
    }
}

async fn slow_proxies_time_out(world: &World) {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = silent.local_addr().expect("an address");
    let error = world.connect_error(&through(address, "t.example:80", ":timeout=100ms")).await;
    assert_kind(&error, ErrorKind::TimedOut);
    assert!(error.is_retryable() && error.message().contains("100ms"), "{error}");

    let client = world.registry.client(through(address, "t.example:80", "")).expect("a client");
    let context = ConnectContext::new().with_timeout(Duration::from_millis(100));
    assert_kind(&client.connect_with(context).await.expect_err("a deadline"), ErrorKind::TimedOut);

    let full = FullBacklog::new();
    let error = world.connect_error(&through(full.address, "t.example:80", ":timeout=100ms")).await;
    assert_kind(&error, ErrorKind::TimedOut);
}

async fn a_pass_through_carries_bytes_and_is_no_socket(world: &World) {
    let listener = world.listen(&around("pass", "tcp:0:interface=127.0.0.1")).await;
    let (client, mut accepted) = world.pair(&listener).await;
    assert!(!client.is_socket() && !accepted.is_socket());
    let mut client = client.into_socket().expect_err("there is none to take out");
    exchange(&mut client, &mut accepted).await;
    assert_eq!(client.info().local_addr(), accepted.info().peer_addr());

    let (address, _task) = proxy(Script::GOOD).await;
    let mut client = world.connect(&around("pass", &through(address, "t.example:80", ""))).await;
    assert!(!client.is_socket());
    let info = client.info();
    let schemes: Vec<_> = info.layers().iter().map(endpoints::Layer::scheme).collect();
    assert_eq!(schemes, ["pass", "socks5", "tcp"]);
    assert_eq!(info.peer_addr(), Some(Address::Name("t.example:80".into())));
    echoes(&mut client).await;
}

async fn proxies_are_chained(world: &World) {
    // The first proxy "connects" to the second by sending back what it gets, so the second is played by hand.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("an address");
    let inner = through(address, "second.example:1080", "");
    let outer = format!("socks5:t.example:80:proxy={}", endpoints::quote_str(&inner));
    let playing = async {
        let (mut stream, _) = listener.accept().await.expect("accept");
        for host in ["second.example", "t.example"] {
            let mut greeting = [0; 3];
            stream.read_exact(&mut greeting).await.expect("a greeting");
            stream.write_all(&[5, 0]).await.expect("a method");
            let mut request = vec![0; 4 + 1 + host.len() + 2];
            stream.read_exact(&mut request).await.expect("a request");
            assert_eq!(&request[5..5 + host.len()], host.as_bytes());
            stream.write_all(&[5, 0, 0, 1, 192, 0, 2, 7, 0, 80]).await.expect("a reply");
        }
        let mut byte = [0];
        stream.read_exact(&mut byte).await.expect("a byte");
        stream.write_all(&byte).await.expect("the byte");
    };
    let talking = async {
        let mut client = world.connect(&outer).await;
        assert!(client.is_socket());
        let info = client.info();
        let peers: Vec<_> =
            info.layers().iter().map(|layer| layer.peer_addr().expect("a peer").to_string()).collect();
        assert_eq!(peers, ["t.example:80".to_owned(), "second.example:1080".into(), address.to_string()]);
        client.write_all(b"!").await.expect("write");
        assert_eq!(client.read_u8().await.expect("read"), b'!');
    };
    in_time(async { tokio::join!(playing, talking) }).await;
}
