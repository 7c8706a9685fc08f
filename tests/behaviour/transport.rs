//! TCP, over both IP versions; `unix.rs` is about the other transport.

use std::io::{IoSlice, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use endpoints::{Address, Connection, ErrorKind, Listener};
use tokio::io::{AsyncRead as _, AsyncReadExt, AsyncWrite as _, AsyncWriteExt, ReadBuf};

use crate::support::{
    FullBacklog, World, around, assert_kind, both_forms, closed_port, echo, exchange, is_root, port,
    reachable, rest, say, skip,
};

both_forms!(
    bytes_go_both_ways,
    much_goes_both_ways,
    either_side_ends_first,
    both_ends_know_their_addresses,
    wildcards_are_reached_on_the_loopback,
    a_full_backlog_times_out,
    a_deadline_ends_an_attempt,
    refusals_and_other_failures_are_told_apart,
    a_taken_address_is_refused,
    bind_address_is_where_it_connects_from,
    interface_is_where_it_listens,
    backlog_is_how_many_wait,
    accepted_connections_outlive_their_listener,
    what_has_come_with_a_connection_is_read_at_once,
    a_reset_is_an_error,
    options_hold_on_both_sides,
    mark_and_device_hold_on_both_sides,
    options_that_cannot_hold_are_refused,
);

/// Each transport, listening where only this machine reaches it.
pub(crate) fn servers(folder: &std::path::Path) -> Vec<String> {
    let unix = format!("unix:{}", endpoints::quote_str(folder.join("s").to_str().expect("UTF-8")));
    let plain = ["tcp:0:interface=127.0.0.1", r"tcp:0:interface=\:\:1", r"tcp6:0:interface=\:\:1", &unix];
    let wrapped = plain.iter().map(|server| around("pass", server).replace("/s", "/w"));
    plain.iter().map(ToString::to_string).chain(wrapped).collect()
}

async fn bytes_go_both_ways(world: &World) {
    let folder = tempfile::tempdir().expect("a folder");
    for server in servers(folder.path()) {
        let listener = world.listen(&server).await;
        let (mut client, mut accepted) = world.pair(&listener).await;
        exchange(&mut client, &mut accepted).await;
        drop(accepted);
        assert_eq!(rest(&mut client).await, b"", "{server}");
    }
}

/// The reactor has not looked at the socket yet.
async fn what_has_come_with_a_connection_is_read_at_once(world: &World) {
    let listener = world.listen("tcp:0:interface=127.0.0.1").await;
    let mut client = std::net::TcpStream::connect(("127.0.0.1", port(&listener))).expect("connect");
    client.write_all(b"first").expect("write");
    let mut accepted = listener.accept().await.expect("accept").await.expect("no handshake");
    let mut cx = Context::from_waker(Waker::noop());
    let mut room = [0; 8];
    let mut read = ReadBuf::new(&mut room);
    assert!(matches!(Pin::new(&mut accepted).poll_read(&mut cx, &mut read), Poll::Ready(Ok(()))));
    assert_eq!(read.filled(), b"first");
    // Of more pieces than one system call takes, the rest is left for the next one.
    let mut answer = vec![IoSlice::new(b"an "), IoSlice::new(b""), IoSlice::new(b"answer")];
    answer.resize(1025, IoSlice::new(b""));
    // All at once, so that it is one segment.
    let written = Pin::new(&mut accepted).poll_write_vectored(&mut cx, &answer);
    assert!(matches!(written, Poll::Ready(Ok(9))), "{written:?}");
    client.read_exact(&mut room).expect("read");
    assert_eq!(&room, b"an answe");
}

async fn much_goes_both_ways(world: &World) {
    let folder = tempfile::tempdir().expect("a folder");
    let bytes: Vec<u8> = (0..3_000_017_u32).map(|number| (number % 251) as u8).collect();
    for server in servers(folder.path()) {
        let listener = world.listen(&server).await;
        let (client, accepted) = world.pair(&listener).await;
        let echoing = tokio::spawn(echo(accepted));
        let (mut reading, mut writing) = tokio::io::split(client);
        let sending = async {
            writing.write_all(&bytes).await.expect("write");
            writing.shutdown().await.expect("shutdown");
        };
        let mut back = Vec::new();
        let receiving = async { reading.read_to_end(&mut back).await.expect("read") };
        tokio::join!(sending, receiving);
        assert!(back == bytes, "{server}: {} of {} bytes", back.len(), bytes.len());
        echoing.await.expect("echo");
    }
}

async fn either_side_ends_first(world: &World) {
    let folder = tempfile::tempdir().expect("a folder");
    for server in servers(folder.path()) {
        let listener = world.listen(&server).await;
        for client_first in [true, false] {
            let (client, accepted) = world.pair(&listener).await;
            let (mut first, mut second) = if client_first { (client, accepted) } else { (accepted, client) };
            first.write_all(b"last words").await.expect("write");
            first.shutdown().await.expect("shutdown");
            assert_eq!(rest(&mut second).await, b"last words", "{server}");
            // The other direction goes on.
            say(&mut second, &mut first, b"still here").await;
            second.shutdown().await.expect("shutdown");
            assert_eq!(rest(&mut first).await, b"", "{server}");
        }
    }
}

async fn both_ends_know_their_addresses(world: &World) {
    for (server, scheme, ip) in [
        ("tcp:0:interface=127.0.0.1", "tcp", "127.0.0.1"),
        (r"tcp:0:interface=\:\:1", "tcp", "::1"),
        (r"tcp6:0:interface=\:\:1", "tcp6", "::1"),
    ] {
        let listener = world.listen(server).await;
        let (client, accepted) = world.pair(&listener).await;
        let (client, accepted) = (client.info(), accepted.info());
        assert_eq!(client.layers().len(), 1);
        assert_eq!((client.layers()[0].scheme(), accepted.layers()[0].scheme()), ("tcp", scheme));
        let listening = SocketAddr::new(ip.parse().expect("an address"), port(&listener));
        assert_eq!(listener.addresses(), [Address::Ip(listening)]);
        assert_eq!(client.peer_addr(), Some(Address::Ip(listening)));
        assert_eq!(accepted.local_addr(), Some(Address::Ip(listening)));
        assert!(client.local_addr().is_some());
        assert_eq!(client.local_addr(), accepted.peer_addr());
        assert_eq!(client.fact("peer.ip"), Some(listening.to_string().as_bytes()));
        assert_eq!(client.layers()[0].fact("local.ip"), accepted.fact("peer.ip"));
        let escaped = ip.replace(':', r"\:");
        assert_eq!(reachable(&listener), format!("tcp:host={escaped}:port={}", listening.port()));
    }
}

async fn wildcards_are_reached_on_the_loopback(world: &World) {
    for (server, host) in [("tcp:0", "127.0.0.1"), ("tcp6:0", r"\:\:1"), (r"tcp:0:interface=\:\:", r"\:\:1")]
    {
        let listener = world.listen(server).await;
        assert_eq!(reachable(&listener), format!("tcp:host={host}:port={}", port(&listener)));
        let (mut client, mut accepted) = world.pair(&listener).await;
        exchange(&mut client, &mut accepted).await;
    }
}

async fn a_full_backlog_times_out(world: &World) {
    let full = FullBacklog::new();
    for client in [full.client(":timeout=150ms"), around("pass", &full.client(":timeout=0.15"))] {
        let error = world.connect_error(&client).await;
        assert_kind(&error, ErrorKind::TimedOut);
        assert!(error.is_retryable());
        assert!(error.message().contains(&full.address.to_string()), "{error}");
        assert!(error.message().contains("150ms"), "{error}");
    }
}

async fn a_deadline_ends_an_attempt(world: &World) {
    let full = FullBacklog::new();
    for client in [full.client(""), around("pass", &full.client(""))] {
        let context = endpoints::ConnectContext::new().with_timeout(Duration::from_millis(100));
        let client = world.registry.client(client).expect("a client");
        let error = client.connect_with(context).await.expect_err("nobody accepts");
        assert_kind(&error, ErrorKind::TimedOut);
        assert!(error.is_retryable());
        // One that is not reached changes nothing.
        let listener = world.listen("tcp:0:interface=127.0.0.1").await;
        let client = world.registry.client(reachable(&listener)).expect("a client");
        let context = endpoints::ConnectContext::new().with_timeout(Duration::from_secs(60));
        client.connect_with(context).await.expect("in time");
    }
}

async fn refusals_and_other_failures_are_told_apart(world: &World) {
    let refused = format!("tcp:127.0.0.1:{}", closed_port());
    for client in [refused.clone(), around("pass", &refused), around("pass", &around("pass", &refused))] {
        let refused = world.connect_error(&client).await;
        assert_kind(&refused, ErrorKind::ConnectionRefused);
        assert!(refused.is_retryable() && refused.message().contains("127.0.0.1"), "{refused}");
        assert_eq!(refused.scheme(), client.split(':').next());
        let number = rustix::io::Errno::CONNREFUSED.raw_os_error();
        assert_eq!(refused.raw_os_error(), Some(number), "{client}");
    }

    // An empty label is in no name, so nobody outside of this machine is asked.
    let unresolved = world.connect_error("tcp:no..body:80").await;
    assert_kind(&unresolved, ErrorKind::NameResolution);
    assert!(unresolved.is_retryable() && unresolved.message().contains("no..body"), "{unresolved}");

    // RFC 5737: an address of documentation, which this machine does not have.
    for server in ["tcp:0:interface=192.0.2.1", r"tcp6:0:interface=2001\:db8\:\:1"] {
        let absent = world.listen_error(server).await;
        assert_kind(&absent, ErrorKind::AddressNotAvailable);
        assert!(absent.message().contains("interface"), "{absent}");
    }
    let full = FullBacklog::new();
    let absent = world.connect_error(&full.client(":bindAddress=192.0.2.1")).await;
    assert_kind(&absent, ErrorKind::AddressNotAvailable);
    assert!(absent.message().contains("bindAddress"), "{absent}");
    let family = world.connect_error(&full.client(r":bindAddress=\:\:1")).await;
    assert_kind(&family, ErrorKind::AddressNotAvailable);
}

async fn a_taken_address_is_refused(world: &World) {
    let listener = world.listen("tcp:0:interface=127.0.0.1").await;
    let again = format!("tcp:{}:interface=127.0.0.1", port(&listener));
    for server in [again.clone(), around("pass", &again)] {
        let error = world.listen_error(&server).await;
        assert_kind(&error, ErrorKind::AddressInUse);
        assert!(error.is_retryable() && error.message().contains(&port(&listener).to_string()), "{error}");
    }
    drop(listener);
    world.listen(&again).await;
}

async fn bind_address_is_where_it_connects_from(world: &World) {
    let listener = world.listen("tcp:0:interface=127.0.0.1").await;
    let own = closed_port();
    for (bind, expected) in [
        ("127.0.0.2".to_owned(), None),
        ("localhost".to_owned(), None),
        (format!(r"127.0.0.1\:{own}"), Some(own)),
    ] {
        let client = format!("tcp:127.0.0.1:{}:bindAddress={bind}", port(&listener));
        let accepting = async { listener.accept().await.expect("accept").await.expect("handshake") };
        let (client, accepted) = tokio::join!(world.connect(&client), accepting);
        let from = accepted.info().peer_addr().and_then(|address| address.ip()).expect("an address");
        assert_eq!(client.info().local_addr(), Some(Address::Ip(from)));
        if bind == "127.0.0.2" {
            assert_eq!(from.ip().to_string(), "127.0.0.2");
        }
        if let Some(expected) = expected {
            assert_eq!(from.port(), expected);
        }
    }
}

async fn interface_is_where_it_listens(world: &World) {
    let listener = world.listen("tcp:0:interface=127.0.0.2").await;
    let address: IpAddr = "127.0.0.2".parse().expect("an address");
    assert_eq!(listener.addresses()[0].ip().map(|address| address.ip()), Some(address));
    let elsewhere = world.connect_error(&format!("tcp:127.0.0.1:{}", port(&listener))).await;
    assert_kind(&elsewhere, ErrorKind::ConnectionRefused);
    let (mut client, mut accepted) = world.pair(&listener).await;
    exchange(&mut client, &mut accepted).await;

    let named = world.listen("tcp:0:interface=localhost").await;
    assert!(named.addresses()[0].ip().expect("an address").ip().is_loopback());
    let error = world.listen_error("tcp:0:interface=no..body").await;
    assert_kind(&error, ErrorKind::NameResolution);
}

async fn backlog_is_how_many_wait(world: &World) {
    // Linux takes one more than it is told.
    for backlog in [0_usize, 3] {
        let listener = world.listen(&format!("tcp:0:interface=127.0.0.1:backlog={backlog}")).await;
        let client =
            world.registry.client(format!("{}:timeout=200ms", reachable(&listener))).expect("a client");
        let mut waiting = Vec::new();
        for _ in 0..=backlog {
            waiting.push(client.connect().await.expect("there is room"));
        }
        assert_kind(&client.connect().await.expect_err("there is none"), ErrorKind::TimedOut);
    }
}

async fn accepted_connections_outlive_their_listener(world: &World) {
    let folder = tempfile::tempdir().expect("a folder");
    for server in servers(folder.path()) {
        let listener = world.listen(&server).await;
        let (mut client, mut accepted) = world.pair(&listener).await;
        listener.close().await.expect("close");
        exchange(&mut client, &mut accepted).await;
    }
}

async fn a_reset_is_an_error(world: &World) {
    let listener: Listener = world.listen("tcp:0:interface=127.0.0.1").await;
    let (client, mut accepted) = world.pair(&listener).await;
    let peer = accepted.info().peer_addr();
    reset(client);
    let error = accepted.read_u8().await.expect_err("the client reset it");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(accepted.info().peer_addr(), peer, "who it was is still known");
}

/// Closes so that the peer gets an RST.
fn reset(connection: Connection) {
    let socket = connection.into_socket().expect("a socket");
    rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).expect("SO_LINGER");
}

async fn options_hold_on_both_sides(world: &World) {
    use rustix::net::sockopt::{ip_ttl, socket_keepalive, socket_reuseport, tcp_keepidle, tcp_nodelay};

    const OPTIONS: &str = "nodelay=1:keepalive=77:ttl=42";
    let server = format!("tcp:0:interface=127.0.0.1:reuseport=1:{OPTIONS}");
    let listener = world.listen(&server).await;
    let accepting = async { listener.accept().await.expect("accept").await.expect("no handshake") };
    let description = format!("tcp:127.0.0.1:{}:{OPTIONS}", port(&listener));
    let (client, accepted) = tokio::join!(world.connect(&description), accepting);
    for connection in [client, accepted] {
        let socket = connection.into_socket().expect("a socket");
        assert!(tcp_nodelay(&socket).expect("TCP_NODELAY"));
        assert!(socket_keepalive(&socket).expect("SO_KEEPALIVE"));
        assert_eq!(tcp_keepidle(&socket).expect("TCP_KEEPIDLE"), Duration::from_secs(77));
        assert_eq!(ip_ttl(&socket).expect("IP_TTL"), 42);
    }

    // Who shares a port can have it too; who does not cannot.
    let taken = format!("tcp:{}:interface=127.0.0.1", port(&listener));
    let shared = world.listen(&format!("{taken}:reuseport=1")).await;
    assert_eq!(port(&shared), port(&listener));
    assert_kind(&world.listen_error(&taken).await, ErrorKind::AddressInUse);

    // Unless asked for, everything is as the system has it.
    let listener = world.listen("tcp:0:interface=127.0.0.1").await;
    let (client, accepted) = world.pair(&listener).await;
    for connection in [client, accepted] {
        let socket = connection.into_socket().expect("a socket");
        assert!(
            !tcp_nodelay(&socket).expect("TCP_NODELAY") && !socket_keepalive(&socket).expect("SO_KEEPALIVE")
        );
        assert!(!socket_reuseport(&socket).expect("SO_REUSEPORT"));
    }
}

/// They take privileges.
async fn mark_and_device_hold_on_both_sides(world: &World) {
    if !is_root() {
        skip("mark and device", "only root may set them");
        return;
    }
    const OPTIONS: &str = "mark=7:device=lo";
    let listener = world.listen(&format!("tcp:0:interface=127.0.0.1:{OPTIONS}")).await;
    let accepting = async { listener.accept().await.expect("accept").await.expect("no handshake") };
    let description = format!("tcp:127.0.0.1:{}:{OPTIONS}", port(&listener));
    let (client, accepted) = tokio::join!(world.connect(&description), accepting);
    for connection in [client, accepted] {
        let socket = connection.into_socket().expect("a socket");
        let socket = socket2::SockRef::from(&socket);
        assert_eq!(socket.mark().expect("SO_MARK"), 7);
        assert_eq!(socket.device().expect("SO_BINDTODEVICE").as_deref(), Some(&b"lo"[..]));
    }
}

async fn options_that_cannot_hold_are_refused(world: &World) {
    for (description, argument) in [
        ("tcp:80:keepalive=1.5", "keepalive"),
        ("tcp:80:keepalive=40000", "keepalive"),
        ("tcp:80:ttl=0", "ttl"),
        ("tcp:80:ttl=256", "ttl"),
        ("tcp:80:mark=4294967296", "mark"),
        ("tcp:80:device=a-name-of-16-byte", "device"),
        ("tcp6:80:device=", "device"),
    ] {
        let error = world.registry.server(description).expect_err(description);
        assert_eq!(error.argument(), Some(argument), "{error}");
    }
    for (description, argument) in [
        ("tcp:h:80:attemptDelay=9ms", "attemptDelay"),
        ("tcp:h:0", "port"),
        ("tcp:h:80:keepalive=0.5", "keepalive"),
    ] {
        let error = world.registry.client(description).expect_err(description);
        assert_eq!(error.argument(), Some(argument), "{error}");
    }
    let error = world.listen_error("tcp:0:interface=127.0.0.1:v6only=1").await;
    assert_eq!(error.argument(), Some("v6only"), "{error}");
    let error = world.listen_error("tcp:0:interface=127.0.0.1:device=nonesuch0").await;
    assert!(error.message().contains("device"), "{error}");

    // One that takes IPv6 alone leaves the port to IPv4.
    let six = world.listen("tcp6:0:v6only=1").await;
    let four = world.listen(&format!("tcp:{}", port(&six))).await;
    assert_eq!(port(&four), port(&six));
    let both = world.listen("tcp6:0:v6only=0").await;
    let taken = world.listen_error(&format!("tcp:{}", port(&both))).await;
    assert_kind(&taken, ErrorKind::AddressInUse);
}
