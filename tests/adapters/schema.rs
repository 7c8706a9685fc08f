//! JSON schemas of configuration files, by a validator that others wrote.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{need, program, run};
use crate::programs::{Place, example};

fn schema() -> Value {
    let text = run(&mut example("schemars"), None).expect("a schema");
    serde_json::from_slice(&text).expect("JSON")
}

/// What the validator says about each.
fn validated(schema: &Value, values: &[Value]) -> Vec<String> {
    let place = Place::new();
    let (file, input) = (place.path().join("schema"), place.path().join("input"));
    std::fs::write(&file, schema.to_string()).expect("a file");
    let lines: String = values.iter().map(|value| format!("{value}\n")).collect();
    std::fs::write(&input, lines).expect("a file");
    // The Python that has the validator, which is the one with Twisted.
    let mut command = Command::new(program("twisted"));
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/adapters/validate.py")).arg(file);
    let said = run(&mut command, Some(&input)).expect("a validation");
    String::from_utf8(said).expect("UTF-8").lines().map(str::to_owned).collect()
}

fn with(upstream: &Value) -> Value {
    json!({ "listen": [], "upstream": upstream })
}

#[test]
fn what_is_right_is_valid() {
    need!("twisted");
    let right = [
        json!({ "listen": ["tcp:80", { "scheme": "unix", "address": "/x", "mode": 0o660 }], "upstream": "tcp:h:80" }),
        with(&json!({ "scheme": "tcp", "host": "h", "port": 80, "timeout": 2.5 })),
        with(&json!({ "scheme": "tcp", "host": "h", "port": "80" })),
        with(&json!({ "scheme": "unix", "path": "/x", "checkPID": true })),
        with(&json!({ "scheme": "unix", "path": "/x", "lockfile": "1" })),
        with(&json!({ "scheme": "unix", "abstract": "x" })),
        with(&json!({
            "scheme": "tls", "host": "h", "port": 443, "alpn": ["h2"],
            "endpoint": { "scheme": "tls", "host": "i", "port": 1, "alpn": "h2,x", "endpoint": "tcp:h:1" },
        })),
        with(&json!({ "scheme": "haproxy", "endpoint": { "scheme": "unix", "path": "/x" }, "version": "1" })),
    ];
    let valid = vec!["valid"; right.len()];
    assert_eq!(validated(&schema(), &right), valid);
    // And it can be read.
    for value in right {
        serde_json::from_value::<endpoints::ClientEndpoint>(value["upstream"].clone()).expect("an endpoint");
    }
}

#[test]
fn what_is_wrong_is_not_valid() {
    need!("twisted");
    let wrong = [
        with(&json!({ "host": "h", "port": 80 })),
        with(&json!({ "scheme": "nothing" })),
        with(&json!({ "scheme": "tcp", "host": "h" })),
        with(&json!({ "scheme": "tcp", "host": "h", "port": 65536 })),
        with(&json!({ "scheme": "tcp", "host": "h", "port": 80, "prot": 1 })),
        with(&json!({ "scheme": "tcp", "host": ["h"], "port": 80 })),
        with(&json!({ "scheme": "unix" })),
        with(&json!({ "scheme": "unix", "path": "/x", "abstract": "x" })),
        with(&json!({ "scheme": "tls", "host": "h", "port": 443, "privateKey": "/x" })),
        with(
            &json!({ "scheme": "tls", "host": "h", "port": 443, "endpoint": { "scheme": "tcp", "host": "h" } }),
        ),
        with(&json!({ "scheme": "haproxy", "endpoint": "tcp:h:1", "version": "3" })),
        // A server's.
        with(&json!({ "scheme": "systemd", "domain": "INET", "index": 0 })),
        json!({ "listen": [{ "scheme": "unix", "address": "/x", "mode": "689" }], "upstream": "tcp:h:80" }),
        json!({ "upstream": 5, "listen": [] }),
    ];
    for (value, said) in wrong.iter().zip(validated(&schema(), &wrong)) {
        assert_ne!(said, "valid", "{value}");
        // The other way round: what is read is valid.
        let upstream = value["upstream"].clone();
        let is_good = serde_json::from_value::<endpoints::ClientEndpoint>(upstream.clone()).is_ok();
        assert!(!is_good || upstream == "tcp:h:80", "{value} can be read");
    }
}

#[test]
fn editors_have_something_to_show() {
    let schema = schema();
    let schemes = schema["$defs"]["ClientEndpoint"]["anyOf"].as_array().expect("alternatives");
    let tcp = schemes.iter().find(|scheme| scheme["title"] == "tcp").expect("tcp");
    let timeout = &tcp["properties"]["timeout"];
    assert_eq!(timeout["default"], 30);
    assert!(timeout["description"].as_str().is_some_and(|text| text.ends_with("In seconds.")), "{timeout}");
    assert_eq!(tcp["required"], json!(["scheme"]));
    assert_eq!(tcp["allOf"], json!([{ "required": ["host"] }, { "required": ["port"] }]));
    let ssl = schemes.iter().find(|scheme| scheme["title"] == "ssl").expect("ssl");
    assert_eq!(ssl["deprecated"], true);
}
