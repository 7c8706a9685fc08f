//! A parsed description.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::str::FromStr;

use super::builder::Builder;
use super::error::ParseError;
use super::escape;
use super::part::Part;
use super::scan::{self, Bounds, Scanned};

/// A parsed description: its text, which need not be UTF-8, and where each part lies in it.
///
/// Two descriptions are equal if their texts are; compare [canonical](Self::canonicalized) ones to tell whether they
/// mean the same.
#[derive(Clone)]
pub struct Description {
    text: Vec<u8>,
    parts: Vec<Bounds>,
    /// The index in `parts` of the one that is the scheme.
    scheme: usize,
}

impl Description {
    /// Parses a description. The scheme and its arguments need not exist.
    ///
    /// This takes time and memory in proportion to the length of the text, and one allocation beyond the text itself.
    ///
    /// # Errors
    ///
    /// [`ParseErrorKind`](super::ParseErrorKind) lists what can be wrong.
    ///
    /// # Examples
    ///
    /// ```
    /// use endpoints::grammar::{Description, ParseErrorKind};
    ///
    /// assert_eq!(*Description::parse("tcp:80")?.scheme(), *b"tcp");
    ///
    /// let error = Description::parse(r"unix:C\").unwrap_err();
    /// assert_eq!(error.kind(), ParseErrorKind::TrailingBackslash);
    /// assert_eq!(error.span(), 6..7);
    /// # Ok::<(), endpoints::grammar::ParseError>(())
    /// ```
    pub fn parse(text: impl Into<Vec<u8>>) -> Result<Self, ParseError> {
        Self::from_text(text.into())
    }

    // Not generic, so that it is compiled once.
    fn from_text(text: Vec<u8>) -> Result<Self, ParseError> {
        let Scanned { parts, scheme } = scan::scan(&text)?;
        Ok(Self { text, parts, scheme })
    }

    /// `parts` must be what scanning `text` gives, and a part that is no keyword must be at `scheme`.
    pub(super) fn from_parts(text: Vec<u8>, parts: Vec<Bounds>, scheme: usize) -> Self {
        Self { text, parts, scheme }
    }

    /// Begins a description that is made from values rather than from text; the values are quoted as needed.
    ///
    /// # Examples
    ///
    /// ```
    /// use endpoints::grammar::Description;
    ///
    /// let description = Description::builder("tcp").positional("80").keyword("interface", "::1").build();
    /// assert_eq!(description.to_string(), r"tcp:80:interface=\:\:1");
    /// ```
    pub fn builder(scheme: impl AsRef<[u8]>) -> Builder {
        Builder::new(scheme.as_ref())
    }

    /// The text as it was written.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The text as it was written, without copying it.
    pub fn into_text(self) -> Vec<u8> {
        self.text
    }

    /// The scheme, unescaped but otherwise as written. It may be empty.
    pub fn scheme(&self) -> Cow<'_, [u8]> {
        escape::unescape(&self.text[self.scheme_span()])
    }

    /// Where the scheme stands in the text.
    pub fn scheme_span(&self) -> Range<usize> {
        let scheme = self.parts[self.scheme];
        scheme.start..scheme.end
    }

    /// The parts in the order of writing, but for the scheme.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = Part<'_>> + Clone {
        let (before, from_scheme) = self.parts.split_at(self.scheme);
        before.iter().chain(&from_scheme[1..]).map(|&bounds| Part::new(&self.text, bounds))
    }

    /// The parts that are no keywords, in the order of writing, but for the scheme.
    pub fn positional(&self) -> impl DoubleEndedIterator<Item = Part<'_>> + Clone {
        self.parts().filter(|part| !part.is_keyword())
    }

    /// The keywords in the order of writing. Repeated ones are all there.
    pub fn keywords(&self) -> impl DoubleEndedIterator<Item = Part<'_>> + Clone {
        self.parts().filter(Part::is_keyword)
    }

    /// The keyword of that name. The last one counts if there are several.
    pub fn keyword(&self, name: &str) -> Option<Part<'_>> {
        self.parts().rfind(|part| part.has_key(name))
    }

    /// The one text of all that mean the same: first the scheme and the positional parts in their order, then the
    /// keywords sorted by name, the last of each name alone, everything escaped as [`quote`](super::quote) does.
    pub fn canonical(&self) -> Vec<u8> {
        self.canonicalized().into_text()
    }

    /// The description of the [canonical](Self::canonical) text.
    ///
    /// # Examples
    ///
    /// ```
    /// use endpoints::grammar::Description;
    ///
    /// let description = Description::parse(r"tcp:port=80:host=a:\h:host=b")?;
    /// assert_eq!(description.canonicalized().to_string(), "tcp:h:host=b:port=80");
    /// # Ok::<(), endpoints::grammar::ParseError>(())
    /// ```
    pub fn canonicalized(&self) -> Self {
        let keywords: BTreeMap<_, _> = self.keywords().filter_map(|part| Some((part.key()?, part))).collect();
        let mut builder = Builder::with_capacity(self.text.len(), self.parts.len());
        builder.push_positional(&self.scheme());
        for part in self.positional() {
            builder.push_positional(&part.value());
        }
        for (key, part) in &keywords {
            builder.push_keyword(key, &part.value());
        }
        builder.build()
    }
}

// Where the parts lie follows from the text, so that there is no need to look at them.
impl PartialEq for Description {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Description {}

impl Hash for Description {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

/// The text as written; what is not UTF-8 shows as U+FFFD.
impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&String::from_utf8_lossy(&self.text))
    }
}

impl fmt::Debug for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Description").field(&String::from_utf8_lossy(&self.text)).finish()
    }
}

impl AsRef<[u8]> for Description {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

impl FromStr for Description {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

impl TryFrom<&str> for Description {
    type Error = ParseError;

    fn try_from(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Description {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

impl TryFrom<&[u8]> for Description {
    type Error = ParseError;

    fn try_from(text: &[u8]) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

impl TryFrom<Vec<u8>> for Description {
    type Error = ParseError;

    fn try_from(text: Vec<u8>) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::super::ParseErrorKind;
    use super::*;

    fn parse(text: &str) -> Description {
        Description::parse(text).expect("a description")
    }

    fn values<'a>(parts: impl Iterator<Item = Part<'a>>) -> Vec<String> {
        parts.map(|part| String::from_utf8_lossy(&part.value()).into_owned()).collect()
    }

    #[test]
    fn keywords_may_come_before_the_scheme() {
        let description = parse(r"a=1:tc\p:b=2:80");
        assert_eq!(*description.scheme(), *b"tcp");
        assert_eq!(description.scheme_span(), 4..8);
        assert_eq!(values(description.parts()), ["1", "2", "80"]);
        assert_eq!(values(description.positional()), ["80"]);
        assert_eq!(values(description.keywords()), ["1", "2"]);
    }

    #[test]
    fn the_scheme_may_be_empty_but_not_missing() {
        assert_eq!(*parse("").scheme(), *b"");
        assert_eq!(*parse("a=1:").scheme(), *b"");
        assert_eq!(Description::parse("a=1").unwrap_err().kind(), ParseErrorKind::NoScheme);
    }

    #[test]
    fn the_last_of_a_repeated_keyword_counts_and_all_are_kept() {
        let description = parse("t:k=1:k=2");
        assert_eq!(values(description.keywords()), ["1", "2"]);
        assert_eq!(*description.keyword("k").expect("k").value(), *b"2");
        assert!(description.keyword("K").is_none());
    }

    #[test]
    fn canonical_text_keeps_the_meaning_and_nothing_else() {
        assert_eq!(parse(r"b=1:\a=x\:\y:t:p:b=2:q\=").canonical(), br"t:p:q\=:a=x\:y:b=2");
        assert_eq!(parse("=1::x").canonical(), b":x:=1");
        assert_eq!(parse("").canonical(), b"");
    }

    #[test]
    fn a_canonicalized_description_is_as_if_parsed() {
        let canonical = parse(r"k=\a:t:x").canonicalized();
        let parsed = Description::parse(canonical.text()).expect("a description");
        assert_eq!(canonical, parsed);
        assert_eq!(canonical.scheme_span(), parsed.scheme_span());
        let spans =
            |description: &Description| description.parts().map(|part| part.span()).collect::<Vec<_>>();
        assert_eq!(spans(&canonical), spans(&parsed));
    }

    #[test]
    fn printing_is_lossy_only_where_the_text_is_not_utf8() {
        let description = Description::parse(&b"unix:/\xff"[..]).expect("a description");
        assert_eq!(description.to_string(), "unix:/\u{fffd}");
        assert_eq!(format!("{description:?}"), "Description(\"unix:/\u{fffd}\")");
        assert_eq!(description.as_ref(), b"unix:/\xff");
        assert_eq!(format!("{:>8}|", parse(r"tcp:é")), "   tcp:é|");
    }

    #[test]
    fn every_kind_of_text_converts() {
        let expected = parse("tcp:80");
        assert_eq!("tcp:80".parse(), Ok(expected.clone()));
        assert_eq!(Description::try_from("tcp:80"), Ok(expected.clone()));
        assert_eq!(Description::try_from(String::from("tcp:80")), Ok(expected.clone()));
        assert_eq!(Description::try_from(&b"tcp:80"[..]), Ok(expected.clone()));
        assert_eq!(Description::try_from(b"tcp:80".to_vec()), Ok(expected.clone()));
        assert_eq!(Description::parse(Cow::Borrowed("tcp:80").into_owned()), Ok(expected));
    }
}
