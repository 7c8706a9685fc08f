//! Quoting text so that it stands for itself in a description, and undoing it.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;

/// Quotes bytes so that they stand for themselves in a description: `\`, `:` and `=` get a backslash before them.
///
/// The result can stand in every place: as the scheme, as a positional part, as a keyword's value or key (where only
/// ASCII is allowed), and as a whole description that is the value of another one's keyword. It is borrowed where
/// there is nothing to quote.
///
/// # Examples
///
/// ```
/// use endpoints::grammar::quote;
///
/// assert_eq!(*quote(b"2001:db8::1"), *br"2001\:db8\:\:1");
/// assert_eq!(*quote(b"/run/a=b.sock"), *br"/run/a\=b.sock");
/// ```
pub fn quote(bytes: &[u8]) -> Cow<'_, [u8]> {
    if !bytes.iter().any(|&byte| is_special(byte)) {
        return Cow::Borrowed(bytes);
    }
    let mut quoted = Vec::new();
    quote_into(&mut quoted, bytes);
    Cow::Owned(quoted)
}

/// Quotes text so that it stands for itself in a description, as [`quote`] does for bytes.
///
/// # Examples
///
/// ```
/// use endpoints::grammar::quote_str;
///
/// assert_eq!(format!("tcp:host={}:port=80", quote_str("::1")), r"tcp:host=\:\:1:port=80");
/// ```
pub fn quote_str(text: &str) -> Cow<'_, str> {
    let Some(first) = text.bytes().position(is_special) else { return Cow::Borrowed(text) };
    let mut quoted = String::with_capacity(quoted_len(text.as_bytes()));
    quoted.push_str(&text[..first]);
    for character in text[first..].chars() {
        if matches!(character, ':' | '=' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    Cow::Owned(quoted)
}

/// Appends `bytes`, quoted, to `out`.
pub(super) fn quote_into(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(quoted_len(bytes));
    for &byte in bytes {
        if is_special(byte) {
            out.push(b'\\');
        }
        out.push(byte);
    }
}

fn quoted_len(bytes: &[u8]) -> usize {
    bytes.len() + bytes.iter().filter(|&&byte| is_special(byte)).count()
}

fn is_special(byte: u8) -> bool {
    matches!(byte, b':' | b'=' | b'\\')
}

/// Removes one level of escaping; borrowed where there is none.
pub(super) fn unescape(raw: &[u8]) -> Cow<'_, [u8]> {
    if raw.contains(&b'\\') { Cow::Owned(unescaped(raw).collect()) } else { Cow::Borrowed(raw) }
}

/// Whether `raw` stands for `plain`.
pub(super) fn unescapes_to(raw: &[u8], plain: &[u8]) -> bool {
    match raw.len().cmp(&plain.len()) {
        Ordering::Less => false,
        // An escape would make what it stands for shorter.
        Ordering::Equal => raw == plain && !raw.contains(&b'\\'),
        Ordering::Greater => unescaped(raw).eq(plain.iter().copied()),
    }
}

/// Finds the bytes of `raw` that a range of its unescaped form was made from, backslashes included.
///
/// Offsets beyond the end mean the end, and an empty range stays empty.
pub(super) fn locate(raw: &[u8], range: Range<usize>) -> Range<usize> {
    let mut units = units(raw).skip(range.start);
    let Some(first) = units.next() else { return raw.len()..raw.len() };
    match range.len() {
        0 => first.start..first.start,
        1 => first,
        more => {
            let last = units.nth(more - 2);
            first.start..last.map_or(raw.len(), |last| last.end)
        }
    }
}

fn unescaped(raw: &[u8]) -> impl Iterator<Item = u8> {
    units(raw).map(|unit| raw[unit.end - 1])
}

/// The stretches of `raw` that stand for one byte each: the byte itself, or a backslash and the byte.
///
/// What the scanner let through never ends in a lone backslash; here one would stand for itself.
fn units(raw: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at;
        at += match raw.get(start)? {
            b'\\' if start + 1 < raw.len() => 2,
            _ => 1,
        };
        Some(start..at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_borrows_when_there_is_nothing_to_quote() {
        assert!(matches!(quote(b"/run/web.sock"), Cow::Borrowed(_)));
        assert!(matches!(quote_str("/run/wéb.sock"), Cow::Borrowed(_)));
    }

    #[test]
    fn text_and_bytes_are_quoted_alike() {
        for text in ["", "a", ":", "=é:日\\", r"C:\key=1", "🦀:🦀"] {
            assert_eq!(quote(text.as_bytes()), quote_str(text).as_bytes(), "{text}");
        }
    }

    #[test]
    fn unescaping_borrows_when_there_is_nothing_to_unescape() {
        assert!(matches!(unescape(b"80"), Cow::Borrowed(b"80")));
        assert_eq!(*unescape(br"\a\\\:\="), *br"a\:=");
    }

    #[test]
    fn comparing_unescapes() {
        assert!(unescapes_to(b"port", b"port"));
        assert!(unescapes_to(br"p\ort", b"port"));
        assert!(unescapes_to(br"\\", br"\"));
        assert!(!unescapes_to(br"\\", br"\\"));
        assert!(!unescapes_to(b"port", b"por"));
        assert!(!unescapes_to(br"por\t", b"portx"));
    }

    #[test]
    fn locating_includes_the_backslashes() {
        //          0  1 2  3 4
        let raw = br"a\:b\\c";
        assert_eq!(locate(raw, 0..1), 0..1);
        assert_eq!(locate(raw, 1..2), 1..3);
        assert_eq!(locate(raw, 1..4), 1..6);
        assert_eq!(locate(raw, 0..5), 0..7);
    }

    #[test]
    fn locating_bounds_its_result() {
        let raw = br"a\:b";
        assert_eq!(locate(raw, 1..1), 1..1);
        assert_eq!(locate(raw, 3..3), 4..4);
        assert_eq!(locate(raw, 2..100), 3..4);
        assert_eq!(locate(raw, 90..100), 4..4);
        #[expect(clippy::reversed_empty_ranges, reason = "what a caller's slip would give")]
        let reversed = 2..1;
        assert_eq!(locate(raw, reversed), 3..3);
    }
}
