//! Connections in memory.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use super::host::Open;
use super::link::Link;

/// The test's end of a connection in memory. Shutting it down ends the sending direction alone; dropping it closes the
/// connection.
#[derive(Debug)]
pub struct Peer(pub(super) End);

impl Peer {
    /// Breaks the connection: what the plugin has not read is lost, and its reads and writes fail with
    /// [`ConnectionReset`](io::ErrorKind::ConnectionReset).
    pub fn reset(self) {
        self.0.reset.store(true, Ordering::Release);
    }
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.bytes).poll_read(cx, buf)
    }
}

impl AsyncWrite for Peer {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0.bytes).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.bytes).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.bytes).poll_shutdown(cx)
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(super) struct End {
    bytes: DuplexStream,
    /// Whether an end was dropped to break the connection.
    reset: Arc<AtomicBool>,
}

impl End {
    /// Both ends of a new connection.
    pub(super) fn pair(capacity: usize) -> (Self, Self) {
        let (one, other) = tokio::io::duplex(capacity);
        let reset = Arc::new(AtomicBool::new(false));
        (Self { bytes: one, reset: Arc::clone(&reset) }, Self { bytes: other, reset })
    }
}

/// The plugin's end of a connection: as bad as its link says.
pub(super) struct Pipe {
    end: End,
    reading: Direction,
    writing: Direction,
    _open: Open,
}

impl Pipe {
    pub(super) fn new(end: End, link: &Link, open: Open) -> Self {
        let direction = |error| Direction { chunk: link.chunk, pending: link.pending, waited: false, error };
        let (reading, writing) = (direction(link.read_error), direction(link.write_error));
        Self { end, reading, writing, _open: open }
    }

    fn check(&self) -> io::Result<()> {
        match self.end.reset.load(Ordering::Acquire) {
            true => Err(io::ErrorKind::ConnectionReset.into()),
            false => Ok(()),
        }
    }
}

struct Direction {
    chunk: usize,
    pending: bool,
    /// Whether the last poll had to wait.
    waited: bool,
    /// How many bytes go until it fails, and how.
    error: Option<(usize, io::ErrorKind)>,
}

impl Direction {
    /// Waits, every other time.
    fn poll_turn(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.waited = self.pending && !self.waited;
        if !self.waited {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// How many of so many bytes may go.
    fn limit(&self, wanted: usize) -> io::Result<usize> {
        match self.error {
            Some((0, kind)) if wanted > 0 => Err(kind.into()),
            Some((left, _)) => Ok(wanted.min(self.chunk).min(left)),
            None => Ok(wanted.min(self.chunk)),
        }
    }

    fn went(&mut self, count: usize) {
        if let Some((left, _)) = &mut self.error {
            *left -= count;
        }
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.reading.poll_turn(cx));
        self.check()?;
        let limit = self.reading.limit(buf.remaining())?;
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(limit));
        ready!(Pin::new(&mut self.end.bytes).poll_read(cx, &mut part))?;
        let count = part.filled().len();
        if count == 0 {
            // What ended it may have been the reset.
            self.check()?;
        }
        buf.advance(count);
        self.reading.went(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.writing.poll_turn(cx));
        self.check()?;
        let limit = self.writing.limit(bytes.len())?;
        let written = ready!(Pin::new(&mut self.end.bytes).poll_write(cx, &bytes[..limit]));
        let count = written.map_err(|error| self.check().err().unwrap_or(error))?;
        self.writing.went(count);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.writing.poll_turn(cx));
        self.check()?;
        Pin::new(&mut self.end.bytes).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.writing.poll_turn(cx));
        self.check()?;
        Pin::new(&mut self.end.bytes).poll_shutdown(cx)
    }
}
