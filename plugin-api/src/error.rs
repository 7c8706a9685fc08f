//! What went wrong in a plugin, in words that a host can act on and a person can read.

use std::fmt;
use std::io;

/// What sort of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u32)]
pub enum ErrorKind {
    /// None of the others.
    Other = 1,
    /// An argument has a value that the scheme cannot take.
    InvalidArgument = 2,
    /// The scheme has no such role, or the platform no such feature.
    Unsupported = 3,
    /// The address is taken by somebody else (`EADDRINUSE`).
    AddressInUse = 4,
    /// This machine has no such address (`EADDRNOTAVAIL`).
    AddressNotAvailable = 5,
    /// The operating system, or a proxy's rules, forbid it.
    PermissionDenied = 6,
    /// A file, a socket or a directory is not there.
    NotFound = 7,
    /// Nobody listens there.
    ConnectionRefused = 8,
    /// The peer, or the way to it, cut the connection.
    ConnectionReset = 9,
    /// There is no way to that network or host.
    Unreachable = 10,
    /// It took too long.
    TimedOut = 11,
    /// A host name could not be resolved.
    NameResolution = 12,
    /// The peer does not speak the protocol, or ended it early.
    HandshakeFailed = 13,
    /// The peer refused who we say we are.
    AuthenticationFailed = 14,
    /// Descriptors, memory or another resource ran out.
    ResourceExhausted = 15,
    /// The operation was given up; a handshake by a peer that closed the connection before it had sent anything.
    Cancelled = 16,
    /// A plugin panicked; the object it happened in is unusable.
    Panicked = 17,
    /// The host or the plugin broke the contract between them.
    Internal = 18,
    /// The listener, service or connection is closed already.
    Closed = 19,
}

impl ErrorKind {
    const ALL: [Self; 19] = [
        Self::Other,
        Self::InvalidArgument,
        Self::Unsupported,
        Self::AddressInUse,
        Self::AddressNotAvailable,
        Self::PermissionDenied,
        Self::NotFound,
        Self::ConnectionRefused,
        Self::ConnectionReset,
        Self::Unreachable,
        Self::TimedOut,
        Self::NameResolution,
        Self::HandshakeFailed,
        Self::AuthenticationFailed,
        Self::ResourceExhausted,
        Self::Cancelled,
        Self::Panicked,
        Self::Internal,
        Self::Closed,
    ];

    pub(crate) fn code(self) -> u32 {
        self as u32
    }

    pub(crate) fn from_code(code: u32) -> Self {
        Self::ALL.into_iter().find(|kind| kind.code() == code).unwrap_or(Self::Other)
    }

    /// The name by which scripts and logs know the kind, such as `address-in-use`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::InvalidArgument => "invalid-argument",
            Self::Unsupported => "unsupported",
            Self::AddressInUse => "address-in-use",
            Self::AddressNotAvailable => "address-not-available",
            Self::PermissionDenied => "permission-denied",
            Self::NotFound => "not-found",
            Self::ConnectionRefused => "connection-refused",
            Self::ConnectionReset => "connection-reset",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed-out",
            Self::NameResolution => "name-resolution",
            Self::HandshakeFailed => "handshake-failed",
            Self::AuthenticationFailed => "authentication-failed",
            Self::ResourceExhausted => "resource-exhausted",
            Self::Cancelled => "cancelled",
            Self::Panicked => "panicked",
            Self::Internal => "internal",
            Self::Closed => "closed",
        }
    }

    /// Whether the same attempt may go better later, as far as the kind alone can tell.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::AddressInUse
                | Self::NotFound
                | Self::ConnectionRefused
                | Self::ConnectionReset
                | Self::Unreachable
                | Self::TimedOut
                | Self::NameResolution
                | Self::ResourceExhausted
        )
    }
}

impl From<io::ErrorKind> for ErrorKind {
    fn from(kind: io::ErrorKind) -> Self {
        match kind {
            io::ErrorKind::AddrInUse => Self::AddressInUse,
            io::ErrorKind::AddrNotAvailable => Self::AddressNotAvailable,
            io::ErrorKind::PermissionDenied => Self::PermissionDenied,
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::ConnectionRefused => Self::ConnectionRefused,
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected => Self::ConnectionReset,
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown => Self::Unreachable,
            io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::UnexpectedEof => Self::HandshakeFailed,
            io::ErrorKind::Unsupported => Self::Unsupported,
            io::ErrorKind::OutOfMemory | io::ErrorKind::QuotaExceeded | io::ErrorKind::StorageFull => {
                Self::ResourceExhausted
            }
            io::ErrorKind::InvalidInput => Self::InvalidArgument,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An error of a plugin: a kind to act on and a line to read.
///
/// Never put the value of a secret argument in the message.
#[derive(Clone, Debug)]
pub struct Error {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
    pub(crate) os: Option<i32>,
    pub(crate) argument: Option<String>,
    pub(crate) retryable: Option<bool>,
}

impl Error {
    /// An error of that kind; `message` is one line that says what failed and, where it can, what to do next.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), os: None, argument: None, retryable: None }
    }

    /// An argument whose value the scheme cannot take.
    pub fn invalid_argument(argument: &str, message: impl Into<String>) -> Self {
        Self { argument: Some(argument.to_owned()), ..Self::new(ErrorKind::InvalidArgument, message) }
    }

    /// An operating system's error with what was being done, as in `cannot bind 127.0.0.1:80: Permission denied`.
    pub fn from_io(doing: impl fmt::Display, error: &io::Error) -> Self {
        let os = error.raw_os_error();
        Self { os, ..Self::new(kind_of(error), format!("{doing}: {}", text_of(error))) }
    }

    /// Has another kind, where that of the cause does not say what it comes to.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// Names the argument that it is about.
    #[must_use]
    pub fn with_argument(mut self, argument: &str) -> Self {
        self.argument = Some(argument.to_owned());
        self
    }

    /// Says outright whether a retry makes sense, where the kind alone would tell it wrong.
    #[must_use]
    pub fn with_retryable(mut self, retryable: bool) -> Self {
        self.retryable = Some(retryable);
        self
    }

    /// Puts `context` and a colon before the message.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// Says it in other words: the kind, the operating system's number and the argument stay.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// What sort of failure it was.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The line to read.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The operating system's error number, where it came from there.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        self.os
    }

    /// The argument that is at fault, where one is.
    #[must_use]
    pub fn argument(&self) -> Option<&str> {
        self.argument.as_deref()
    }

    /// Whether the same attempt may go better later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.retryable.unwrap_or_else(|| self.kind.is_retryable())
    }
}

fn kind_of(error: &io::Error) -> ErrorKind {
    match error.raw_os_error() {
        // EMFILE and ENFILE have no kind of their own in std.
        Some(23 | 24) => ErrorKind::ResourceExhausted,
        _ => error.kind().into(),
    }
}

/// The operating system's own words, without the "(os error N)" that `io::Error` adds.
fn text_of(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        let os = error.raw_os_error();
        Self { os, ..Self::new(kind_of(&error), text_of(&error)) }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind {
            ErrorKind::AddressInUse => io::ErrorKind::AddrInUse,
            ErrorKind::AddressNotAvailable => io::ErrorKind::AddrNotAvailable,
            ErrorKind::PermissionDenied | ErrorKind::AuthenticationFailed => io::ErrorKind::PermissionDenied,
            ErrorKind::NotFound | ErrorKind::NameResolution => io::ErrorKind::NotFound,
            ErrorKind::ConnectionRefused => io::ErrorKind::ConnectionRefused,
            ErrorKind::ConnectionReset => io::ErrorKind::ConnectionReset,
            ErrorKind::Unreachable => io::ErrorKind::HostUnreachable,
            ErrorKind::TimedOut => io::ErrorKind::TimedOut,
            ErrorKind::Unsupported => io::ErrorKind::Unsupported,
            ErrorKind::InvalidArgument => io::ErrorKind::InvalidInput,
            ErrorKind::HandshakeFailed => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
