//! The endpoint against scripted proxies; the protocol itself is tested beside it.

use std::future::{pending, ready};
use std::io;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::time::sleep;

use super::*;

const SECRET: &str = "hunter2";
const LIMIT: Duration = Duration::from_secs(30);

fn handshake() -> Handshake {
    let target = target("example.com", 80).unwrap();
    Handshake::new(target, Some(Credentials::new("alice", SECRET))).unwrap()
}

/// Runs a handshake with a proxy that says `script` and keeps the connection open; gives back what the proxy still has.
async fn with_proxy(script: &[u8]) -> (Result<(Connection, Bound), Error>, DuplexStream) {
    let (ours, mut proxy) = duplex(1024);
    proxy.write_all(script).await.unwrap();
    let connecting = ready(Ok(Connection::from_stream(ours)));
    (establish(connecting, handshake(), sleep(LIMIT), LIMIT).await, proxy)
}

fn refused(argument: &str, error: &Error) -> String {
    assert_eq!((error.kind(), error.argument()), (ErrorKind::InvalidArgument, Some(argument)), "{error}");
    assert!(!error.is_retryable());
    error.to_string()
}

#[test]
fn targets_are_checked() {
    let name = |host: &str| Ok(Target::Name { host: host.to_owned(), port: 80 });
    for host in ["example.com", "xn--bcher-kva.example.", "a_b.onion"] {
        assert_eq!(target(host, 80).map_err(|error| error.to_string()), name(host));
    }
    for (literal, address) in [("192.0.2.7", "192.0.2.7:80"), ("2001:db8::1", "[2001:db8::1]:80")] {
        let Ok(Target::Ip(ip)) = target(literal, 80) else { panic!("{literal} is an address") };
        assert_eq!(ip, address.parse().unwrap());
    }
    for (host, hint) in [
        ("b\u{fc}cher.example", "xn-- form"),
        ("[::1]", "without brackets"),
        ("fe80::1%eth0", "zone"),
        ("a b", "' '"),
        ("a\u{1b}", "'\\u{1b}'"),
    ] {
        let message = refused("host", &target(host, 80).unwrap_err());
        assert!(message.contains(hint), "{message}");
        assert!(!message.contains('\u{1b}'), "{message:?}");
    }
    assert!(refused("port", &target("example.com", 0).unwrap_err()).contains("1 to 65535"));
}

#[test]
fn credentials_come_in_pairs() {
    for (given, missing, made) in [
        ("username", "password", credentials(Some(SECRET.as_bytes()), None)),
        ("password", "username", credentials(None, Some(SECRET.as_bytes()))),
    ] {
        let message = refused(given, &made.unwrap_err());
        assert!(message.contains(given) && message.contains(missing), "{message}");
        assert!(!message.contains(SECRET), "{message}");
    }
    for (username, password, argument) in [("", "p", "username"), ("u", "", "password")] {
        let credentials = Credentials::new(username, password);
        let made = Handshake::new(target("example.com", 80).unwrap(), Some(credentials)).map_err(Error::from);
        refused(argument, &made.unwrap_err());
    }
    let long = Handshake::new(target(&"a".repeat(256), 80).unwrap(), None).map_err(Error::from);
    assert!(refused("host", &long.unwrap_err()).contains("255"));
}

#[tokio::test]
async fn the_connection_comes_back_with_the_targets_first_byte_unread() {
    let (done, mut proxy) =
        with_proxy(b"\x05\x02\x01\x00\x05\x00\x00\x01\x01\x02\x03\x04\x01\x02hello").await;
    let (mut connection, bound) = done.unwrap();
    assert_eq!(bound.to_string(), "1.2.3.4:258");
    let mut sent = [0; 35];
    proxy.read_exact(&mut sent).await.unwrap();
    assert_eq!(
        &sent[..],
        b"\x05\x02\x00\x02\x01\x05alice\x07hunter2\x05\x01\x00\x03\x0bexample.com\x00\x50"[..35].as_ref()
    );
    drop(proxy);
    let mut rest = String::new();
    connection.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "hello");
}

#[tokio::test]
async fn refusals_have_kinds_and_say_whether_to_try_again() {
    let login = b"\x05\x02\x01\x00".as_slice();
    let reply = |code: u8| [login, &[5, code, 0, 1]].concat();
    for (script, kind, retryable) in [
        (b"HTTP/1.1".to_vec(), ErrorKind::HandshakeFailed, false),
        (b"\x05\xff".to_vec(), ErrorKind::AuthenticationFailed, false),
        (b"\x05\x07".to_vec(), ErrorKind::HandshakeFailed, false),
        (b"\x05\x02\x01\x01".to_vec(), ErrorKind::AuthenticationFailed, false),
        (reply(1), ErrorKind::Other, true),
        (reply(2), ErrorKind::PermissionDenied, false),
        (reply(3), ErrorKind::Unreachable, true),
        (reply(4), ErrorKind::Unreachable, true),
        (reply(5), ErrorKind::ConnectionRefused, true),
        (reply(6), ErrorKind::Unreachable, true),
        (reply(7), ErrorKind::Unsupported, false),
        (reply(8), ErrorKind::Unsupported, false),
        (reply(9), ErrorKind::Other, false),
    ] {
        let error = with_proxy(&script).await.0.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (kind, retryable), "{error}");
        assert!(!error.to_string().contains(SECRET), "{error}");
    }
}

#[tokio::test]
async fn a_proxy_that_hangs_up_is_told_by_the_stage() {
    for (script, kind, retryable) in [
        (&b""[..], ErrorKind::HandshakeFailed, true),
        (b"\x05\x02", ErrorKind::AuthenticationFailed, false),
        (b"\x05\x02\x01\x00", ErrorKind::HandshakeFailed, true),
    ] {
        let (ours, mut proxy) = duplex(1024);
        proxy.write_all(script).await.unwrap();
        proxy.shutdown().await.unwrap();
        let connecting = ready(Ok(Connection::from_stream(ours)));
        let error = establish(connecting, handshake(), sleep(LIMIT), LIMIT).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (kind, retryable), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_covers_all_stages_and_the_error_names_the_stage() {
    let late = |error: Error, stage: &str| {
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.to_string().contains(stage) && error.to_string().contains("30s"), "{error}");
    };
    late(
        establish(pending(), handshake(), sleep(LIMIT), LIMIT).await.unwrap_err(),
        "connecting to the proxy",
    );
    for (script, stage) in [
        (&b"\x05"[..], "agreeing with the proxy"),
        (b"\x05\x02\x01", "authenticating"),
        (b"\x05\x02\x01\x00\x05", "waiting for the proxy to connect"),
    ] {
        late(with_proxy(script).await.0.unwrap_err(), stage);
    }
    // What connecting took is missing from the handshake's share.
    let begun = tokio::time::Instant::now();
    let (ours, _proxy) = duplex(64);
    let slow = async {
        sleep(LIMIT - Duration::from_secs(1)).await;
        Ok(Connection::from_stream(ours))
    };
    late(establish(slow, handshake(), sleep(LIMIT), LIMIT).await.unwrap_err(), "agreeing with the proxy");
    assert_eq!(begun.elapsed().as_secs(), LIMIT.as_secs());
}

#[tokio::test]
async fn the_proxys_own_failure_keeps_its_kind() {
    let error = Error::from(io::Error::from(io::ErrorKind::ConnectionRefused));
    let error = establish(ready(Err(error)), handshake(), sleep(LIMIT), LIMIT).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(error.to_string().starts_with("connecting to the proxy: "), "{error}");
}

/// A stream whose writes answer as it is told, which buffers until flushed, and has nothing to read before.
struct Odd {
    write: fn(&[u8]) -> io::Result<usize>,
    flushed: bool,
}

impl AsyncRead for Odd {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        assert!(self.flushed, "a read before what was written is flushed would wait for ever");
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Odd {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.flushed = false;
        Poll::Ready((self.write)(bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flushed = true;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn writes_are_flushed_and_failing_ones_reported() {
    let run = |write| async move {
        let connection = Connection::from_stream(Odd { write, flushed: false });
        establish(ready(Ok(connection)), handshake(), pending(), LIMIT).await.unwrap_err()
    };
    // One byte at a time is fine; the stream then ends.
    let error = run(|bytes| Ok(bytes.len().min(1))).await;
    assert_eq!(error.kind(), ErrorKind::HandshakeFailed, "{error}");
    let error = run(|_| Ok(0)).await;
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    assert!(error.to_string().contains("takes no more bytes"), "{error}");
    let error = run(|_| Err(io::ErrorKind::BrokenPipe.into())).await;
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    assert!(error.to_string().contains("agreeing with the proxy"), "{error}");
}
