//! Finds the parts of a description, in one pass and without unescaping anything.

use std::ops::Range;

use super::error::{ParseError, ParseErrorKind};

/// Where a part lies in the text of its description.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) start: usize,
    /// Where the value begins: at `start`, or for a keyword after the `=`, which is always further right.
    pub(super) value: usize,
    pub(super) end: usize,
}

impl Bounds {
    pub(super) fn is_keyword(self) -> bool {
        self.value > self.start
    }

    pub(super) fn key(self) -> Option<Range<usize>> {
        self.is_keyword().then(|| self.start..self.value - 1)
    }
}

/// The parts of a text, and which of them is the scheme.
pub(super) struct Scanned {
    pub(super) parts: Vec<Bounds>,
    pub(super) scheme: usize,
}

/// Splits `text` into parts.
///
/// Escaping only matters here in that it hides a `:`, `=` or backslash. No byte of a longer UTF-8 sequence looks like
/// one of them, so skipping the one byte after a backslash skips the same text as skipping the whole character.
pub(super) fn scan(text: &[u8]) -> Result<Scanned, ParseError> {
    // Escaped colons are counted too; room for too many parts is cheaper than growing.
    let colons = text.iter().filter(|&&byte| byte == b':').count();
    let mut parts = Vec::with_capacity(colons + 1);
    let mut scheme = None;
    let mut start = 0;
    let mut value = 0;
    let mut at = 0;
    loop {
        let byte = text.get(at).copied();
        match byte {
            None | Some(b':') => {
                let part = Bounds { start, value, end: at };
                match part.key() {
                    None => scheme = scheme.or(Some(parts.len())),
                    Some(key) if text[key.clone()].is_ascii() => {}
                    Some(key) => return Err(ParseError::new(ParseErrorKind::NonAsciiKey, key)),
                }
                parts.push(part);
                if byte.is_none() {
                    break;
                }
                start = at + 1;
                value = start;
            }
            Some(b'=') if value == start => value = at + 1,
            Some(b'\\') => {
                at += 1;
                if at == text.len() {
                    return Err(ParseError::new(ParseErrorKind::TrailingBackslash, at - 1..at));
                }
            }
            Some(_) => {}
        }
        at += 1;
    }
    match scheme {
        Some(scheme) => Ok(Scanned { parts, scheme }),
        None => Err(ParseError::new(ParseErrorKind::NoScheme, 0..text.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(text: &str) -> Vec<(usize, usize, usize)> {
        let scanned = scan(text.as_bytes()).expect("a description");
        scanned.parts.iter().map(|part| (part.start, part.value, part.end)).collect()
    }

    fn error(text: &str) -> (ParseErrorKind, Range<usize>) {
        let error = scan(text.as_bytes()).err().expect("no description");
        (error.kind(), error.span())
    }

    #[test]
    fn empty_parts_count() {
        assert_eq!(bounds(""), [(0, 0, 0)]);
        assert_eq!(bounds("::"), [(0, 0, 0), (1, 1, 1), (2, 2, 2)]);
    }

    #[test]
    fn the_first_equals_sign_of_a_part_makes_it_a_keyword() {
        assert_eq!(bounds("t:k=v=w:=:x"), [(0, 0, 1), (2, 4, 7), (8, 9, 9), (10, 10, 11)]);
    }

    #[test]
    fn a_backslash_hides_what_follows() {
        assert_eq!(bounds(r"t\:\=\\:a\=b=\:"), [(0, 0, 7), (8, 13, 15)]);
    }

    #[test]
    fn the_first_part_that_is_no_keyword_is_the_scheme() {
        let scanned = scan(b"a=1:b=2:tcp:80").expect("a description");
        assert_eq!(scanned.scheme, 2);
    }

    #[test]
    fn mistakes_have_their_place() {
        assert_eq!(error(r"t:a\"), (ParseErrorKind::TrailingBackslash, 3..4));
        assert_eq!(error("t:a=1:é=2"), (ParseErrorKind::NonAsciiKey, 6..8));
        assert_eq!(error("a=1:b=2"), (ParseErrorKind::NoScheme, 0..7));
    }

    #[test]
    fn of_two_mistakes_the_first_counts() {
        assert_eq!(error(r"t:é=1:\").0, ParseErrorKind::NonAsciiKey);
        assert_eq!(error(r"a=1:é=\").0, ParseErrorKind::TrailingBackslash, "the part was not over yet");
    }
}
