//! Laws on random texts.

use std::borrow::Cow;

use endpoints::grammar::Description;
use endpoints_tests::laws;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_obey_the_laws(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        laws::grammar::check(&text);
    }

    #[test]
    fn texts_rich_in_syntax_obey_the_laws(text in syntax(0..60)) {
        laws::grammar::check(&text);
    }

    #[test]
    fn any_text_obeys_the_laws(text in "\\PC{0,60}") {
        laws::grammar::check(text.as_bytes());
    }

    #[test]
    fn what_is_built_is_what_is_parsed(
        scheme in syntax(0..8),
        parts in proptest::collection::vec((proptest::option::of("[ -~]{0,6}|[k:=\\\\]{0,3}"), syntax(0..12)), 0..8),
    ) {
        let mut builder = Description::builder(&scheme);
        for (key, value) in &parts {
            builder = match key {
                Some(key) => builder.keyword(key, value),
                None => builder.positional(value),
            };
        }
        let parsed = Description::parse(builder.build().into_text()).expect("built text is a description");
        prop_assert_eq!(&*parsed.scheme(), &scheme[..]);
        let found: Vec<_> =
            parsed.parts().map(|part| (part.key().map(Cow::into_owned), part.value().into_owned())).collect();
        prop_assert_eq!(found, parts);
    }

    #[test]
    fn a_range_is_found_again_through_three_levels(
        text in syntax(0..30),
        (from, to) in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
    ) {
        let (from, to) = (from.index(text.len() + 1), to.index(text.len() + 1));
        laws::grammar::check_located_through(3, &text, from.min(to)..from.max(to));
    }
}

/// Bytes of which most mean something to the grammar.
fn syntax(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        3 => Just(b':'),
        2 => Just(b'='),
        3 => Just(b'\\'),
        4 => proptest::sample::select(b"ab/ 0".to_vec()),
        1 => any::<u8>(),
    ];
    proptest::collection::vec(byte, len)
}

#[test]
fn a_mistake_three_levels_deep_points_at_the_same_characters() {
    let text = r"tls:h:443:endpoint=tls\:h\:443\:endpoint=unix\\\:/a\\\:b\\\\\\=c\\\:ü=1";
    let outer = Description::parse(text).expect("the outer description");
    let in_outer = outer.keyword("endpoint").expect("the endpoint of the outer");
    let middle = Description::parse(in_outer.value()).expect("the middle description");
    let in_middle = middle.keyword("endpoint").expect("the endpoint of the middle");
    let error = Description::parse(in_middle.value()).expect_err("the key is not ASCII");
    let span = in_outer.locate(in_middle.locate(error.span()));
    assert_eq!(&text[span.clone()], "ü");
    assert_eq!(span.start, text.find('ü').expect("the mistake"));
}

#[test]
fn large_inputs_take_linear_time() {
    // Were any of this quadratic, it would take very long: that, rather than a clock, is the test.
    const LEN: usize = 512 << 10;
    for unit in [r"\\", r"\:", ":", "=", ":=", ":a=b", "a", "\u{e9}", r":\a=\b"] {
        let text = format!("t:{}", unit.repeat(LEN / unit.len()));
        let description = Description::parse(text).expect("a description");
        let parts = description.parts().count();
        assert!(description.keyword("none").is_none());
        let last = description.parts().next_back().expect("a part");
        let located = last.locate(last.value().len()..usize::MAX);
        assert_eq!(located.start, description.text().len());
        assert!(description.canonicalized().parts().count() <= parts);
    }
}
