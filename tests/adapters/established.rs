//! `Established`, which does the handshakes itself.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use endpoints::{ErrorKind, Established, Registry};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::PATIENCE;

/// How long something is watched that must not happen.
const AWHILE: Duration = Duration::from_millis(200);

type Errors = Arc<Mutex<Vec<ErrorKind>>>;

/// One whose handshake is a PROXY header; the errors that it tells; and its address.
async fn proxied(
    set: impl FnOnce(Established) -> Established,
) -> (Established, Errors, std::net::SocketAddr) {
    let registry = Registry::builder().default_plugin_path(false).build().expect("a registry");
    let server = registry.server("haproxy:tcp:0:interface=127.0.0.1").expect("a description");
    let listener = server.listen().await.expect("a listener");
    let address = listener.addresses()[0].ip().expect("an address");
    let errors = Errors::default();
    let told = Arc::clone(&errors);
    let established =
        listener.into_established().on_error(move |error| told.lock().unwrap().push(error.kind()));
    (set(established), errors, address)
}

async fn client(address: std::net::SocketAddr, sends: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(sends).await.expect("sending");
    stream
}

const HEADER: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.1 4321 80\r\n";

#[tokio::test]
async fn a_failed_handshake_is_told_and_the_next_connection_comes() {
    let (mut established, errors, address) = proxied(|established| established).await;
    let _bad = client(address, b"GET / HTTP/1.1\r\n\r\n").await;
    let _silent = client(address, b"").await;
    // Its failure is seen before the good one is there.
    assert!(timeout(AWHILE, established.accept()).await.is_err());
    assert_eq!(*errors.lock().unwrap(), [ErrorKind::HandshakeFailed]);
    let _good = client(address, HEADER).await;
    let connection = timeout(PATIENCE, established.accept()).await.expect("in time").expect("a connection");
    assert_eq!(connection.info().peer_addr().expect("an address").to_string(), "192.0.2.7:4321");
}

#[tokio::test]
async fn handshakes_are_limited_in_number() {
    let (mut established, _, address) = proxied(|established| established.max_handshakes(2)).await;
    let first = client(address, b"PROXY").await;
    let _second = client(address, b"PROXY").await;
    let _third = client(address, HEADER).await;
    assert!(timeout(AWHILE, established.accept()).await.is_err(), "a third handshake was begun");
    drop(first);
    timeout(PATIENCE, established.accept()).await.expect("in time").expect("a connection");
}

#[tokio::test]
async fn handshakes_are_limited_in_time() {
    let limit = Duration::from_millis(50);
    let (mut established, errors, address) =
        proxied(|established| established.handshake_timeout(limit)).await;
    let _slow = client(address, b"PROXY").await;
    assert!(timeout(AWHILE * 3, established.accept()).await.is_err());
    assert_eq!(*errors.lock().unwrap(), [ErrorKind::TimedOut]);
}

#[tokio::test]
async fn a_handshake_goes_on_while_nobody_accepts() {
    let (mut established, _, address) = proxied(|established| established).await;
    let mut late = client(address, b"").await;
    // Polled once or more, so that it is accepted, and dropped.
    assert!(timeout(AWHILE, established.accept()).await.is_err());
    late.write_all(HEADER).await.expect("sending");
    tokio::time::sleep(AWHILE).await;
    let ready = poll_fn(|cx| Poll::Ready(established.poll_accept(cx))).await;
    assert!(matches!(ready, Poll::Ready(Ok(_))), "{ready:?}");
}

#[tokio::test]
async fn closing_cuts_handshakes() {
    let (mut established, _, address) = proxied(|established| established).await;
    let mut late = client(address, b"").await;
    assert!(timeout(AWHILE, established.accept()).await.is_err());
    established.close().await.expect("closed");
    let read =
        timeout(PATIENCE, tokio::io::AsyncReadExt::read(&mut late, &mut [0; 1])).await.expect("in time");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    assert!(TcpStream::connect(address).await.is_err(), "it still listens");
}
