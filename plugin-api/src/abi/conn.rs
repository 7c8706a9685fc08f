//! Connections as they are handed over: descriptors, streams, or a handshake still to be done.

use std::future::Future;
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::Sized0;
use super::bytes::RBytes;
use super::error::RError;
use super::future::{Foreign as ForeignFuture, RFuture};
use super::stream::{Foreign as ForeignStream, RStream};
use super::table::check;
use crate::error::{Error, ErrorKind};

/// What `connect`, `accept` and a handshake come to. `kind` says which fields count; the receiver owns them.
#[repr(C)]
#[derive(Debug)]
pub struct RConn {
    /// Bytes in this structure.
    pub size: usize,
    /// One of the constants of this type; no minor version adds to them.
    pub kind: u32,
    /// 1 where the descriptors belong to others too (standard streams, a terminal): their flags stay as they are.
    pub inherited: u32,
    /// The descriptor, or the one to read and the one to write.
    pub fd: [i32; 2],
    /// Why there is no connection.
    pub error: RError,
    /// What this layer knows about it, as [facts](crate::Facts); the layers further inside too, where the stream is the
    /// maker's own.
    pub facts: RBytes,
    /// Bytes that were read already and belong to the reader of the stream.
    pub leftover: RBytes,
    /// The stream: the maker's own, or one of the receiver's streams given back.
    pub stream: RStream,
    /// A future of an [`RConn`] that is no handshake again.
    pub handshake: RFuture,
}

// SAFETY: `repr(C)`, size first; zeroes are kind 0, no error, no bytes, no stream and no future.
unsafe impl Sized0 for RConn {}

impl RConn {
    /// There is none; see `error`.
    pub const ERROR: u32 = 1;
    /// A connected stream socket, in `fd[0]`. The receiver makes it non-blocking and close-on-exec.
    pub const FD: u32 = 2;
    /// A descriptor to read from and one to write to.
    pub const FD_PAIR: u32 = 3;
    /// A stream through its table.
    pub const STREAM: u32 = 4;
    /// A connection whose handshake is done by polling `handshake`; only from `poll_accept`.
    pub const HANDSHAKE: u32 = 5;

    /// A failure.
    #[must_use]
    pub fn failed(error: Error) -> Self {
        let mut conn = Self::absent();
        conn.kind = Self::ERROR;
        conn.error = error.into();
        conn
    }

    /// Takes it apart.
    ///
    /// # Safety
    /// The value is valid, as the other side wrote it, and owned by the caller.
    ///
    /// # Errors
    /// The error that it carries, or `Internal` where its kind is unknown.
    pub unsafe fn take(self) -> Result<Taken, Error> {
        // In each block, the kind says which fields the other side gave up.
        let body = match self.kind {
            // SAFETY: as said.
            Self::FD => Body::Fd(unsafe { owned(self.fd[0])? }),
            Self::FD_PAIR => {
                // SAFETY: as said.
                let read = unsafe { owned(self.fd[0])? };
                if self.fd[1] == self.fd[0] {
                    // Two owners would close it twice.
                    let message = format!("the descriptor {} was handed over twice, as a pair", self.fd[0]);
                    return Err(Error::new(ErrorKind::Internal, message));
                }
                // SAFETY: as said, and nobody else here owns it.
                let write = unsafe { owned(self.fd[1])? };
                Body::Pair { read, write, inherited: self.inherited != 0 }
            }
            Self::STREAM if !self.stream.is_none() => {
                // SAFETY: a table, by contract.
                unsafe { check(self.stream.vt)? };
                // SAFETY: as said.
                Body::Stream(unsafe { ForeignStream::new(self.stream) })
            }
            Self::HANDSHAKE if !self.handshake.is_none() => {
                // SAFETY: a table, by contract.
                unsafe { check(self.handshake.vt)? };
                // SAFETY: as said; it writes an `RConn`.
                Body::Handshake(Handshaking(unsafe { ForeignFuture::new(self.handshake) }))
            }
            _ => {
                return Err(self.error.into_error().unwrap_or_else(|| {
                    let kind = self.kind;
                    Error::new(
                        ErrorKind::Internal,
                        format!("a connection of the unknown kind {kind} was handed over"),
                    )
                }));
            }
        };
        Ok(Taken { body, facts: self.facts, leftover: self.leftover })
    }
}

/// # Safety
/// `fd` is owned by the caller, or not open.
pub(super) unsafe fn owned(fd: i32) -> Result<OwnedFd, Error> {
    // One that is closed would be closed once more, by then perhaps as another's.
    // SAFETY: borrowed for one call that asks whether it is open.
    if fd < 0 || rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(fd) }).is_err() {
        let message = format!("{fd} was handed over as a descriptor, and is not open");
        return Err(Error::new(ErrorKind::Internal, message));
    }
    // SAFETY: by contract.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A connection that was taken over.
#[derive(Debug)]
pub struct Taken {
    /// The connection itself.
    pub body: Body,
    /// What is known about it, encoded.
    pub facts: RBytes,
    /// Bytes that were read already.
    pub leftover: RBytes,
}

/// What was taken over.
#[derive(Debug)]
pub enum Body {
    /// A connected stream socket.
    Fd(OwnedFd),
    /// A descriptor to read from and one to write to.
    Pair {
        /// To read from.
        read: OwnedFd,
        /// To write to.
        write: OwnedFd,
        /// Whether the descriptors belong to others too.
        inherited: bool,
    },
    /// A stream through its table.
    Stream(ForeignStream),
    /// A handshake to be awaited.
    Handshake(Handshaking),
}

/// A handshake of the other side. Dropping it closes the connection.
#[derive(Debug)]
pub struct Handshaking(ForeignFuture<RConn>);

impl Handshaking {
    /// Does a handshake of this side on behalf of the other.
    pub fn new(handshake: impl Future<Output = Result<Taken, Error>> + Send + 'static) -> Self {
        let raw = RFuture::new::<RConn, _>(handshake);
        // SAFETY: just made, owned, and a future of `RConn`.
        Self(unsafe { ForeignFuture::new(raw) })
    }
}

impl Future for Handshaking {
    type Output = Result<Taken, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let taken = match ready!(Pin::new(&mut self.0).poll(cx)) {
            // SAFETY: the other side has written it.
            Some(conn) => unsafe { conn.take() },
            None => Err(Error::new(ErrorKind::Panicked, "the plugin panicked in its handshake")),
        };
        Poll::Ready(match taken {
            Ok(Taken { body: Body::Handshake(_), .. }) => {
                Err(Error::new(ErrorKind::Internal, "a handshake came to another handshake"))
            }
            taken => taken,
        })
    }
}

impl From<Taken> for RConn {
    fn from(taken: Taken) -> Self {
        let mut conn = Self::absent();
        conn.facts = taken.facts;
        conn.leftover = taken.leftover;
        match taken.body {
            Body::Fd(fd) => {
                conn.kind = Self::FD;
                conn.fd[0] = fd.into_raw_fd();
            }
            Body::Pair { read, write, inherited } => {
                conn.kind = Self::FD_PAIR;
                conn.inherited = u32::from(inherited);
                conn.fd = [read.into_raw_fd(), write.into_raw_fd()];
            }
            Body::Stream(stream) => {
                conn.kind = Self::STREAM;
                conn.stream = stream.into_raw();
            }
            Body::Handshake(future) => {
                conn.kind = Self::HANDSHAKE;
                conn.handshake = future.0.into_raw();
            }
        }
        conn
    }
}

impl From<Result<Taken, Error>> for RConn {
    fn from(result: Result<Taken, Error>) -> Self {
        result.map_or_else(Self::failed, Self::from)
    }
}
