//! The tables of the chapter on the grammar.

use endpoints::grammar::Description;
use endpoints::manifest::Manifest;
use endpoints::{Error, Explanation, Registry, quote, quote_str};
use serde_json::json;

use crate::page;

const PAGE: &str = "docs/src/grammar.md";

fn rows(name: &str) -> Vec<Vec<Vec<String>>> {
    page::table(&page::read(PAGE), name)
}

fn registry() -> Registry {
    Registry::builder().default_plugin_path(false).build().expect("a registry")
}

fn parse(text: &str) -> Description {
    Description::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn text(bytes: impl AsRef<[u8]>) -> String {
    String::from_utf8_lossy(bytes.as_ref()).into_owned()
}

#[test]
fn every_marked_table_is_tested() {
    let text = page::read(PAGE);
    let mut found = page::marks(&text);
    found.sort_unstable();
    let mut known = [
        "parts",
        "parse-errors",
        "canonical",
        "quote",
        "nested",
        "depths",
        "client",
        "server",
        "client-errors",
        "ipv6-hint",
        "values",
    ];
    known.sort_unstable();
    assert_eq!(found, known);
}

#[test]
fn parts() {
    for row in rows("parts") {
        let description = parse(&row[0][0]);
        assert_eq!(text(description.scheme()), row[1][0], "{row:?}");
        let positional: Vec<_> = description.positional().map(|part| text(part.value())).collect();
        assert_eq!(positional, row[2], "{row:?}");
        let keywords: Vec<_> = description
            .keywords()
            .flat_map(|part| [part.key().unwrap_or_default().into_owned(), text(part.value())])
            .collect();
        assert_eq!(keywords, row[3], "{row:?}");
    }
}

#[test]
fn canonical_texts() {
    for row in rows("canonical") {
        let canonical = parse(&row[0][0]).canonical();
        assert_eq!(text(&canonical), row[1][0], "{row:?}");
        assert_eq!(parse(&row[1][0]).canonical(), canonical, "{row:?}");
    }
}

#[test]
fn quoting() {
    for row in rows("quote") {
        let (value, quoted) = (&row[0][0], &row[1][0]);
        assert_eq!(quote_str(value), **quoted);
        assert_eq!(*quote(value.as_bytes()), *quoted.as_bytes());
        let description = parse(&format!("x:{quoted}:k={quoted}"));
        for part in description.parts() {
            assert_eq!(text(part.value()), *value);
        }
    }
}

#[test]
fn nesting() {
    let rows = rows("nested");
    assert_eq!(rows.len(), 3);
    for pair in rows.windows(2) {
        let (inner, outer) = (&pair[0][1][0], &pair[1][1][0]);
        let outer = parse(outer);
        assert_eq!(text(outer.keyword("proxy").expect("a proxy").value()), *inner);
        assert!(text(outer.text()).ends_with(&*quote_str(inner)), "{inner} is quoted as usual");
    }
    for row in self::rows("depths") {
        for pair in row.windows(2) {
            assert_eq!(pair[1][0], quote_str(&pair[0][0]));
        }
    }
}

fn given(explanation: &Explanation) -> Vec<String> {
    let given = explanation.arguments.iter().filter(|argument| argument.given);
    given
        .flat_map(|argument| [argument.name.clone(), text(argument.value.as_deref().unwrap_or_default())])
        .collect()
}

#[test]
fn arguments() {
    for row in rows("client") {
        let endpoint =
            registry().client(row[0][0].as_str()).unwrap_or_else(|error| panic!("{row:?}: {error}"));
        assert_eq!(given(&endpoint.explain()), row[1], "{row:?}");
    }
    for row in rows("server") {
        let endpoint =
            registry().server(row[0][0].as_str()).unwrap_or_else(|error| panic!("{row:?}: {error}"));
        assert_eq!(given(&endpoint.explain()), row[1], "{row:?}");
    }
}

fn refused(description: &str) -> Error {
    registry().client(description).map(|_| ()).expect_err(description)
}

#[test]
fn errors() {
    for row in rows("parse-errors").into_iter().chain(rows("client-errors")) {
        let error = refused(&row[0][0]);
        assert_eq!(error.kind().name(), row[1][0], "{row:?}: {error}");
        let span = error.span().unwrap_or_else(|| panic!("{row:?}: {error} has no span"));
        assert_eq!(row[0][0][span], row[2][0], "{row:?}: {error}");
    }
    for row in rows("parse-errors") {
        assert!(Description::parse(row[0][0].as_str()).is_err(), "{row:?}");
    }
    for row in rows("ipv6-hint") {
        let error = refused(&row[0][0]);
        assert_eq!(error.kind().name(), row[1][0], "{row:?}: {error}");
        assert!(error.message().contains(r"\:\:1"), "{row:?}: {error}");
    }
}

#[test]
fn values() {
    for row in rows("values") {
        let check = |value: &str| {
            // A default is checked as a user's value is.
            let mut parameter = json!({"name": "p", "type": row[0][0], "default": value});
            match row[0][0].as_str() {
                "integer" => {
                    parameter["min"] = json!(1);
                    parameter["max"] = json!(10);
                }
                "choice" => parameter["choices"] = json!(["fast", "small"]),
                _ => {}
            }
            let manifest = json!({
                "build": {"name": "p", "version": "1.0.0", "api": "1.0.0", "requires": "1.0.0", "entry": "e"},
                "plugin": {"schemes": [{"scheme": "s", "kind": "transport", "client": {"parameters": [parameter]}}]},
            });
            Manifest::parse(&manifest.to_string()).map(|_| ())
        };
        for value in &row[2] {
            assert_eq!(check(value), Ok(()), "{row:?}: {value:?}");
        }
        for value in &row[3] {
            let problem = check(value).expect_err(value);
            assert!(problem.contains("the default of p"), "{row:?}: {value:?}: {problem}");
        }
    }
}
