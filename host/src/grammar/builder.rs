//! Descriptions made from values.

use super::description::Description;
use super::escape;
use super::scan::Bounds;

/// Builds a [`Description`] from values, quoting them as needed; [`Description::builder`] makes one.
///
/// The parts appear in the order of the calls. A keyword may be repeated, as in text.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct Builder {
    text: Vec<u8>,
    /// What scanning `text` would give; the first is the scheme.
    parts: Vec<Bounds>,
}

impl Builder {
    pub(super) fn new(scheme: &[u8]) -> Self {
        let mut builder = Self::with_capacity(scheme.len(), 1);
        builder.push_positional(scheme);
        builder
    }

    /// A builder without a scheme: the first thing to push, as a positional value.
    pub(super) fn with_capacity(bytes: usize, parts: usize) -> Self {
        Self { text: Vec::with_capacity(bytes), parts: Vec::with_capacity(parts) }
    }

    /// Adds a positional value.
    pub fn positional(mut self, value: impl AsRef<[u8]>) -> Self {
        self.push_positional(value.as_ref());
        self
    }

    /// Adds a keyword and its value.
    ///
    /// # Panics
    ///
    /// If `name` is not ASCII. No scheme has an argument of such a name, and a description cannot carry one.
    pub fn keyword(mut self, name: impl AsRef<str>, value: impl AsRef<[u8]>) -> Self {
        let name = name.as_ref();
        assert!(name.is_ascii(), "the name of a keyword must be ASCII, and {name:?} is not");
        self.push_keyword(name, value.as_ref());
        self
    }

    /// The finished description.
    pub fn build(self) -> Description {
        Description::from_parts(self.text, self.parts, 0)
    }

    pub(super) fn push_positional(&mut self, value: &[u8]) {
        let start = self.begin_part();
        escape::quote_into(&mut self.text, value);
        self.parts.push(Bounds { start, value: start, end: self.text.len() });
    }

    pub(super) fn push_keyword(&mut self, name: &str, value: &[u8]) {
        let start = self.begin_part();
        escape::quote_into(&mut self.text, name.as_bytes());
        self.text.push(b'=');
        let value_start = self.text.len();
        escape::quote_into(&mut self.text, value);
        self.parts.push(Bounds { start, value: value_start, end: self.text.len() });
    }

    fn begin_part(&mut self) -> usize {
        if !self.parts.is_empty() {
            self.text.push(b':');
        }
        self.text.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_quoted() {
        let built = Description::builder("t:=").positional(r"a=b\").keyword("k=", "v=:").build();
        assert_eq!(built.text(), br"t\:\=:a\=b\\:k\==v\=\:");
        assert_eq!(*built.scheme(), *b"t:=");
        assert_eq!(*built.positional().next().expect("a part").value(), *br"a=b\");
        assert_eq!(*built.keyword("k=").expect("a keyword").value(), *b"v=:");
    }

    #[test]
    fn empty_values_count() {
        let built = Description::builder("").positional("").keyword("", "").build();
        assert_eq!(built.text(), b"::=");
        assert_eq!(built.parts().count(), 2);
    }

    #[test]
    fn values_need_not_be_utf8() {
        let built = Description::builder("unix").keyword("path", b"/\xff").build();
        assert_eq!(built.text(), b"unix:path=/\xff");
    }

    #[test]
    #[should_panic(expected = "must be ASCII")]
    fn a_name_outside_ascii_is_refused() {
        let _ = Description::builder("t").keyword("é", "");
    }
}
