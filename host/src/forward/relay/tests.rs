use std::pin::Pin;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf, duplex};
use tokio::time::Instant;

use super::*;

mod stuck;

const LINGER: Duration = Duration::from_millis(300);

const LIMITS: Limits = Limits { idle: None, lingering: LINGER };

/// A stream of which reading is as `inner` says, and writing fails.
struct Unwritable<S> {
    inner: S,
    kind: io::ErrorKind,
}

impl<S: AsyncRead + Unpin> AsyncRead for Unwritable<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: Unpin> AsyncWrite for Unwritable<S> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(self.kind.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

async fn relayed<A, B>(a: &mut A, b: &mut B) -> Result<(), Failure>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut relaying, mut traffic) = (Relaying::new(LIMITS), Traffic::default());
    let sockets = Sockets::none();
    poll_fn(|cx| relaying.poll(cx, (&mut *a, &mut *b), &sockets, &mut traffic, None)).await
}

/// Relays from something that sends `last` and ends, and cannot be written to, to an echo that wants each of its bytes to
/// be read before it reads on.
async fn with_an_echo(kind: io::ErrorKind, last: usize) -> (Failure, usize) {
    let (mut near, source) = duplex(last);
    near.write_all(&vec![7; last]).await.unwrap();
    drop(near);
    let mut source = Unwritable { inner: source, kind };
    // Small, so that it fills up in both directions.
    let (mut to_echo, echo) = duplex(64);
    let echoing = tokio::spawn(async move {
        let (mut read, mut write) = tokio::io::split(echo);
        let mut all = 0;
        let mut bytes = [0; 64];
        loop {
            let count = read.read(&mut bytes).await.unwrap();
            all += count;
            if count == 0 || write.write_all(&bytes[..count]).await.is_err() {
                return all;
            }
        }
    });
    let failure = relayed(&mut source, &mut to_echo).await.unwrap_err();
    drop(to_echo);
    (failure, echoing.await.unwrap())
}

#[tokio::test]
async fn all_is_passed_on_from_whoever_reads_no_more() {
    let (failure, all) = with_an_echo(io::ErrorKind::BrokenPipe, 10_000).await;
    assert_eq!((failure.place, failure.broken), (Place::WritingFirst, false));
    assert_eq!(all, 10_000, "what it sends back is thrown away, and so does not hold it up");
}

#[tokio::test]
async fn what_is_met_when_writing_is_no_end() {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut};
    for kind in [ConnectionReset, TimedOut, HostUnreachable, NetworkUnreachable, ConnectionAborted] {
        let (failure, all) = with_an_echo(kind, 10_000).await;
        assert!(failure.broken, "{failure:?}");
        assert_eq!((failure.error.kind(), failure.place), (kind, Place::WritingFirst));
        assert_eq!(all, 10_000, "what came before it is passed on");
    }
}

/// The first stream's would be met when reading, which comes before.
#[tokio::test]
async fn a_reset_that_is_met_together_with_what_looks_like_an_end_is_none() {
    let (mut near, mut speaks) = duplex(64);
    near.write_all(b"hello").await.unwrap();
    drop(near);
    let (gone, ended) = duplex(64);
    drop(gone);
    let mut reset = Unwritable { inner: ended, kind: io::ErrorKind::ConnectionReset };
    let failure = relayed(&mut speaks, &mut reset).await.unwrap_err();
    assert_eq!((failure.place, failure.broken), (Place::WritingSecond, true));
}

/// Also where the one that reads nothing has ended its own sending, so that there is nothing to throw away any more.
#[tokio::test]
async fn nobody_waits_for_ever_on_behalf_of_a_peer_that_is_gone() {
    for ends in [false, true] {
        let (mut near, source) = duplex(1 << 20);
        near.write_all(&[7; 10_000]).await.unwrap();
        let mut source = Unwritable { inner: source, kind: io::ErrorKind::BrokenPipe };
        // It says something, and reads nothing.
        let (mut far, mut deaf) = duplex(64);
        deaf.write_all(b"hello").await.unwrap();
        if ends {
            deaf.shutdown().await.unwrap();
        }
        let begun = Instant::now();
        let relaying = relayed(&mut source, &mut far);
        let ended = tokio::time::timeout(LINGER * 50, relaying).await.expect("it ends by itself");
        let failure = ended.unwrap_err();
        assert_eq!((failure.place, failure.broken), (Place::WritingFirst, true));
        assert!(begun.elapsed() >= LINGER, "{:?}", begun.elapsed());
    }
}
