//! Against rustls with buffers of its own, whose records are passed on as each test wants.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::UnbufferedClientConnection;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::version::{TLS12, TLS13};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Connection, Error, RootCertStore, ServerConfig,
    ServerConnection, SupportedProtocolVersion,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::reload::tests::pki;

mod limits;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

/// The other side, and its end of the wire.
struct Peer {
    connection: Connection,
    wire: DuplexStream,
}

impl Peer {
    /// Passes on what has come, and gives what was decrypted.
    async fn receive(&mut self) -> Result<Vec<u8>, Error> {
        let mut records = vec![0; 1 << 20];
        let count = self.wire.read(&mut records).await.expect("read");
        let mut records = &records[..count];
        let mut received = Vec::new();
        while !records.is_empty() {
            self.connection.read_tls(&mut records).expect("room");
            self.connection.process_new_packets()?;
            // Says that there is no more, where there is no end.
            let _ = io::Read::read_to_end(&mut self.connection.reader(), &mut received);
        }
        Ok(received)
    }

    /// What rustls wants to send.
    fn records(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut records).expect("a vector takes all");
        }
        records
    }

    /// Each piece as a record of its own.
    fn encrypt(&mut self, pieces: &[&[u8]]) -> Vec<u8> {
        let mut records = Vec::new();
        for piece in pieces {
            io::Write::write_all(&mut self.connection.writer(), piece).expect("room");
            records.append(&mut self.records());
        }
        records
    }

    async fn shake_hands(&mut self) {
        loop {
            let records = self.records();
            self.wire.write_all(&records).await.expect("write");
            if !self.connection.is_handshaking() {
                return;
            }
            self.receive().await.expect("a handshake");
        }
    }
}

fn server_config(version: &'static SupportedProtocolVersion) -> Option<ServerConfig> {
    let file = |name: &str| Some(fs::read(pki()?.join(name)).expect(name));
    let certificate = CertificateDer::from_pem_slice(&file("server.crt")?).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(&file("server.key")?).expect("a key");
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a pair");
    config.ticketer = Ticketer::new().expect("keys");
    Some(config)
}

fn client_config(version: &'static SupportedProtocolVersion) -> Option<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let root = fs::read(pki()?.join("ca.crt")).expect("a root");
    roots.add(CertificateDer::from_pem_slice(&root).expect("a root")).expect("a root");
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version");
    Some(config.with_root_certificates(roots).with_no_client_auth())
}

fn localhost() -> ServerName<'static> {
    "localhost".try_into().expect("a name")
}

/// Ends a test that hangs.
async fn in_time<T>(body: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), body).await.expect("done within half a minute")
}

async fn joined<S: Side>(side: S, connection: Connection) -> (TlsStream<S>, Peer) {
    let (near, far) = duplex(1 << 20);
    let mut peer = Peer { connection, wire: far };
    let (stream, ()) = tokio::join!(TlsStream::shake_hands(side, Stream::new(near)), peer.shake_hands());
    (stream.expect("a handshake"), peer)
}

/// A server's stream that has sent its tickets, and a client; `None` where there is nothing to make certificates with.
async fn server(
    version: &'static SupportedProtocolVersion,
) -> Option<(TlsStream<UnbufferedServerConnection>, Peer)> {
    let (mut stream, peer) = server_with_tickets(version).await?;
    stream.flush().await.expect("room");
    Some((stream, peer))
}

async fn server_with_tickets(
    version: &'static SupportedProtocolVersion,
) -> Option<(TlsStream<UnbufferedServerConnection>, Peer)> {
    let side = UnbufferedServerConnection::new(Arc::new(server_config(version)?)).expect("a configuration");
    let peer = ClientConnection::new(Arc::new(client_config(version)?), localhost());
    Some(joined(side, peer.expect("a configuration").into()).await)
}

fn assert_idle<S: Side>(stream: &TlsStream<S>) {
    let State { session, unsent, .. } = &*stream.state;
    assert_eq!([session.allocated(), unsent.allocated()], [0, 0], "bytes are held");
}

#[tokio::test]
async fn bytes_arrive_however_records_are_cut() {
    let pieces: Vec<Vec<u8>> = (0..200).map(|n: u8| vec![n; usize::from(n) * 3 + 1]).collect();
    let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
    let sent = pieces.concat();
    for version in VERSIONS {
        for (at_once, room) in [(1, 64), (2, 7), (17, 4096), (usize::MAX, 5), (usize::MAX, 1 << 20)] {
            let Some((mut stream, mut peer)) = server(version).await else { return };
            let records = peer.encrypt(&pieces);
            let sending = async {
                for part in records.chunks(at_once) {
                    peer.wire.write_all(part).await.expect("write");
                    tokio::task::yield_now().await;
                }
                peer
            };
            let receiving = async {
                let (mut received, mut buf) = (Vec::new(), vec![0; room]);
                while received.len() < sent.len() {
                    let count = stream.read(&mut buf).await.expect("bytes");
                    assert_ne!(count, 0, "no end");
                    received.extend_from_slice(&buf[..count]);
                }
                received
            };
            let (_peer, received) = in_time(async { tokio::join!(sending, receiving) }).await;
            assert!(received == sent, "{version:?}, {at_once} bytes at once, room for {room}");
            assert_idle(&stream);
        }
    }
}

#[tokio::test]
async fn tickets_go_with_what_is_sent_first() {
    for bytes in [&b"first"[..], b""] {
        let Some((mut stream, mut peer)) = server_with_tickets(&TLS13).await else { return };
        let records = peer.encrypt(&[b"hello"]);
        peer.wire.write_all(&records).await.expect("write");
        stream.read_exact(&mut [0; 5]).await.expect("bytes");
        let mut byte = [0];
        let mut buf = ReadBuf::new(&mut byte);
        let is_silent =
            poll_fn(|cx| Poll::Ready(Pin::new(&mut peer.wire).poll_read(cx, &mut buf).is_pending())).await;
        assert!(is_silent, "tickets are sent alone");
        if bytes.is_empty() {
            stream.shutdown().await.expect("an end");
        } else {
            stream.write_all(bytes).await.expect("write");
        }
        assert_eq!(peer.receive().await.expect("both"), bytes);
        let Connection::Client(client) = &peer.connection else { unreachable!("it is a client") };
        assert_eq!(client.tls13_tickets_received(), 2);
        assert_idle(&stream);
    }
}

#[tokio::test]
async fn each_direction_ends_by_itself() {
    for version in VERSIONS {
        let Some((mut stream, mut peer)) = server(version).await else { return };
        let mut records = peer.encrypt(&[b"last"]);
        peer.connection.send_close_notify();
        records.append(&mut peer.records());
        // What comes after the end does not count.
        records.extend_from_slice(b"garbage");
        peer.wire.write_all(&records).await.expect("write");
        let mut received = Vec::new();
        in_time(stream.read_to_end(&mut received)).await.expect("an end");
        assert_eq!(received, b"last");
        assert_eq!(stream.read(&mut [0]).await.expect("still the end"), 0);
        stream.write_all(b"answer").await.expect("the other direction is open");
        stream.shutdown().await.expect("an end");
        assert_eq!(peer.receive().await.expect("an answer"), b"answer");
        assert!(peer.connection.process_new_packets().expect("an end").peer_has_closed());
        let error = stream.write(b"x").await.expect_err("the end was said");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert_idle(&stream);
    }
}

#[tokio::test]
async fn a_cut_in_a_record_is_no_end() {
    let Some((mut stream, mut peer)) = server(&TLS13).await else { return };
    let records = peer.encrypt(&[b"whole", b"cut"]);
    peer.wire.write_all(&records[..records.len() - 1]).await.expect("write");
    drop(peer);
    let mut received = Vec::new();
    let error = stream.read_to_end(&mut received).await.expect_err("a cut");
    assert_eq!((received.as_slice(), error.kind()), (&b"whole"[..], io::ErrorKind::UnexpectedEof));
}

#[tokio::test]
async fn garbage_is_told_after_what_came_before_it() {
    for version in VERSIONS {
        for (garbage, alert) in [
            // A record of application data that nobody has encrypted.
            (&b"\x17\x03\x03\x00\x20................................"[..], AlertDescription::BadRecordMac),
            (b"GET / HTTP/1.0\r\n\r\n", AlertDescription::DecodeError),
        ] {
            let Some((mut stream, mut peer)) = server(version).await else { return };
            let records = [&peer.encrypt(&[b"good"]), garbage].concat();
            peer.wire.write_all(&records).await.expect("write");
            let mut received = Vec::new();
            // Not all of it fits.
            let mut buf = [0; 3];
            let error = loop {
                match in_time(stream.read(&mut buf)).await {
                    Ok(count) => received.extend_from_slice(&buf[..count]),
                    Err(error) => break error,
                }
            };
            assert_eq!((received.as_slice(), error.kind()), (&b"good"[..], io::ErrorKind::InvalidData));
            assert_eq!(peer.receive().await, Err(Error::AlertReceived(alert)), "{version:?}");
            assert_eq!(stream.read(&mut [0]).await.expect_err("broken").kind(), io::ErrorKind::InvalidData);
            assert_eq!(stream.write(b"x").await.expect_err("broken").kind(), io::ErrorKind::InvalidData);
            assert_idle(&stream);
        }
    }
}

#[tokio::test]
async fn keys_are_updated_while_data_moves() {
    let Some((mut stream, mut peer)) = server(&TLS13).await else { return };
    for round in 0..100_u8 {
        peer.connection.refresh_traffic_keys().expect("TLS 1.3");
        let records = peer.encrypt(&[&[round; 5]]);
        peer.wire.write_all(&records).await.expect("write");
        let mut received = [0; 5];
        in_time(stream.read_exact(&mut received)).await.expect("bytes by the new keys");
        assert_eq!(received, [round; 5]);
        // By the new keys too, which are told before.
        stream.write_all(&received).await.expect("write");
        stream.flush().await.expect("flush");
        assert_eq!(peer.receive().await.expect("an answer"), received);
    }
    assert_idle(&stream);
}

#[tokio::test]
async fn writing_does_not_disturb_half_a_message() {
    let Some(mut config) = server_config(&TLS13) else { return };
    // So tickets come in many records.
    config.max_fragment_size = Some(64);
    let Some(client) = client_config(&TLS13) else { return };
    let side = UnbufferedClientConnection::new(Arc::new(client), localhost()).expect("a configuration");
    let connection = ServerConnection::new(Arc::new(config)).expect("a configuration");
    let (near, far) = duplex(1 << 20);
    let mut peer = Peer { connection: connection.into(), wire: far };
    let shaking = async {
        while peer.connection.is_handshaking() {
            let records = peer.records();
            peer.wire.write_all(&records).await.expect("write");
            peer.receive().await.expect("a handshake");
        }
        peer
    };
    let (stream, mut peer) = tokio::join!(TlsStream::shake_hands(side, Stream::new(near)), shaking);
    let mut stream = stream.expect("a handshake");
    let tickets = peer.records();
    let all = [tickets, peer.encrypt(&[b"data"])].concat();
    for part in all.chunks(100) {
        peer.wire.write_all(part).await.expect("write");
        // Nothing to read until the last of it; what comes is looked at all the same.
        let mut byte = [0; 4];
        let read = tokio::select! {
            biased;
            read = stream.read(&mut byte) => Some(read.expect("no error")),
            () = tokio::task::yield_now() => None,
        };
        stream.write_all(b"meanwhile").await.expect("write");
        stream.flush().await.expect("flush");
        assert_eq!(peer.receive().await.expect("what was written"), b"meanwhile");
        assert!(read.is_none_or(|count| byte[..count] == b"data"[..count]));
    }
    assert_idle(&stream);
}
