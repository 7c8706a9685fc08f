//! The recorded descriptions of `conformance/`: what comes of making an endpoint from each.

use std::collections::HashMap;
use std::fs;

use endpoints::{Error, Explanation, Registry};
use serde_json::Value;

use crate::support::World;

/// What depends on the environment of a process: `tests/command/systemd.rs` runs it.
const ELSEWHERE: [&str; 2] = ["systemd:", "haproxy:systemd:"];

/// Twisted's way to say an abstract name: a path that begins with a NUL, which no command line can have. Here it is
/// refused, as the name has an argument of its own, `abstract`.
const ABSTRACT: [&str; 4] =
    ["unix-abstract", "unix-abstract-nul", "unix-abstract-nul-lockfile-0", "unix-listen-abstract"];

/// What Twisted does not have, and we do: a client side of haproxy, and fd.
const ACCEPTED: [&str; 3] = ["tls-endpoint-haproxy", "haproxy-client", "unknown-fd"];

/// What Twisted finds out when it listens, and we may when the endpoint is made: README.md of the cases.
const REFUSED_EARLIER: [&str; 3] = ["tcp6-interface-ipv4", "unix-listen-108", "unix-nul-inside"];

#[test]
fn clients() {
    run("client.jsonl", 268, |registry, text| registry.client(text).map(|client| client.explain()));
}

#[test]
fn servers() {
    run("server.jsonl", 303, |registry, text| registry.server(text).map(|server| server.explain()));
}

/// Runs the cases of a file in both forms; `count` of them.
fn run(file: &str, count: usize, make: fn(&Registry, &str) -> Result<Explanation, Error>) {
    let path = format!("{}/conformance/{file}", env!("CARGO_MANIFEST_DIR"));
    let cases = fs::read_to_string(path).expect("the file of the cases");
    // Where there is no openssl to make them with, the cases that name certificates cannot run.
    let pki = crate::support::pki();
    let by_id: HashMap<String, Value> = cases
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a case in JSON"))
        .map(|case| (text_of(&case, "id").to_owned(), case))
        .collect();
    let worlds = [("built in", World::built_in()), ("loaded", World::loaded())];
    let (mut ran, mut elsewhere, mut failures) = (0, 0, Vec::new());
    for line in cases.lines() {
        let case: Value = serde_json::from_str(line).expect("a case in JSON");
        let (id, input) = (text_of(&case, "id"), text_of(&case, "input"));
        if file == "server.jsonl"
            && (input == "systemd"
                || ELSEWHERE.iter().any(|start| input.to_ascii_lowercase().starts_with(start)))
        {
            elsewhere += 1;
            continue;
        }
        ran += 1;
        let input = match &pki {
            Some(folder) => {
                let pki = format!("{}/pki", folder.display());
                let input = input.replace("pki/", &format!("{pki}/"));
                input.strip_suffix("=pki").map(|start| format!("{start}={pki}")).unwrap_or(input)
            }
            None if input.contains("pki/") => {
                crate::support::skip(id, "there is no openssl to make certificates with");
                continue;
            }
            None => input.to_owned(),
        };
        // What it should be is what another case is.
        let same = case["want"]["same_as"].as_str().map(|id| by_id[id]["endpoint"].clone());
        for (form, world) in &worlds {
            if let Err(failure) = check(&case, same.as_ref(), make(&world.registry, &input)) {
                failures.push(format!("{id} ({form}): {failure}"));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {ran} cases fail:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(ran, count, "cases of {file}");
    assert_eq!(elsewhere, if file == "server.jsonl" { 34 } else { 0 });
}

fn check(case: &Value, same: Option<&Value>, made: Result<Explanation, Error>) -> Result<(), String> {
    let want = &case["want"];
    if REFUSED_EARLIER.contains(&text_of(case, "id")) && made.is_err() {
        return Ok(());
    }
    if ACCEPTED.contains(&text_of(case, "id")) {
        return made.map(drop).map_err(|error| error.to_string());
    }
    if ABSTRACT.contains(&text_of(case, "id")) {
        let refusal = serde_json::json!({"kind": "invalid-argument", "mention": ["NUL"]});
        return is_error(&refusal, made);
    }
    let expected = match want["outcome"].as_str() {
        Some("either") => return Ok(()),
        Some("not-true") => return not_true(made),
        Some("error") => return is_error(want, made),
        Some("ok") if same.is_some() => same.expect("looked at just now"),
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
        // Nor what is said of an IPv6 address whose colons are not escaped.
        "bad-number" => &["bad-number", "bad-port", "missing-argument"],
        // An empty one is missing.
        "bad-hostname" | "not-a-file" => &["invalid-argument", "missing-argument"],
        "bad-pem" | "key-mismatch" | "no-certificates" | "bad-method" => &["invalid-argument"],
        "file-not-found" | "bad-directory" => &["not-found"],
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
            ("tls", Value::Null) => {}
            ("tls", tls) => is_tls(tls, &explanation)?,
            ("names", names) => is_names(names, &explanation)?,
            ("wrapped", wrapped) => is_wrapped(wrapped, &explanation)?,
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

/// What an explanation tells under a name that is no argument's.
fn facts<'e>(explanation: &'e Explanation, name: &str) -> Vec<&'e str> {
    let facts = explanation.facts.iter().filter(|(known, _)| known == name);
    facts.map(|(_, value)| value.as_str()).collect()
}

fn is_tls(expected: &Value, explanation: &Explanation) -> Result<(), String> {
    let same = |what: &str, found: &[&str], expected: Vec<&str>| {
        if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, not {expected:?}")) }
    };
    let all = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|text| text.as_str().expect("a text").to_owned()).collect()
    };
    for (name, expected) in expected.as_object().expect("attributes of TLS") {
        match (name.as_str(), expected) {
            // Names are compared without regard to case and to a dot at the end.
            ("verify_as", Value::String(name)) => {
                let name = name.to_ascii_lowercase();
                same("verifies", &facts(explanation, "verifies"), vec![name.trim_end_matches('.')])?;
            }
            ("sends_sni", Value::Bool(false)) if explanation.scheme == "ssl" => {}
            ("sends_sni", Value::Bool(sends)) => {
                same("sni", &facts(explanation, "sni"), vec![if *sends { "1" } else { "0" }])?;
            }
            // Nor trusts Twisted's ssl anybody in particular; ours trusts those whom the system does.
            ("trust", Value::String(_)) => same("trusts", &facts(explanation, "trusts"), vec!["platform"])?,
            ("trust", names) => {
                let mut found = facts(explanation, "trusts");
                found.sort_unstable();
                let names = all(names);
                same("trusts", &found, names.iter().map(String::as_str).collect())?;
            }
            ("client_certificate", certificate) => {
                let expected = certificate.as_str().into_iter().collect();
                same("shows", &facts(explanation, "shows"), expected)?;
            }
            ("certificate", Value::String(text)) => same("shows", &facts(explanation, "shows"), vec![text])?,
            ("key", Value::String(text)) => same(name, &facts(explanation, name), vec![text])?,
            ("chain", chain) => {
                let chain = all(chain);
                same(name, &facts(explanation, name), chain.iter().map(String::as_str).collect())?;
            }
            ("method", Value::String(method)) => {
                let versions = if method == "TLSv1_2_METHOD" { "TLSv1.2" } else { "TLSv1.2 TLSv1.3" };
                same("versions", &facts(explanation, "versions"), vec![versions])?;
            }
            // Seen in other attributes, or about OpenSSL.
            ("verify_hostname" | "is_dns_name" | "dhParameters" | "excluded_versions" | "context", _)
            | ("asks_client_certificate", Value::Bool(false)) => {}
            (name, other) => panic!("a new sort of attribute: {name}: {other}"),
        }
    }
    Ok(())
}

fn is_names(expected: &Value, explanation: &Explanation) -> Result<(), String> {
    let mut names = Vec::new();
    for (name, identity) in expected.as_object().expect("names") {
        let chain = identity["chain"].as_array().into_iter().flatten();
        let chain: String = chain.map(|issuer| format!(" < {}", issuer.as_str().expect("a text"))).collect();
        names.push(format!("{name}={}{chain}", text_of(identity, "certificate")));
    }
    names.sort();
    let found = facts(explanation, "serves");
    if found == names { Ok(()) } else { Err(format!("serves {found:?}, not {names:?}")) }
}

fn is_wrapped(expected: &Value, explanation: &Explanation) -> Result<(), String> {
    let mut expected = expected.clone();
    let wrapped = expected.as_object_mut().expect("a wrapped endpoint");
    // Twisted's endpoint for names is our tcp, whose delay is that of the RFC.
    if wrapped["type"] == "hostname" {
        wrapped["type"] = "tcp".into();
        wrapped.remove("attemptDelay");
    }
    // Twisted's takes IPv4 addresses for IPv6 ones and fails later.
    if wrapped["type"] == "tcp6" && wrapped["interface"].as_str().is_some_and(|text| !text.contains(':')) {
        wrapped["type"] = "tcp".into();
    }
    let Some((_, mut inner)) = explanation.inner.first().cloned() else {
        return Err("nothing is wrapped".into());
    };
    // A preamble around encryption stands beneath it in truth.
    if inner.scheme == "haproxy" && explanation.scheme != "haproxy" && wrapped["type"] != "haproxy" {
        inner = inner.inner.remove(0).1;
    }
    is_endpoint(&expected, Ok(inner)).map_err(|problem| format!("wrapped: {problem}"))
}

fn value(explanation: &Explanation, name: &str) -> Option<String> {
    let argument = explanation.arguments.iter().find(|argument| argument.name == name)?;
    Some(String::from_utf8_lossy(argument.value.as_deref()?).into_owned())
}

fn text_of<'a>(case: &'a Value, name: &str) -> &'a str {
    case[name].as_str().expect("a text")
}
