//! Streams: bytes, errors and wakers through the table.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use endpoints_plugin_api::abi::stream::{Export, Foreign, RStream};
use endpoints_plugin_api::{Connection, Facts, Stream, name};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, duplex};

use crate::image::Used;

/// What a [`Scripted`] answers a read with.
type Reply = Box<dyn FnMut(&mut ReadBuf<'_>) -> Poll<io::Result<()>> + Send>;

/// Answers reads as it is told and records everything else.
pub(crate) struct Scripted {
    read: Reply,
    calls: Vec<String>,
    vectored: bool,
}

impl Scripted {
    pub(crate) fn reading(
        read: impl FnMut(&mut ReadBuf<'_>) -> Poll<io::Result<()>> + Send + 'static,
    ) -> Self {
        Self { read: Box::new(read), calls: Vec::new(), vectored: false }
    }
}

impl AsyncRead for Scripted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        (self.read)(buf)
    }
}

impl AsyncWrite for Scripted {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.calls.push(format!("write {}", String::from_utf8_lossy(bytes)));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.calls.push("flush".to_owned());
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.calls.push("shutdown".to_owned());
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let pieces: Vec<_> = bufs.iter().map(|piece| String::from_utf8_lossy(piece)).collect();
        self.calls.push(format!("writev {}", pieces.join("|")));
        Poll::Ready(Ok(bufs.iter().map(|piece| piece.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored
    }
}

static MARK: u8 = 0;

impl Export for Scripted {
    const OWNER: *const () = (&raw const MARK).cast();

    fn facts(&self) -> Vec<u8> {
        Facts::new().with(name::PEER_IP, "192.0.2.1:1").into_bytes()
    }
}

fn send(stream: impl Export) -> Foreign {
    // SAFETY: just made.
    unsafe { Foreign::new(RStream::new(stream)) }
}

/// Takes the stream back.
fn back(stream: Foreign) -> Scripted {
    // SAFETY: valid, and the mark is of this type alone.
    unsafe { stream.into_raw().unwrap::<Scripted>() }.unwrap_or_else(|_| panic!("it is recognised"))
}

#[tokio::test]
async fn bytes_go_both_ways_through_two_layers() {
    let (ours, mut theirs) = duplex(7);
    let mut stream = Connection::from_stream(ours).map_stream(|stream| stream).map_stream(|stream| stream);
    let text = b"more than the pipe holds at once".as_slice();
    let out = async {
        stream.write_all(text).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        all
    };
    let other = async {
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).await.unwrap();
        theirs.write_all(&all).await.unwrap();
        theirs.shutdown().await.unwrap();
    };
    let (all, ()) = tokio::join!(out, other);
    assert_eq!(all, text);
}

#[tokio::test]
async fn every_call_arrives_as_itself() {
    for vectored in [false, true] {
        let mut stream = send(Scripted { vectored, ..Scripted::reading(|_| Poll::Pending) });
        assert_eq!(stream.is_write_vectored(), vectored);
        assert_eq!(stream.write(b"one").await.unwrap(), 3);
        let pieces = [IoSlice::new(b"two"), IoSlice::new(b""), IoSlice::new(b"three")];
        assert_eq!(stream.write_vectored(&pieces).await.unwrap(), 8);
        assert_eq!(stream.write_vectored(&[]).await.unwrap(), 0);
        stream.flush().await.unwrap();
        stream.shutdown().await.unwrap();
        let facts = Facts::from_bytes(stream.facts().as_slice().to_vec());
        assert_eq!(facts.get(name::PEER_IP), Some(&b"192.0.2.1:1"[..]));
        assert_eq!(back(stream).calls, ["write one", "writev two||three", "writev ", "flush", "shutdown"]);
    }
}

#[tokio::test]
async fn reads_fill_what_is_left_of_a_buffer() {
    let mut stream = send(Scripted::reading(|buf| {
        assert!(buf.filled().is_empty());
        buf.put_slice(&b"0123456789"[..buf.remaining().min(4)]);
        Poll::Ready(Ok(()))
    }));
    let mut memory = [b'-'; 6];
    let mut buf = ReadBuf::new(&mut memory);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..3 {
        assert!(Pin::new(&mut stream).poll_read(&mut cx, &mut buf).is_ready());
    }
    assert_eq!(buf.filled(), b"012301");
    // No room was given the third time: nothing comes, as at the end of a stream.
    assert_eq!(stream.read(&mut []).await.unwrap(), 0);
}

#[tokio::test]
async fn errors_keep_number_kind_and_words() {
    let mut errors = [
        io::Error::from_raw_os_error(104),
        io::ErrorKind::TimedOut.into(),
        io::Error::new(io::ErrorKind::InvalidData, "bad record"),
        io::Error::other("just so"),
    ]
    .into_iter();
    let mut stream = send(Scripted::reading(move |_| Poll::Ready(Err(errors.next().unwrap()))));
    let mut read = async || stream.read(&mut [0; 8]).await.unwrap_err();
    let error = read().await;
    assert_eq!((error.raw_os_error(), error.kind()), (Some(104), io::ErrorKind::ConnectionReset));
    let error = read().await;
    assert_eq!((error.kind(), error.get_ref().is_none()), (io::ErrorKind::TimedOut, true));
    let error = read().await;
    assert_eq!((error.kind(), error.to_string()), (io::ErrorKind::InvalidData, "bad record".to_owned()));
    let error = read().await;
    assert_eq!((error.kind(), error.to_string()), (io::ErrorKind::Other, "just so".to_owned()));
}

#[tokio::test]
async fn reading_and_writing_wait_with_their_own_wakers() {
    let (ours, mut theirs) = duplex(1);
    let stream = Connection::from_stream(ours).map_stream(|stream| stream);
    let (mut read, mut write) = tokio::io::split(stream);
    let reader = tokio::spawn(async move {
        let mut all = Vec::new();
        read.read_to_end(&mut all).await.unwrap();
        all
    });
    let writer = tokio::spawn(async move { write.write_all(b"outwards").await.unwrap() });
    let mut got = [0; 8];
    theirs.read_exact(&mut got).await.unwrap();
    theirs.write_all(b"inwards").await.unwrap();
    theirs.shutdown().await.unwrap();
    writer.await.unwrap();
    assert_eq!((&got, &reader.await.unwrap()[..]), (b"outwards", &b"inwards"[..]));
}

#[test]
fn a_stream_of_one_image_works_in_another() {
    let (ours, mut theirs) = duplex(64);
    let outer = Stream::new(Connection::from_stream(ours));
    let mut used = Used(Foreign::into_raw(send(Plain(outer))));
    let mut memory = [0; 8];
    assert!(used.poll_read(Waker::noop(), &mut memory).is_pending());
    assert!(matches!(used.poll_write(Waker::noop(), b"out"), Poll::Ready(Ok(3))));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut theirs).poll_write(&mut cx, b"in").is_ready());
    assert!(matches!(used.poll_read(Waker::noop(), &mut memory), Poll::Ready(Ok(2))));
    assert_eq!(&memory[..2], b"in");
}

/// Passes on what it is polled for.
pub(crate) struct Plain<S>(pub(crate) S);

impl<S: AsyncRead + Unpin> AsyncRead for Plain<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Plain<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Export for Plain<S> {}

#[test]
fn only_the_makers_type_is_taken_out_again() {
    let scripted = || RStream::new(Scripted::reading(|_| Poll::Pending));
    // SAFETY: all are valid handles, owned here.
    unsafe {
        assert!(scripted().unwrap::<Scripted>().is_ok_and(|stream| stream.calls.is_empty()));
        assert!(!RStream::NONE.is::<Scripted>());
        // No mark: nobody knows it again.
        let anonymous = RStream::new(Plain(tokio::io::empty()));
        assert!(!anonymous.is::<Plain<tokio::io::Empty>>());
        drop(Foreign::new(anonymous.unwrap::<Scripted>().err().unwrap()));
        drop(Foreign::new(scripted().unwrap::<Plain<tokio::io::Empty>>().err().unwrap()));
    }
}
