//! `parse.jsonl`: what a text means as a description.

use std::collections::BTreeMap;

use endpoints::grammar::{Description, ParseError, ParseErrorKind};
use serde_json::Value;

use crate::cases::{self, same};

#[test]
fn parse() {
    cases::run("parse.jsonl", 1707, |case| {
        let input = cases::bytes(case, "input").expect("an input");
        let parsed = Description::parse(&input[..]);
        if let Some(error) = case["error"].as_str() {
            return same("the outcome", &outcome(&parsed), &Err(kind(error)));
        }
        let Some(prefix) = cases::bytes(case, "prefix") else {
            same("the outcome", &outcome(&parsed), &Err(ParseErrorKind::NoScheme))?;
            // What the keywords mean can still be seen after a scheme.
            let input = [b"t:", &input[..]].concat();
            return means(&Description::parse(input).map_err(|error| error.to_string())?, b"t", case);
        };
        means(&parsed.map_err(|error| error.to_string())?, &prefix, case)
    });
}

fn outcome(parsed: &Result<Description, ParseError>) -> Result<(), ParseErrorKind> {
    parsed.as_ref().map(drop).map_err(ParseError::kind)
}

fn kind(name: &str) -> ParseErrorKind {
    match name {
        "trailing-backslash" => ParseErrorKind::TrailingBackslash,
        "non-ascii-key" => ParseErrorKind::NonAsciiKey,
        other => panic!("a new kind of error: {other}"),
    }
}

fn means(description: &Description, scheme: &[u8], case: &Value) -> Result<(), String> {
    same("the scheme", &*description.scheme(), scheme)?;
    let positional: Vec<_> = description.positional().map(|part| part.value().into_owned()).collect();
    same("positional", &positional, &args(case))?;
    let expected = kwargs(case);
    for (key, value) in &expected {
        let found = description.keyword(key).map(|part| part.value().into_owned());
        same(key, &found.as_ref(), &Some(value))?;
    }
    let keywords =
        description.keywords().filter_map(|part| Some((part.key()?.into_owned(), part.value().into_owned())));
    same("keywords", &keywords.collect(), &expected)
}

fn args(case: &Value) -> Vec<Vec<u8>> {
    let text = case["args"].as_array().into_iter().flatten().map(|value| text_of(value).into());
    let hex = case["args_hex"].as_array().into_iter().flatten().map(|value| cases::unhex(text_of(value)));
    text.chain(hex).collect()
}

fn kwargs(case: &Value) -> BTreeMap<String, Vec<u8>> {
    let text = case["kwargs"].as_object().into_iter().flatten();
    let hex = case["kwargs_hex"].as_object().into_iter().flatten();
    let text = text.map(|(key, value)| (key.clone(), text_of(value).into()));
    text.chain(hex.map(|(key, value)| (key.clone(), cases::unhex(text_of(value))))).collect()
}

fn text_of(value: &Value) -> &str {
    value.as_str().expect("text")
}
