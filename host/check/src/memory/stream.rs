//! A stream in memory that behaves as it is told to.

use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use endpoints_plugin_api::{Arguments, Error};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use super::OPEN;

/// How a stream behaves.
#[derive(Clone, Debug)]
pub(crate) struct Conduct {
    /// The bytes that are kept for a peer that does not read.
    pub(super) capacity: usize,
    /// The most bytes of one read or write; 0: no limit.
    most: usize,
    /// Whether every operation has to be polled once more.
    pending: bool,
    /// Whether what is written stays here until it is flushed.
    hold: bool,
    /// After how many bytes read and written the connection is reset.
    fail_after: Option<usize>,
    panic: Panic,
    pub(super) connect: Connecting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Panic {
    Never,
    Read,
    Write,
    Drop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connecting {
    Works,
    Hangs,
    Panics,
}

impl Default for Conduct {
    fn default() -> Self {
        Self {
            capacity: 65_536,
            most: 0,
            pending: false,
            hold: false,
            fail_after: None,
            panic: Panic::Never,
            connect: Connecting::Works,
        }
    }
}

impl Conduct {
    pub(super) fn read(arguments: &Arguments<'_>) -> Result<Self, Error> {
        let number = |name| Ok::<_, Error>(usize::try_from(arguments.integer(name)?).unwrap_or(usize::MAX));
        Ok(Self {
            capacity: number("capacity")?,
            most: number("most")?,
            pending: arguments.flag("pending")?,
            hold: arguments.flag("hold")?,
            fail_after: arguments.opt_integer("fail-after").and_then(|after| usize::try_from(after).ok()),
            panic: match arguments.text("panic")? {
                "read" => Panic::Read,
                "write" => Panic::Write,
                "drop" => Panic::Drop,
                _ => Panic::Never,
            },
            connect: match arguments.opt_text("connect")? {
                Some("hangs") => Connecting::Hangs,
                Some("panics") => Connecting::Panics,
                _ => Connecting::Works,
            },
        })
    }
}

/// The most bytes of one read.
const SCRATCH: usize = 8192;

/// One end of a pipe in both directions. While it lives, it counts as open.
pub(crate) struct MemoryStream {
    pipe: DuplexStream,
    conduct: Conduct,
    held: Vec<u8>,
    /// Bytes that went through.
    passed: usize,
    /// Whether the next operation may go on: reading and writing.
    go: [bool; 2],
}

impl MemoryStream {
    pub(super) fn new(pipe: DuplexStream, conduct: Conduct) -> Self {
        OPEN.fetch_add(1, Ordering::SeqCst);
        Self { pipe, conduct, held: Vec::new(), passed: 0, go: [false; 2] }
    }

    /// The same stream, behaving otherwise.
    pub(super) fn with(mut self, conduct: Conduct) -> Self {
        self.conduct = conduct;
        self
    }

    /// Lets the operation go on, or has it polled once more; fails where the connection is to be reset by now.
    fn begin(&mut self, cx: &Context<'_>, direction: usize) -> Poll<io::Result<()>> {
        if self.conduct.fail_after.is_some_and(|after| self.passed >= after) {
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::ConnectionReset)));
        }
        if self.conduct.pending && !std::mem::replace(&mut self.go[direction], true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.go[direction] = false;
        Poll::Ready(Ok(()))
    }

    fn most(&self, offered: usize) -> usize {
        let limit = if self.conduct.most == 0 { usize::MAX } else { self.conduct.most };
        let left = self.conduct.fail_after.map_or(usize::MAX, |after| after.saturating_sub(self.passed));
        offered.min(limit).min(left)
    }

    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let count = ready!(Pin::new(&mut self.pipe).poll_write(cx, &self.held))?;
            self.held.drain(..count);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::SeqCst);
        assert!(
            self.conduct.panic != Panic::Drop || std::thread::panicking(),
            "check-memory was told to panic in drop"
        );
    }
}

impl AsyncRead for MemoryStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        assert!(this.conduct.panic != Panic::Read, "check-memory was told to panic in poll_read");
        ready!(this.begin(cx, 0))?;
        // Read aside, as the pipe must not see more room than there is to be.
        let mut scratch = [0; SCRATCH];
        let room = this.most(buf.remaining()).min(SCRATCH);
        let mut part = ReadBuf::new(&mut scratch[..room]);
        let polled = Pin::new(&mut this.pipe).poll_read(cx, &mut part);
        buf.put_slice(part.filled());
        this.passed += part.filled().len();
        if polled.is_pending() && this.conduct.pending {
            // It has waited once already.
            this.go[0] = true;
        }
        polled
    }
}

impl AsyncWrite for MemoryStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        assert!(this.conduct.panic != Panic::Write, "check-memory was told to panic in poll_write");
        ready!(this.begin(cx, 1))?;
        let bytes = &bytes[..this.most(bytes.len())];
        let polled = if this.conduct.hold {
            if this.held.len() >= this.conduct.capacity {
                ready!(this.poll_held(cx))?;
            }
            this.held.extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        } else {
            Pin::new(&mut this.pipe).poll_write(cx, bytes)
        };
        match polled {
            Poll::Ready(Ok(count)) => this.passed += count,
            Poll::Pending if this.conduct.pending => this.go[1] = true,
            _ => {}
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_held(cx))?;
        Pin::new(&mut this.pipe).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_held(cx))?;
        Pin::new(&mut this.pipe).poll_shutdown(cx)
    }
}
