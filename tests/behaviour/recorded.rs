//! The recorded descriptions of `conformance/`: what comes of making an endpoint from each.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};

use endpoints::{Error, Explanation, Registry};
use serde_json::Value;

use crate::support::World;

/// Schemes that are still to be written.
const LATER_SCHEMES: [&str; 6] = ["ssl", "tls", "systemd", "stdio", "haproxy", "hostname"];

/// Cases about features of the present schemes that are still to be written.
const LATER: [(&str, &str); 4] = [
    ("unix-abstract", ABSTRACT),
    ("unix-abstract-nul", ABSTRACT),
    ("unix-abstract-nul-lockfile-0", ABSTRACT),
    ("unix-listen-abstract", ABSTRACT),
];

const ABSTRACT: &str = "abstract names come with the argument abstract";

/// What Twisted finds out when it listens, and we may when the endpoint is made: README.md of the cases.
const REFUSED_EARLIER: [&str; 3] = ["tcp6-interface-ipv4", "unix-listen-108", "unix-nul-inside"];

#[test]
fn clients() {
    run("client.jsonl", 123, |registry, text| registry.client(text).map(|client| client.explain()));
}

#[test]
fn servers() {
    run("server.jsonl", 188, |registry, text| registry.server(text).map(|server| server.explain()));
}

/// Runs the cases of a file in both forms; `count` are for us so far.
fn run(file: &str, count: usize, make: fn(&Registry, &str) -> Result<Explanation, Error>) {
    let path = format!("{}/conformance/{file}", env!("CARGO_MANIFEST_DIR"));
    let cases = fs::read_to_string(path).expect("the file of the cases");
    let worlds = [("built in", World::built_in()), ("loaded", World::loaded())];
    let (mut ran, mut failures) = (0, Vec::new());
    let mut skipped: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in cases.lines() {
        let case: Value = serde_json::from_str(line).expect("a case in JSON");
        let (id, input) = (text_of(&case, "id"), text_of(&case, "input"));
        if let Some(reason) = later(id, input) {
            skipped.entry(reason).or_default().push(id.to_owned());
            continue;
        }
        ran += 1;
        for (form, world) in &worlds {
            if let Err(failure) = check(&case, make(&world.registry, input)) {
                failures.push(format!("{id} ({form}): {failure}"));
            }
        }
    }
    for (reason, ids) in &skipped {
        // Past the test harness, which would hide it.
        let _ = writeln!(io::stderr(), "{file}: not run yet: {reason}: {}", ids.join(" "));
    }
    assert!(failures.is_empty(), "{} of {ran} cases fail:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(ran, count, "cases of {file}");
}

fn later(id: &str, input: &str) -> Option<String> {
    let scheme = input.split([':', '=']).next().unwrap_or_default().to_ascii_lowercase();
    if LATER_SCHEMES.contains(&scheme.as_str()) {
        return Some(format!("the scheme {scheme} is still to be written"));
    }
    LATER.iter().find_map(|(later, reason)| (*later == id).then(|| (*reason).to_owned()))
}

fn check(case: &Value, made: Result<Explanation, Error>) -> Result<(), String> {
    let want = &case["want"];
    if REFUSED_EARLIER.contains(&text_of(case, "id")) && made.is_err() {
        return Ok(());
    }
    let expected = match want["outcome"].as_str() {
        Some("either") => return Ok(()),
        Some("not-true") => return not_true(made),
        Some("error") => return is_error(want, made),
        // What Twisted makes of it stays what we want, unless `want` says otherwise.
        _ if want["endpoint"].is_object() => &want["endpoint"],
        Some("ok") if !case["endpoint"].is_object() => {
            return made.map(drop).map_err(|error| error.to_string());
        }
        _ => &case["endpoint"],
    };
    if expected.is_object() { is_endpoint(expected, made) } else { is_error(&case["error"], made) }
}

fn not_true(made: Result<Explanation, Error>) -> Result<(), String> {
    match made {
        Ok(explanation) if value(&explanation, "checkPID").as_deref() == Some("1") => {
            Err("the flag is on".into())
        }
        _ => Ok(()),
    }
}

fn is_error(expected: &Value, made: Result<Explanation, Error>) -> Result<(), String> {
    let Err(error) = made else { return Err("no error".into()) };
    let kind = expected["kind"].as_str().expect("a kind");
    let ours = match kind {
        "no-type" => &["no-scheme"][..],
        "unknown-type" => &["unknown-scheme", "wrong-role"],
        // Twisted's parser knows no ranges.
        "bad-number" => &["bad-number", "bad-port"],
        kind => &[kind][..],
    };
    if !ours.contains(&error.kind().name()) {
        return Err(format!("the kind is {}, not {kind}: {error}", error.kind()));
    }
    let said = format!("{error} {}", error.expected().join(" "));
    // Twisted folds the case of schemes in its messages.
    let said = if kind == "unknown-type" { said.to_ascii_lowercase() } else { said };
    for mention in expected["mention"].as_array().into_iter().flatten() {
        let mention = mention.as_str().expect("a text");
        let escaped = format!("{mention:?}");
        if !said.contains(mention) && !said.contains(escaped.trim_matches('"')) {
            return Err(format!("{mention:?} is not mentioned: {said}"));
        }
    }
    Ok(())
}

fn is_endpoint(expected: &Value, made: Result<Explanation, Error>) -> Result<(), String> {
    let explanation = made.map_err(|error| error.to_string())?;
    let same = |what: &str, found: Option<String>, expected: &str| match found {
        Some(found) if found == expected => Ok(()),
        found => Err(format!("{what} is {found:?}, not {expected:?}")),
    };
    for (name, expected) in expected.as_object().expect("an endpoint") {
        let found = value(&explanation, name);
        match (name.as_str(), expected) {
            ("type", Value::String(scheme)) => same("type", Some(explanation.scheme.clone()), scheme)?,
            // What Twisted leaves to the system, we say.
            ("interface", Value::String(any)) if any.is_empty() => {
                let any = if explanation.scheme == "tcp6" { "::" } else { "0.0.0.0" };
                same(name, found, any)?;
            }
            ("mode", Value::String(mode)) => {
                let octal = |text: &str| u32::from_str_radix(text.trim_start_matches("0o"), 8).ok();
                same(name, found.and_then(|found| octal(&found)).map(|mode| format!("{mode:o}")), mode)?;
            }
            ("bindAddress", Value::Null) => {
                if let Some(found) = found.filter(|found| !found.is_empty()) {
                    return Err(format!("bindAddress is {found:?}"));
                }
            }
            ("bindAddress", bind) => same(name, found, bind["host"].as_str().expect("a host"))?,
            (_, Value::String(text)) => same(name, found, text)?,
            (_, Value::Number(number)) => {
                let found = found.and_then(|found| found.parse::<f64>().ok());
                if found != number.as_f64() {
                    return Err(format!("{name} is {found:?}, not {number}"));
                }
            }
            (_, Value::Bool(flag)) => {
                let found = found.map(|found| matches!(found.as_str(), "1" | "true").to_string());
                same(name, found, &flag.to_string())?;
            }
            (_, other) => panic!("a new sort of attribute: {name}: {other}"),
        }
    }
    Ok(())
}

fn value(explanation: &Explanation, name: &str) -> Option<String> {
    let argument = explanation.arguments.iter().find(|argument| argument.name == name)?;
    Some(String::from_utf8_lossy(argument.value.as_deref()?).into_owned())
}

fn text_of<'a>(case: &'a Value, name: &str) -> &'a str {
    case[name].as_str().expect("a text")
}
