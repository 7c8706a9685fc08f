//! A description with carets under the part that is at fault.

use std::ops::Range;

/// What is shown of a long description, in characters.
const WIDTH: usize = 76;

/// The description on a line, and a line with carets under the bytes of `span`; both cut around the span where they would
/// be long. Every character takes one column, what cannot be shown too.
pub(crate) fn under(description: &[u8], span: Range<usize>) -> (String, String) {
    let characters = characters(description);
    let column = |byte: usize| characters.iter().take_while(|(at, _)| *at < byte).count();
    // A span that begins within a character marks all of it.
    let start = characters.iter().take_while(|(at, c)| at + c.1 <= span.start).count();
    let end = column(span.end).max(start + 1);

    let mut from = 0;
    let mut to = characters.len();
    if to > WIDTH {
        let marked = (end - start).min(WIDTH);
        from = start.saturating_sub((WIDTH - marked) / 2).min(to - WIDTH);
        to = from + WIDTH;
    }
    let shown: String = characters[from..to].iter().map(|(_, c)| c.0).collect();
    let (cut_before, cut_after) = (from > 0, to < characters.len());
    let line = format!("{}{shown}{}", if cut_before { "…" } else { "" }, if cut_after { "…" } else { "" });
    let indent = start - from + usize::from(cut_before);
    // One past the end may be marked: there something is missing.
    let carets = end.min(to.max(start + 1)) - start;
    (line, format!("{}{}", " ".repeat(indent), "^".repeat(carets)))
}

/// Each character with its byte offset and its length in bytes; bytes that are no UTF-8 are one each.
fn characters(bytes: &[u8]) -> Vec<(usize, (char, usize))> {
    let mut characters = Vec::new();
    let mut at = 0;
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let shown = if c.is_control() { '\u{fffd}' } else { c };
            characters.push((at, (shown, c.len_utf8())));
            at += c.len_utf8();
        }
        for _ in chunk.invalid() {
            characters.push((at, ('\u{fffd}', 1)));
            at += 1;
        }
    }
    characters
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(description: impl AsRef<[u8]>, span: Range<usize>) -> (String, String) {
        under(description.as_ref(), span)
    }

    fn pair(line: &str, carets: &str) -> (String, String) {
        (line.into(), carets.into())
    }

    #[test]
    fn carets_stand_under_the_span() {
        assert_eq!(drawn("tcp:bakclog=3", 4..11), pair("tcp:bakclog=3", "    ^^^^^^^"));
        assert_eq!(drawn("tcp", 0..3), pair("tcp", "^^^"));
    }

    #[test]
    fn characters_count_not_bytes() {
        assert_eq!(drawn("unix:/é:日=x", 9..12), pair("unix:/é:日=x", "        ^"));
        assert_eq!(drawn("é", 1..2), pair("é", "^"));
    }

    #[test]
    fn what_is_no_text_takes_a_column_each() {
        assert_eq!(drawn(b"a\xff\xfe\x1b:b", 5..6), pair("a\u{fffd}\u{fffd}\u{fffd}:b", "     ^"));
    }

    #[test]
    fn an_empty_span_is_marked() {
        assert_eq!(drawn("", 0..0), pair("", "^"));
        assert_eq!(drawn("tcp:", 4..4), pair("tcp:", "    ^"));
        assert_eq!(drawn("tcp", 90..95), pair("tcp", "   ^"));
    }

    #[test]
    fn long_descriptions_are_cut_around_the_span() {
        let long = format!("{}BAD{}", "x".repeat(200), "y".repeat(200));
        let (line, carets) = drawn(&long, 200..203);
        assert_eq!(line.chars().count(), WIDTH + 2);
        let marked = carets.chars().zip(line.chars()).filter(|(caret, _)| *caret == '^').map(|(_, c)| c);
        assert_eq!(marked.collect::<String>(), "BAD");

        let (line, carets) = drawn(&long, 0..403);
        assert_eq!(carets.len(), WIDTH);
        assert!(line.ends_with('…') && !line.starts_with('…'));
        let (line, carets) = drawn(&long, 402..403);
        assert!(line.starts_with('…') && carets.chars().count() == line.chars().count());
    }
}
