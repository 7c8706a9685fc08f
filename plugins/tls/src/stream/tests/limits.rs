//! What fails, and what is held when somebody does not take it.

use rustls::InvalidMessage;

use super::*;

/// What else comes with the end of the handshake is looked at all the same.
#[tokio::test]
async fn garbage_with_the_end_of_the_handshake_is_told() {
    let Some(config) = server_config(&TLS13) else { return };
    let side = UnbufferedServerConnection::new(Arc::new(config)).expect("a configuration");
    let client = Arc::new(client_config(&TLS13).expect("certificates"));
    let connection = ClientConnection::new(client, localhost()).expect("a configuration").into();
    let (near, far) = duplex(1 << 20);
    let mut peer = Peer { connection, wire: far };
    let shaking = async {
        loop {
            let mut records = peer.records();
            if !peer.connection.is_handshaking() {
                records.extend_from_slice(b"\x17\x03\x03\x00\x20................................");
                return peer.wire.write_all(&records).await.expect("write");
            }
            peer.wire.write_all(&records).await.expect("write");
            peer.receive().await.expect("a handshake");
        }
    };
    let (stream, ()) = tokio::join!(TlsStream::shake_hands(side, Stream::new(near)), shaking);
    assert_eq!(stream.err().expect("broken").kind(), io::ErrorKind::InvalidData);
    let told = peer.receive().await;
    assert_eq!(told, Err(Error::AlertReceived(AlertDescription::BadRecordMac)));
}

/// A stream that can be written to once.
struct Once(DuplexStream, bool);

impl AsyncRead for Once {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Once {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if mem::replace(&mut self.1, true) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_handshake_whose_end_cannot_be_sent_fails() {
    let (Some(config), Some(client)) = (server_config(&TLS13), client_config(&TLS13)) else { return };
    let side = UnbufferedClientConnection::new(Arc::new(client), localhost()).expect("a configuration");
    let connection = ServerConnection::new(Arc::new(config)).expect("a configuration").into();
    let (near, far) = duplex(1 << 20);
    let mut peer = Peer { connection, wire: far };
    let shaking = async {
        peer.receive().await.expect("a hello");
        let records = peer.records();
        peer.wire.write_all(&records).await.expect("write");
    };
    let (stream, ()) = tokio::join!(TlsStream::shake_hands(side, Stream::new(Once(near, false))), shaking);
    assert_eq!(stream.err().expect("not sent").kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn what_comes_is_kept_within_bounds() {
    let Some((mut stream, mut peer)) = server(&TLS13).await else { return };
    let records = peer.encrypt(&[&[7; 15_000][..]; 20]);
    peer.wire.write_all(&records).await.expect("room");
    for _ in 0..70_000 {
        assert_eq!(in_time(stream.read_u8()).await.expect("a byte"), 7);
        let held = stream.state.session.allocated();
        assert!(held <= BATCH + RECORD, "{held} bytes");
    }
    // A message of the handshake, in as many records as it has bytes.
    let config = server_config(&TLS13).expect("certificates");
    let side = UnbufferedServerConnection::new(Arc::new(config)).expect("a configuration");
    let (near, mut far) = duplex(1 << 20);
    let message = [&[1, 0, 0xee, 0][..], &[0; 60_000]].concat();
    let records: Vec<u8> = message.iter().flat_map(|byte| [0x16, 3, 1, 0, 1, *byte]).collect();
    let sending = async { far.write_all(&records).await };
    let (stream, _) =
        in_time(async { tokio::join!(TlsStream::shake_hands(side, Stream::new(near)), sending) }).await;
    let error = stream.err().expect("too much");
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
    assert_eq!(cause, Some(&Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge)));
}

#[tokio::test]
async fn what_the_other_side_does_not_take_is_bounded_and_let_go() {
    let Some((mut stream, mut peer)) = server(&TLS13).await else { return };
    let mut sent = 0;
    let written = std::future::poll_fn(|cx| {
        let block = [IoSlice::new(&[7; 100]), IoSlice::new(&[7; 50_000])];
        while let Poll::Ready(count) = Pin::new(&mut stream).poll_write_vectored(cx, &block) {
            sent += count.expect("write");
            assert!(sent < 4 << 20, "nothing stops it");
        }
        Poll::Ready(stream.state.unsent.allocated())
    });
    let held = written.await;
    assert!((1..=BATCH + RECORD).contains(&held), "{held} bytes");
    let mut received = 0;
    let flushing = async { stream.flush().await.expect("flush") };
    let receiving = async {
        while received < sent {
            received += peer.receive().await.expect("bytes").len();
        }
    };
    in_time(async { tokio::join!(flushing, receiving) }).await;
    assert_eq!(received, sent);
    assert_idle(&stream);
}
