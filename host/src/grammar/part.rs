//! One part of a description.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use super::escape;
use super::scan::Bounds;

/// A part of a [`Description`](super::Description): a positional value, or a keyword and its value.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    text: &'a [u8],
    bounds: Bounds,
}

impl<'a> Part<'a> {
    pub(super) fn new(text: &'a [u8], bounds: Bounds) -> Self {
        Self { text, bounds }
    }

    /// The key, unescaped, if this part is a keyword. It may be empty, and borrows where nothing is escaped.
    pub fn key(&self) -> Option<Cow<'a, str>> {
        // The scanner refused every key that is not ASCII, so that nothing is lost here.
        Some(match escape::unescape(&self.text[self.bounds.key()?]) {
            Cow::Borrowed(key) => String::from_utf8_lossy(key),
            Cow::Owned(key) => Cow::Owned(String::from_utf8_lossy(&key).into_owned()),
        })
    }

    /// Whether this part is a keyword of that name, compared unescaped and with regard to case.
    pub fn has_key(&self, name: &str) -> bool {
        self.bounds.key().is_some_and(|key| escape::unescapes_to(&self.text[key], name.as_bytes()))
    }

    /// Whether this part is a keyword.
    pub fn is_keyword(&self) -> bool {
        self.bounds.is_keyword()
    }

    /// Where the key stands in the description's text, without the `=`.
    pub fn key_span(&self) -> Option<Range<usize>> {
        self.bounds.key()
    }

    /// The value, unescaped; borrowed where nothing is escaped.
    pub fn value(&self) -> Cow<'a, [u8]> {
        escape::unescape(&self.text[self.value_span()])
    }

    /// Where the value stands in the description's text.
    pub fn value_span(&self) -> Range<usize> {
        self.bounds.value..self.bounds.end
    }

    /// Where the whole part stands in the description's text, without the colons around it.
    pub fn span(&self) -> Range<usize> {
        self.bounds.start..self.bounds.end
    }

    /// The whole part as written, escapes included.
    pub fn raw(&self) -> &'a [u8] {
        &self.text[self.span()]
    }

    /// The description's text from the start of this part to its end, as written.
    ///
    /// This is what a wrapper reads that takes the rest of the description as the description of what it wraps, such
    /// as `tcp:80` in `haproxy:tcp:80`. A range of it, moved by [`span().start`](Self::span), is one of the whole text.
    pub fn raw_tail(&self) -> &'a [u8] {
        &self.text[self.bounds.start..]
    }

    /// Maps a range of the unescaped [value](Self::value) to the description's text.
    ///
    /// The result covers the backslashes of the escapes it meets. Offsets beyond the end of the value mean its end,
    /// and an empty range stays empty. For a description nested in a description, map level by level, from the
    /// innermost outwards.
    ///
    /// # Examples
    ///
    /// ```
    /// use endpoints::grammar::Description;
    ///
    /// let text = r"tls:h:443:endpoint=tcp\:h\:http";
    /// let outer = Description::parse(text)?;
    /// let endpoint = outer.keyword("endpoint").unwrap();
    /// let inner = Description::parse(endpoint.value())?;
    /// let port = inner.positional().nth(1).unwrap();
    /// assert_eq!(&text[endpoint.locate(port.value_span())], "http");
    /// # Ok::<(), endpoints::grammar::ParseError>(())
    /// ```
    pub fn locate(&self, range: Range<usize>) -> Range<usize> {
        let located = escape::locate(&self.text[self.value_span()], range);
        self.bounds.value + located.start..self.bounds.value + located.end
    }
}

impl fmt::Debug for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part")
            .field("key", &self.key())
            .field("value", &String::from_utf8_lossy(&self.value()))
            .field("span", &self.span())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Description;
    use std::borrow::Cow;

    #[test]
    fn spans_and_texts_agree() {
        let text = r"tcp:80:ho\st=a\:b";
        let description = Description::parse(text).expect("a description");
        let [port, host]: [_; 2] = description.parts().collect::<Vec<_>>().try_into().expect("two parts");
        assert_eq!((port.key(), port.key_span()), (None, None));
        assert_eq!((&text[port.value_span()], &text[port.span()]), ("80", "80"));
        assert_eq!(host.key().as_deref(), Some("host"));
        assert_eq!(&text[host.key_span().expect("a key")], r"ho\st");
        assert_eq!(*host.value(), *b"a:b");
        assert_eq!(&text[host.value_span()], r"a\:b");
        assert_eq!(host.raw(), br"ho\st=a\:b");
        assert_eq!(port.raw_tail(), br"80:ho\st=a\:b");
    }

    #[test]
    fn nothing_is_copied_without_an_escape() {
        let description = Description::parse("tcp:host=h").expect("a description");
        let host = description.keyword("host").expect("host");
        assert!(matches!(host.key(), Some(Cow::Borrowed("host"))));
        assert!(matches!(host.value(), Cow::Borrowed(b"h")));
    }

    #[test]
    fn a_positional_part_has_no_key_whatever_it_says() {
        let description = Description::parse(r"t:k\=v").expect("a description");
        let part = description.positional().next().expect("a part");
        assert!(!part.has_key("k") && !part.is_keyword());
        assert_eq!(*part.value(), *b"k=v");
    }

    #[test]
    fn debug_shows_what_a_part_means() {
        let description = Description::parse(&b"t:k=\xffa"[..]).expect("a description");
        let part = description.keyword("k").expect("k");
        assert_eq!(format!("{part:?}"), "Part { key: Some(\"k\"), value: \"\u{fffd}a\", span: 2..6 }");
    }
}
