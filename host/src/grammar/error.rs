//! What can be wrong with a description before its scheme is known.

use std::fmt;
use std::ops::Range;

/// Why a text is not a description, and where.
///
/// Of several mistakes, the one that is met first from the left is reported.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ParseError {
    kind: ParseErrorKind,
    span: Range<usize>,
}

impl ParseError {
    pub(super) fn new(kind: ParseErrorKind, span: Range<usize>) -> Self {
        Self { kind, span }
    }

    /// The sort of mistake.
    pub fn kind(&self) -> ParseErrorKind {
        self.kind
    }

    /// The bytes of the text that are at fault.
    ///
    /// For a nested description this is a range of the nested text; [`Part::locate`](super::Part::locate) maps it to
    /// the text around it.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ParseErrorKind::TrailingBackslash => f.write_str(
                r"the description ends in a lone backslash: write \\ for a backslash, or remove it",
            ),
            ParseErrorKind::NonAsciiKey => write!(
                f,
                r"the argument name at byte {} is not ASCII: correct it, or write \= if the = belongs to a value",
                self.span.start
            ),
            ParseErrorKind::NoScheme => f.write_str(
                r"the description has no scheme, only keywords: begin it with a scheme, as in tcp:port=80",
            ),
        }
    }
}

impl std::error::Error for ParseError {}

/// The sorts of [`ParseError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParseErrorKind {
    /// The text ends in a backslash that has nothing to escape; the span is that backslash.
    TrailingBackslash,
    /// A keyword's key has a character outside ASCII; the span is the key.
    NonAsciiKey,
    /// Every part is a keyword, so that none is the scheme; the span is the whole text.
    NoScheme,
}

#[cfg(test)]
mod tests {
    use super::super::Description;

    #[test]
    fn messages_say_what_to_do_next() {
        let message = |text: &str| Description::parse(text).expect_err("a mistake").to_string();
        assert_eq!(
            message(r"unix:C:\"),
            r"the description ends in a lone backslash: write \\ for a backslash, or remove it"
        );
        assert_eq!(
            message("unix:/é=1"),
            r"the argument name at byte 5 is not ASCII: correct it, or write \= if the = belongs to a value"
        );
        assert_eq!(
            message("port=80"),
            "the description has no scheme, only keywords: begin it with a scheme, as in tcp:port=80"
        );
    }
}
