//! `quote.jsonl`: how a value is written so that it stands for itself, and what nested descriptions come apart into.

use endpoints::grammar::{Description, quote, quote_str};
use serde_json::Value;

use crate::cases::{self, same};

#[test]
fn quote_and_nest() {
    cases::run("quote.jsonl", 255, |case| {
        let input = case["input"].as_str().expect("an input");
        match &case["unnested"] {
            Value::Array(levels) => unnests(input, levels),
            _ => quotes(input, case),
        }
    });
}

fn quotes(input: &str, case: &Value) -> Result<(), String> {
    let recorded = case["quoted"].as_str().expect("the quoted text");
    let recorded_as =
        |place| case[format!("roundtrip_as_{place}")].as_bool().expect("whether it round trips");
    let comes_back = |parsed: Result<Vec<u8>, String>| parsed.is_ok_and(|value| value == input.as_bytes());
    same(
        "what was recorded as positional",
        &comes_back(as_positional(recorded)),
        &recorded_as("positional"),
    )?;
    same(
        "what was recorded as keyword value",
        &comes_back(as_keyword(recorded)),
        &recorded_as("keyword_value"),
    )?;

    // Ours escapes the equals sign too, so that it stands for itself in every place.
    let quoted = quote_str(input);
    same("quoted", &*quoted, &*recorded.replace('=', r"\="))?;
    same("quoted bytes", &*quote(input.as_bytes()), quoted.as_bytes())?;
    same("as positional", &*as_positional(&quoted)?, input.as_bytes())?;
    same("as keyword value", &*as_keyword(&quoted)?, input.as_bytes())
}

fn as_positional(quoted: &str) -> Result<Vec<u8>, String> {
    let description = parse(&format!("t:{quoted}"))?;
    // Not quoted for this place, it may be a keyword; its value is not the input then.
    Ok(description.parts().next().expect("a part").value().into_owned())
}

fn as_keyword(quoted: &str) -> Result<Vec<u8>, String> {
    let description = parse(&format!("t:k={quoted}"))?;
    Ok(description.keyword("k").expect("the keyword").value().into_owned())
}

fn unnests(input: &str, levels: &[Value]) -> Result<(), String> {
    let mut description = parse(input)?;
    for level in levels {
        let Some(expected) = level.as_str() else { return means(&description, level) };
        let endpoint = description.keyword("endpoint").ok_or("there is no endpoint=")?.value().into_owned();
        same("the nested text", &*endpoint, expected.as_bytes())?;
        description = parse(expected)?;
    }
    Err("the innermost level is not there".into())
}

fn means(description: &Description, level: &Value) -> Result<(), String> {
    let text = |bytes: &[u8]| Value::from(String::from_utf8_lossy(bytes));
    let positional = description.positional().map(|part| text(&part.value()));
    let args: Value = [text(&description.scheme())].into_iter().chain(positional).collect();
    same("args", &args, &level["args"])?;
    let keywords =
        description.keywords().filter_map(|part| Some((part.key()?.into_owned(), text(&part.value()))));
    same("kwargs", &keywords.collect(), &level["kwargs"])
}

fn parse(text: &str) -> Result<Description, String> {
    Description::parse(text).map_err(|error| format!("{text}: {error}"))
}
