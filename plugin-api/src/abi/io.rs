//! Results of reads and writes in two registers.

use std::io;
use std::task::Poll;

use super::bytes::RSlice;

/// What a poll of a stream came to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoPoll {
    /// One of the constants of this type.
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
    /// Failed; `val` is one of the numbers below.
    pub const KIND: u64 = 3;
    /// Failed; the text waits in `take_error`, and `val` is as for [`Self::KIND`].
    pub const MESSAGE: u64 = 4;
    /// The plugin panicked; the object answers nothing else from now on.
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

/// A piece of a vectored write; laid out as `struct iovec`, and as [`io::IoSlice`] on Unix.
pub type RIoSlice = RSlice;

/// The kinds that have a number, which is their place here plus one; 0 is every other.
const KINDS: [io::ErrorKind; 16] = [
    io::ErrorKind::NotFound,
    io::ErrorKind::PermissionDenied,
    io::ErrorKind::ConnectionRefused,
    io::ErrorKind::ConnectionReset,
    io::ErrorKind::ConnectionAborted,
    io::ErrorKind::NotConnected,
    io::ErrorKind::AddrInUse,
    io::ErrorKind::AddrNotAvailable,
    io::ErrorKind::BrokenPipe,
    io::ErrorKind::InvalidInput,
    io::ErrorKind::InvalidData,
    io::ErrorKind::TimedOut,
    io::ErrorKind::WriteZero,
    io::ErrorKind::Interrupted,
    io::ErrorKind::Unsupported,
    io::ErrorKind::UnexpectedEof,
];

fn code_of(kind: io::ErrorKind) -> u64 {
    KINDS.iter().position(|known| *known == kind).map_or(0, |place| place as u64 + 1)
}

fn kind_of(code: u64) -> io::ErrorKind {
    usize::try_from(code)
        .ok()
        .and_then(|code| code.checked_sub(1))
        .and_then(|place| KINDS.get(place).copied())
        .unwrap_or(io::ErrorKind::Other)
}
