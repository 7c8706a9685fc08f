//! Results of reads and writes in two registers.

use std::io;
use std::task::Poll;

use super::bytes::RSlice;

/// What a poll of a stream came to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoPoll {
    /// One of the constants of this type; no minor version adds to them.
    pub tag: u64,
    /// What it means depends on the tag.
    pub val: u64,
}

impl IoPoll {
    /// Done; `val` is the number of bytes.
    pub const READY: u64 = 0;
    /// Not ready; the context's waker will be called.
    pub const PENDING: u64 = 1;
    /// Failed; `val` is the operating system's error number.
    pub const OS: u64 = 2;
    /// Failed; `val` is the number of an [`IoKind`].
    pub const KIND: u64 = 3;
    /// Failed; the text waits in `take_error`, and `val` is the number of an [`IoKind`].
    pub const MESSAGE: u64 = 4;
    /// It panicked; a stream answers nothing else from now on.
    pub const PANICKED: u64 = 5;

    /// A panic.
    #[must_use]
    pub const fn panicked() -> Self {
        Self { tag: Self::PANICKED, val: 0 }
    }

    /// Puts a poll into this form; an error that has a text of its own is left in `kept`.
    #[inline]
    pub fn lower(polled: Poll<io::Result<usize>>, kept: &mut Option<io::Error>) -> Self {
        match polled {
            Poll::Pending => Self { tag: Self::PENDING, val: 0 },
            Poll::Ready(Ok(count)) => Self { tag: Self::READY, val: count as u64 },
            Poll::Ready(Err(error)) => Self::lower_error(error, kept),
        }
    }

    #[cold]
    fn lower_error(error: io::Error, kept: &mut Option<io::Error>) -> Self {
        if let Some(os) = error.raw_os_error() {
            return Self { tag: Self::OS, val: u64::from(os as u32) };
        }
        let val = code_of(error.kind());
        if error.get_ref().is_none() {
            return Self { tag: Self::KIND, val };
        }
        *kept = Some(error);
        Self { tag: Self::MESSAGE, val }
    }

    /// Reads the poll, checking that at most `most` bytes are claimed; `text` is asked for the words of an error.
    ///
    /// # Errors
    /// The error that was carried; an error of kind `InvalidData` where the other side broke the contract.
    #[inline]
    pub fn raise(self, most: usize, text: impl FnOnce() -> Option<String>) -> Poll<io::Result<usize>> {
        match self.tag {
            Self::READY if self.val <= most as u64 => Poll::Ready(Ok(self.val as usize)),
            Self::PENDING => Poll::Pending,
            _ => Poll::Ready(Err(self.raise_error(most, text))),
        }
    }

    #[cold]
    fn raise_error(self, most: usize, text: impl FnOnce() -> Option<String>) -> io::Error {
        match self.tag {
            Self::OS => io::Error::from_raw_os_error(self.val as i32),
            Self::KIND => kind_of(self.val).into(),
            Self::MESSAGE => match text() {
                Some(text) => io::Error::new(kind_of(self.val), text),
                None => kind_of(self.val).into(),
            },
            Self::PANICKED => io::Error::other("the plugin behind this connection panicked"),
            Self::READY => io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the plugin behind this connection claims {} bytes of a buffer of {most}", self.val),
            ),
            tag => io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the plugin behind this connection answered with the unknown tag {tag}"),
            ),
        }
    }
}

/// A piece of a vectored write; laid out as `struct iovec`, and in Rust as [`io::IoSlice`].
pub type RIoSlice = RSlice;

/// What sort of error it is, where the operating system has no number for it.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoKind {
    /// None of the others.
    Other = 0,
    /// Something is not there.
    NotFound = 1,
    /// It is forbidden.
    PermissionDenied = 2,
    /// Nobody listens there.
    ConnectionRefused = 3,
    /// The peer cut the connection.
    ConnectionReset = 4,
    /// The connection was given up.
    ConnectionAborted = 5,
    /// There is no connection yet, or no more.
    NotConnected = 6,
    /// Somebody else has the address.
    AddrInUse = 7,
    /// This machine has no such address.
    AddrNotAvailable = 8,
    /// The peer does not read any more.
    BrokenPipe = 9,
    /// A caller asked for what makes no sense.
    InvalidInput = 10,
    /// What was read makes no sense.
    InvalidData = 11,
    /// It took too long.
    TimedOut = 12,
    /// A write took no byte.
    WriteZero = 13,
    /// It was interrupted, and can be tried again.
    Interrupted = 14,
    /// It is not possible here.
    Unsupported = 15,
    /// The stream ended too early.
    UnexpectedEof = 16,
}

const KINDS: [(IoKind, io::ErrorKind); 16] = [
    (IoKind::NotFound, io::ErrorKind::NotFound),
    (IoKind::PermissionDenied, io::ErrorKind::PermissionDenied),
    (IoKind::ConnectionRefused, io::ErrorKind::ConnectionRefused),
    (IoKind::ConnectionReset, io::ErrorKind::ConnectionReset),
    (IoKind::ConnectionAborted, io::ErrorKind::ConnectionAborted),
    (IoKind::NotConnected, io::ErrorKind::NotConnected),
    (IoKind::AddrInUse, io::ErrorKind::AddrInUse),
    (IoKind::AddrNotAvailable, io::ErrorKind::AddrNotAvailable),
    (IoKind::BrokenPipe, io::ErrorKind::BrokenPipe),
    (IoKind::InvalidInput, io::ErrorKind::InvalidInput),
    (IoKind::InvalidData, io::ErrorKind::InvalidData),
    (IoKind::TimedOut, io::ErrorKind::TimedOut),
    (IoKind::WriteZero, io::ErrorKind::WriteZero),
    (IoKind::Interrupted, io::ErrorKind::Interrupted),
    (IoKind::Unsupported, io::ErrorKind::Unsupported),
    (IoKind::UnexpectedEof, io::ErrorKind::UnexpectedEof),
];

fn code_of(kind: io::ErrorKind) -> u64 {
    let known = KINDS.into_iter().find(|(_, known)| *known == kind);
    known.map_or(IoKind::Other, |(code, _)| code) as u64
}

fn kind_of(code: u64) -> io::ErrorKind {
    let known = KINDS.into_iter().find(|(known, _)| *known as u64 == code);
    known.map_or(io::ErrorKind::Other, |(_, kind)| kind)
}
