//! What went wrong, for programs and for people.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use endpoints_plugin_api as api;

use crate::grammar::{ParseError, ParseErrorKind};

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What sort of failure it was. [`ErrorKind::name`] is what scripts see.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind {
            $($(#[$doc])* $variant,)*
        }

        impl ErrorKind {
            /// All that this version knows.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name by which scripts and logs know the kind, such as `unknown-argument`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

kinds! {
    /// A description ends in a backslash.
    TrailingBackslash = "trailing-backslash",
    /// The name of a keyword argument is not ASCII.
    NonAsciiKey = "non-ascii-key",
    /// A description has no scheme.
    NoScheme = "no-scheme",
    /// No plugin provides the scheme.
    UnknownScheme = "unknown-scheme",
    /// The scheme has no client, or no server, side.
    WrongRole = "wrong-role",
    /// The scheme has no argument of that name.
    UnknownArgument = "unknown-argument",
    /// A required argument is not given, or empty.
    MissingArgument = "missing-argument",
    /// An argument is given twice.
    DuplicateArgument = "duplicate-argument",
    /// Arguments are given that exclude each other.
    ConflictingArguments = "conflicting-arguments",
    /// There are more positional arguments than parameters for them.
    TooManyArguments = "too-many-arguments",
    /// A number, a duration or a flag is not written as one.
    BadNumber = "bad-number",
    /// A port is out of its range.
    BadPort = "bad-port",
    /// A mode is not octal.
    BadOctal = "bad-octal",
    /// A value of another type is not acceptable.
    InvalidArgument = "invalid-argument",
    /// The plugin that provides the scheme was refused.
    PluginRefused = "plugin-refused",
    /// A setting of the registry makes no sense.
    InvalidSetting = "invalid-setting",
    /// The role or the platform has no such feature.
    Unsupported = "unsupported",
    /// The address is taken by somebody else.
    AddressInUse = "address-in-use",
    /// This machine has no such address.
    AddressNotAvailable = "address-not-available",
    /// The operating system, or a proxy's rules, forbid it.
    PermissionDenied = "permission-denied",
    /// A file, a socket or a directory is not there.
    NotFound = "not-found",
    /// Nobody listens there.
    ConnectionRefused = "connection-refused",
    /// The peer, or the way to it, cut the connection.
    ConnectionReset = "connection-reset",
    /// There is no way to that network or host.
    Unreachable = "unreachable",
    /// It took too long.
    TimedOut = "timed-out",
    /// A host name could not be resolved.
    NameResolution = "name-resolution",
    /// The peer does not speak the protocol, or ended it early.
    HandshakeFailed = "handshake-failed",
    /// The peer refused who we say we are.
    AuthenticationFailed = "authentication-failed",
    /// Descriptors, memory or another resource ran out.
    ResourceExhausted = "resource-exhausted",
    /// The operation was given up; a handshake by a peer that closed the connection before it had sent anything.
    Cancelled = "cancelled",
    /// A plugin panicked.
    PluginPanicked = "plugin-panicked",
    /// A plugin, or this library, broke the contract between them.
    Internal = "internal",
    /// The listener, service or connection is closed already.
    Closed = "closed",
    /// None of the others.
    Other = "other",
}

impl ErrorKind {
    /// Whether the request itself is wrong, so that it fails however often it is tried.
    #[must_use]
    pub fn is_invalid_request(self) -> bool {
        matches!(
            self,
            Self::TrailingBackslash
                | Self::NonAsciiKey
                | Self::NoScheme
                | Self::UnknownScheme
                | Self::WrongRole
                | Self::UnknownArgument
                | Self::MissingArgument
                | Self::DuplicateArgument
                | Self::ConflictingArguments
                | Self::TooManyArguments
                | Self::BadNumber
                | Self::BadPort
                | Self::BadOctal
                | Self::InvalidArgument
                | Self::PluginRefused
                | Self::InvalidSetting
        )
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<api::ErrorKind> for ErrorKind {
    fn from(kind: api::ErrorKind) -> Self {
        match kind {
            api::ErrorKind::InvalidArgument => Self::InvalidArgument,
            api::ErrorKind::Unsupported => Self::Unsupported,
            api::ErrorKind::AddressInUse => Self::AddressInUse,
            api::ErrorKind::AddressNotAvailable => Self::AddressNotAvailable,
            api::ErrorKind::PermissionDenied => Self::PermissionDenied,
            api::ErrorKind::NotFound => Self::NotFound,
            api::ErrorKind::ConnectionRefused => Self::ConnectionRefused,
            api::ErrorKind::ConnectionReset => Self::ConnectionReset,
            api::ErrorKind::Unreachable => Self::Unreachable,
            api::ErrorKind::TimedOut => Self::TimedOut,
            api::ErrorKind::NameResolution => Self::NameResolution,
            api::ErrorKind::HandshakeFailed => Self::HandshakeFailed,
            api::ErrorKind::AuthenticationFailed => Self::AuthenticationFailed,
            api::ErrorKind::ResourceExhausted => Self::ResourceExhausted,
            api::ErrorKind::Cancelled => Self::Cancelled,
            api::ErrorKind::Panicked => Self::PluginPanicked,
            api::ErrorKind::Internal => Self::Internal,
            api::ErrorKind::Closed => Self::Closed,
            _ => Self::Other,
        }
    }
}

/// An error of this library: one line to read, and its parts for programs.
///
/// The values of secret arguments are in none of them.
#[derive(Clone)]
pub struct Error(Box<Parts>);

#[derive(Clone)]
struct Parts {
    kind: ErrorKind,
    message: String,
    retryable: bool,
    os: Option<i32>,
    scheme: Option<String>,
    argument: Option<String>,
    /// Where in the description; shown only together with it.
    span: Option<Range<usize>>,
    description: Option<Vec<u8>>,
    expected: Vec<String>,
    suggestion: Option<String>,
    about_secret: bool,
}

impl Error {
    /// An error of that kind; `message` is one line.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            kind,
            message: message.into(),
            retryable: false,
            os: None,
            scheme: None,
            argument: None,
            span: None,
            description: None,
            expected: Vec::new(),
            suggestion: None,
            about_secret: false,
        }))
    }

    /// What sort of failure it was.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The line to read, without the description.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether the same attempt may go better later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// The operating system's error number, where it came from there.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        self.0.os
    }

    /// The scheme that it is about.
    #[must_use]
    pub fn scheme(&self) -> Option<&str> {
        self.0.scheme.as_deref()
    }

    /// The argument that is at fault.
    #[must_use]
    pub fn argument(&self) -> Option<&str> {
        self.0.argument.as_deref()
    }

    /// The bytes of [`description`](Self::description) that are at fault.
    #[must_use]
    pub fn span(&self) -> Option<Range<usize>> {
        self.0.span.clone()
    }

    /// The outermost description that it is about, each byte of a secret shown as `*`.
    #[must_use]
    pub fn description(&self) -> Option<&[u8]> {
        self.0.description.as_deref()
    }

    /// What would have been accepted: names or values.
    #[must_use]
    pub fn expected(&self) -> &[String] {
        &self.0.expected
    }

    /// The one of them that was probably meant.
    #[must_use]
    pub fn suggestion(&self) -> Option<&str> {
        self.0.suggestion.as_deref()
    }

    pub(crate) fn with_scheme(mut self, scheme: &str) -> Self {
        // Whoever reads that a plugin is at fault asks first which one.
        if self.0.scheme.is_none() && matches!(self.0.kind, ErrorKind::PluginPanicked | ErrorKind::Internal) {
            self.0.message = format!("{scheme}: {}", self.0.message);
        }
        self.0.scheme.get_or_insert_with(|| scheme.to_owned());
        self
    }

    pub(crate) fn with_argument(mut self, argument: &str) -> Self {
        self.0.argument = Some(argument.to_owned());
        self
    }

    pub(crate) fn at(mut self, span: Range<usize>) -> Self {
        self.0.span = Some(span);
        self
    }

    pub(crate) fn with_expected(mut self, expected: Vec<String>, written: &str) -> Self {
        self.0.suggestion = nearest(written, &expected).map(str::to_owned);
        self.0.expected = expected;
        self
    }

    pub(crate) fn suggesting(mut self, meant: &str) -> Self {
        self.0.suggestion = Some(meant.to_owned());
        self
    }

    pub(crate) fn retryable(mut self, retryable: bool) -> Self {
        self.0.retryable = retryable;
        self
    }

    /// The same, about no place in the description.
    pub(crate) fn nowhere(mut self) -> Self {
        self.0.span = None;
        self
    }

    /// Moves the span from a nested description's text to the one around it.
    pub(crate) fn relocate(mut self, locate: impl FnOnce(Range<usize>) -> Range<usize>) -> Self {
        self.0.span = self.0.span.map(locate);
        self
    }

    /// Takes out everything that was made from the text of a description.
    pub(crate) fn redacted(mut self, message: &str) -> Self {
        message.clone_into(&mut self.0.message);
        self.0.scheme = None;
        self.0.argument = None;
        self.0.suggestion = None;
        self
    }

    /// Whether it is about the value of an argument that is declared as a secret, which is in none of its parts.
    pub(crate) fn is_about_secret(&self) -> bool {
        self.0.about_secret
    }

    pub(crate) fn of_secret(mut self, secret: bool) -> Self {
        self.0.about_secret = secret;
        self
    }

    /// Attaches the outermost description, secrets masked already.
    pub(crate) fn about(mut self, description: Vec<u8>) -> Self {
        self.0.description = Some(description);
        self
    }

    /// Says what was probably meant, in place of the nearest known name.
    pub(crate) fn meaning(mut self, hint: impl fmt::Display) -> Self {
        self.0.message = format!("{}; {hint}", self.0.message);
        self.0.suggestion = None;
        self
    }

    /// The same error, its message begun with what it is about and a colon. What else it has stays: its kind, the description
    /// and the place in it.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.message = format!("{context}: {}", self.0.message);
        self
    }

    pub(crate) fn to_api(&self) -> api::Error {
        let kind = match self.0.kind {
            ErrorKind::Unsupported | ErrorKind::WrongRole => api::ErrorKind::Unsupported,
            ErrorKind::AddressInUse => api::ErrorKind::AddressInUse,
            ErrorKind::AddressNotAvailable => api::ErrorKind::AddressNotAvailable,
            ErrorKind::PermissionDenied => api::ErrorKind::PermissionDenied,
            ErrorKind::NotFound => api::ErrorKind::NotFound,
            ErrorKind::ConnectionRefused => api::ErrorKind::ConnectionRefused,
            ErrorKind::ConnectionReset => api::ErrorKind::ConnectionReset,
            ErrorKind::Unreachable => api::ErrorKind::Unreachable,
            ErrorKind::TimedOut => api::ErrorKind::TimedOut,
            ErrorKind::NameResolution => api::ErrorKind::NameResolution,
            ErrorKind::HandshakeFailed => api::ErrorKind::HandshakeFailed,
            ErrorKind::AuthenticationFailed => api::ErrorKind::AuthenticationFailed,
            ErrorKind::ResourceExhausted => api::ErrorKind::ResourceExhausted,
            ErrorKind::Cancelled => api::ErrorKind::Cancelled,
            ErrorKind::PluginPanicked => api::ErrorKind::Panicked,
            ErrorKind::Internal => api::ErrorKind::Internal,
            ErrorKind::Closed => api::ErrorKind::Closed,
            ErrorKind::Other => api::ErrorKind::Other,
            _ => api::ErrorKind::InvalidArgument,
        };
        let numbered = self.0.os.map(|os| api::Error::from(std::io::Error::from_raw_os_error(os)));
        let error = match numbered.filter(|numbered| numbered.kind() == kind) {
            Some(numbered) => numbered.with_message(&*self.0.message),
            None => api::Error::new(kind, &*self.0.message),
        };
        error.with_retryable(self.0.retryable)
    }
}

impl From<ParseError> for Error {
    fn from(error: ParseError) -> Self {
        let kind = match error.kind() {
            ParseErrorKind::TrailingBackslash => ErrorKind::TrailingBackslash,
            ParseErrorKind::NonAsciiKey => ErrorKind::NonAsciiKey,
            ParseErrorKind::NoScheme => ErrorKind::NoScheme,
        };
        Self::new(kind, error.to_string()).at(error.span())
    }
}

impl From<api::Error> for Error {
    fn from(error: api::Error) -> Self {
        let mut this =
            Self::new(error.kind().into(), one_line(error.message())).retryable(error.is_retryable());
        this.0.os = error.raw_os_error();
        this.0.argument = error.argument().map(str::to_owned);
        this
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match &self.0.suggestion {
            Some(suggestion) => write!(f, "; did you mean {suggestion}?"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Error");
        debug.field("kind", &self.0.kind).field("message", &self.0.message);
        if let Some(description) = &self.0.description {
            debug.field("description", &String::from_utf8_lossy(description)).field("span", &self.0.span);
        }
        debug.finish_non_exhaustive()
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        let kind = std::io::Error::from(error.to_api()).kind();
        Self::new(kind, error)
    }
}

/// A plugin's message on one line: what it quotes may have control characters, which are escaped.
fn one_line(message: &str) -> Cow<'_, str> {
    if !message.contains(char::is_control) {
        return message.into();
    }
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    message.chars().map(escape).collect::<String>().into()
}

/// The name that was probably meant: the same in another case, or a few letters away.
pub(crate) fn nearest<'a>(written: &str, known: &'a [String]) -> Option<&'a str> {
    if let Some(same) = known.iter().find(|name| name.eq_ignore_ascii_case(written)) {
        return Some(same);
    }
    let written = written.to_ascii_lowercase();
    let far = (written.chars().count() / 3).max(1);
    known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&written, &name.to_ascii_lowercase()), name))
        .filter(|(distance, name)| *distance <= far && *distance < name.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name.as_str())
}

/// A value as a message shows it: quoted, control characters escaped, cut where it is long.
pub(crate) fn shown(value: &[u8]) -> String {
    const LONGEST: usize = 60;
    let text: Cow<'_, str> = String::from_utf8_lossy(value);
    if text.chars().count() <= LONGEST {
        return format!("{text:?}");
    }
    let head: String = text.chars().take(LONGEST).collect();
    format!("{head:?}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_and_nonsense_is_not() {
        let known = ["port", "interface", "backlog", "bindAddress"].map(String::from);
        assert_eq!(nearest("bakclog", &known), Some("backlog"));
        assert_eq!(nearest("bindaddress", &known), Some("bindAddress"));
        assert_eq!(nearest("prot", &known), Some("port"));
        assert_eq!(nearest("zzz", &known), None);
        assert_eq!(nearest("", &known), None);
    }

    #[test]
    fn what_a_plugin_says_is_one_line() {
        let said = api::Error::new(api::ErrorKind::Other, "cannot read a\nb\u{1b}[2J\u{7}: no");
        assert_eq!(Error::from(said).message(), r"cannot read a\nb\u{1b}[2J\u{7}: no");
    }

    #[test]
    fn long_values_are_cut() {
        assert_eq!(shown(b"a\"b\n"), r#""a\"b\n""#);
        assert!(shown(&[b'x'; 500]).len() < 80);
    }
}
