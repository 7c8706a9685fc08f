//! `Established`, which does the handshakes itself.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use endpoints::{Error, ErrorKind, Established, Listener, Registry};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::harness::{PATIENCE, need};
use crate::programs::Place;

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
    let (established, errors) = told(listener);
    (set(established), errors, address)
}

fn told(listener: Listener) -> (Established, Errors) {
    let errors = Errors::default();
    let told = Arc::clone(&errors);
    let tell = move |error: &Error| told.lock().unwrap().push(error.kind());
    (listener.into_established().on_error(tell), errors)
}

async fn client(address: std::net::SocketAddr, sends: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(sends).await.expect("sending");
    stream
}

const HEADER: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.1 4321 80\r\n";

/// Accepts nothing until an error is told.
async fn first_error(established: &mut Established, errors: &Errors) -> ErrorKind {
    let told = async {
        loop {
            assert!(timeout(AWHILE, established.accept()).await.is_err(), "a connection");
            if let Some(error) = errors.lock().unwrap().pop() {
                return error;
            }
        }
    };
    timeout(PATIENCE, told).await.expect("an error in time")
}

#[tokio::test]
async fn a_failed_handshake_is_told_and_the_next_connection_comes() {
    let (mut established, errors, address) = proxied(|established| established).await;
    let _bad = client(address, b"GET / HTTP/1.1\r\n\r\n").await;
    let _silent = client(address, b"").await;
    assert_eq!(first_error(&mut established, &errors).await, ErrorKind::HandshakeFailed);
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
    assert_eq!(first_error(&mut established, &errors).await, ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_handshake_goes_on_while_nobody_accepts() {
    need!("openssl");
    let place = Place::with_certificates();
    let registry = Registry::builder().default_plugin_path(false).build().expect("a registry");
    let server = format!("tls:{}:0:interface=127.0.0.1", place.quoted("pki/server.pem"));
    let (mut established, errors) =
        told(registry.server(server).expect("a description").listen().await.expect("a listener"));
    let address = established.listener().addresses()[0].ip().expect("an address");
    let mut late = client(address, b"").await;
    // It comes later, so that the other one is accepted when it fails.
    let _bad = client(address, b"GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(first_error(&mut established, &errors).await, ErrorKind::HandshakeFailed);
    // The client speaks over the connection that is there.
    let between = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (roots, port) = (place.quoted("pki/trust"), between.local_addr().expect("its address").port());
    let description = format!(r"tls:localhost:443:trustRoots={roots}:endpoint=tcp\:127.0.0.1\:{port}");
    tokio::spawn(async move {
        let mut near = between.accept().await.expect("the client").0;
        tokio::io::copy_bidirectional(&mut near, &mut late).await
    });
    let late = registry.client(description).expect("a description");
    let _late = timeout(PATIENCE, late.connect()).await.expect("in time").expect("a connection");
    timeout(PATIENCE, established.accept()).await.expect("in time").expect("a connection");
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
