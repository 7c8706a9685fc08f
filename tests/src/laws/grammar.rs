//! What holds for every text that is, or is not, a description.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use endpoints::grammar::{Description, ParseErrorKind, Part, quote, quote_str};

use super::grammar_model::{self as model, Meaning};

/// Checks all laws for one text.
///
/// # Panics
///
/// If a law does not hold.
pub fn check(text: &[u8]) {
    match (Description::parse(text), model::parse(text)) {
        (Ok(description), Ok(meaning)) => {
            assert_eq!(description.text(), text);
            means(&description, &meaning);
            spans_tile_the_text(&description);
            description.parts().for_each(value_can_be_located);
            canonical_is_stable(&description, &meaning);
            rebuilds(&description, &meaning);
            prints(&description);
        }
        (Err(error), Err(kind)) => {
            assert_eq!(error.kind(), kind, "{error}");
            mistake_is_in_place(text, kind, error.span());
            let message = error.to_string();
            assert!(!message.is_empty() && !message.contains('\n'), "not one line: {message:?}");
        }
        (real, model) => panic!("{real:?}, but the model says {:?}", model.map(|meaning| meaning.parts)),
    }
    quotes(text);
}

/// Checks that a range of a text is found again when the text is nested `levels` deep.
///
/// # Panics
///
/// If it is not.
pub fn check_located_through(levels: usize, innermost: &[u8], range: Range<usize>) {
    let mut texts = vec![innermost.to_vec()];
    for _ in 0..levels {
        let inner = texts.last().expect("the innermost text");
        let outer = Description::builder("tls").positional("h=:").keyword("endpoint", inner).keyword("z", "");
        texts.push(outer.build().into_text());
    }
    let expected = innermost[range.clone()].to_vec();
    let mut range = range;
    for outer in &texts[1..] {
        let outer = Description::parse(&outer[..]).expect("the text around");
        range = outer.keyword("endpoint").expect("the text inside").locate(range);
    }
    let mut located = texts.last().expect("the outermost text")[range.clone()].to_vec();
    for _ in 0..levels {
        located = model::unescape(&located);
    }
    assert_eq!(located, expected, "at {range:?} of the outermost text");
}

fn means(description: &Description, meaning: &Meaning) {
    assert_eq!(*description.scheme(), meaning.parts[meaning.scheme].1);
    let expected: Vec<_> = without_scheme(meaning).cloned().collect();
    assert_eq!(description.parts().map(entry).collect::<Vec<_>>(), expected);
    let (keywords, positional): (Vec<_>, Vec<_>) = expected.into_iter().partition(|(key, _)| key.is_some());
    assert_eq!(description.positional().map(entry).collect::<Vec<_>>(), positional);
    assert_eq!(description.keywords().map(entry).collect::<Vec<_>>(), keywords);
    for (key, value) in last_of_each(meaning) {
        let found = description.keyword(&String::from_utf8_lossy(key)).expect("a keyword by its name");
        assert_eq!(*found.value(), *value);
    }
    assert!(description.keyword("no such key \u{e9}").is_none());
}

fn without_scheme(meaning: &Meaning) -> impl Iterator<Item = &(Option<Vec<u8>>, Vec<u8>)> {
    meaning.parts.iter().enumerate().filter(|(index, _)| *index != meaning.scheme).map(|(_, part)| part)
}

fn last_of_each(meaning: &Meaning) -> BTreeMap<&[u8], &[u8]> {
    meaning.parts.iter().filter_map(|(key, value)| Some((key.as_deref()?, &value[..]))).collect()
}

fn entry(part: Part<'_>) -> (Option<Vec<u8>>, Vec<u8>) {
    (part.key().map(|key| key.into_owned().into_bytes()), part.value().into_owned())
}

/// Nothing of the text is in two parts, and nothing but the colons is in none.
fn spans_tile_the_text(description: &Description) {
    let text = description.text();
    let mut spans: Vec<_> = description.parts().map(|part| part.span()).collect();
    assert!(spans.is_sorted_by_key(|span| span.start), "the parts are not in the order of writing");
    spans.push(description.scheme_span());
    spans.sort_by_key(|span| (span.start, span.end));
    let pieces: Vec<_> = spans.into_iter().map(|span| &text[span]).collect();
    assert_eq!(pieces.join(&b':'), text);

    for part in description.parts() {
        assert_eq!(part.raw(), &text[part.span()]);
        assert_eq!(part.raw_tail(), &text[part.span().start..]);
        assert_eq!(part.is_keyword(), part.key_span().is_some());
        let key = part.key_span().map(|key| [&text[key], b"="].concat()).unwrap_or_default();
        assert_eq!([&key[..], &text[part.value_span()]].concat(), part.raw());
        assert_eq!(matches!(part.value(), Cow::Owned(_)), text[part.value_span()].contains(&b'\\'));
    }
}

fn value_can_be_located(part: Part<'_>) {
    let value = part.value();
    assert_eq!(part.locate(0..value.len()), part.value_span());
    assert_eq!(part.locate(value.len()..value.len() + 1), part.value_span().end..part.value_span().end);
    // Every byte of a short value, some of a long one: locating is linear, and so this stays nearly so.
    let text_before = part.span().start;
    for start in (0..value.len()).step_by(1 + value.len() / 64) {
        let at = part.locate(start..start);
        assert!(at.is_empty() && part.value_span().contains(&at.start));
        for end in [start + 1, start + (value.len() - start) / 2, value.len()] {
            let range = start..end.max(start);
            let located = part.locate(range.clone());
            assert_eq!(located.start, at.start);
            let raw = &part.raw()[located.start - text_before..located.end - text_before];
            assert_eq!(model::unescape(raw), value[range]);
        }
    }
}

fn canonical_is_stable(description: &Description, meaning: &Meaning) {
    let canonical = description.canonicalized();
    assert_eq!(canonical.text(), description.canonical());
    let parsed = Description::parse(canonical.text()).expect("canonical text is a description");
    same_structure(&canonical, &parsed);
    assert_eq!(parsed.canonical(), canonical.text());

    assert_eq!(parsed.scheme(), description.scheme());
    let positional = |description: &Description| description.positional().map(entry).collect::<Vec<_>>();
    assert_eq!(positional(&parsed), positional(description));
    let keywords: Vec<_> =
        last_of_each(meaning).into_iter().map(|(key, value)| (Some(key.to_vec()), value.to_vec())).collect();
    assert_eq!(parsed.keywords().map(entry).collect::<Vec<_>>(), keywords);
}

fn rebuilds(description: &Description, meaning: &Meaning) {
    let mut builder = Description::builder(description.scheme());
    for part in description.parts() {
        builder = match part.key() {
            Some(key) => builder.keyword(key, part.value()),
            None => builder.positional(part.value()),
        };
    }
    let built = builder.build();
    same_structure(&built, &Description::parse(built.text()).expect("built text is a description"));
    assert_eq!(built.scheme(), description.scheme());
    assert_eq!(
        built.parts().map(entry).collect::<Vec<_>>(),
        without_scheme(meaning).cloned().collect::<Vec<_>>()
    );
}

/// A description that was not made by parsing is as if it were.
fn same_structure(made: &Description, parsed: &Description) {
    assert_eq!(made, parsed);
    assert_eq!(made.scheme_span(), parsed.scheme_span());
    let places = |description: &Description| {
        description.parts().map(|part| (part.key_span(), part.value_span())).collect::<Vec<_>>()
    };
    assert_eq!(places(made), places(parsed));
}

fn prints(description: &Description) {
    let printed = description.to_string();
    assert_eq!(printed, String::from_utf8_lossy(description.text()));
    if let Ok(text) = std::str::from_utf8(description.text()) {
        assert_eq!(text.parse().as_ref(), Ok(description));
    }
}

fn mistake_is_in_place(text: &[u8], kind: ParseErrorKind, span: Range<usize>) {
    let at_fault = &text[span.clone()];
    match kind {
        ParseErrorKind::TrailingBackslash => assert_eq!((at_fault, span.end), (&b"\\"[..], text.len())),
        ParseErrorKind::NonAsciiKey => {
            assert!(!at_fault.is_ascii());
            assert_eq!(text.get(span.end), Some(&b'='));
            assert!(span.start == 0 || text[span.start - 1] == b':');
        }
        ParseErrorKind::NoScheme => assert_eq!(at_fault, text),
        other => panic!("there is no law for {other:?} yet"),
    }
    check_located_through(3, text, span);
}

/// Quoted, any bytes stand for themselves everywhere.
fn quotes(bytes: &[u8]) {
    let quoted = quote(bytes);
    assert_eq!(model::unescape(&quoted), bytes);
    let parse = |pieces: &[&[u8]]| Description::parse(pieces.concat()).expect("quoted text is harmless");

    assert_eq!(*parse(&[&quoted]).scheme(), *bytes);
    let positional = parse(&[b"t:", &quoted, b":x"]);
    assert_eq!(positional.positional().map(|part| part.value().into_owned()).next().as_deref(), Some(bytes));
    assert_eq!(*parse(&[b"t:k=", &quoted, b":x"]).keyword("k").expect("k").value(), *bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert_eq!(quote_str(text).as_bytes(), &*quoted);
        if text.is_ascii() {
            let key = parse(&[b"t:", &quoted, b"=v"]);
            assert_eq!(*key.keyword(text).expect("the key").value(), *b"v");
        }
    }
}
