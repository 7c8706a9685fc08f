//! Descriptions in configuration files.

use endpoints::adapters::serde::ServerSeed;
use endpoints::{ClientEndpoint, Description, Registry, ServerEndpoint};
use serde_json::json;

use crate::programs::{Place, example};

/// What `serde` says to a file.
fn read(text: &str) -> Result<String, String> {
    let place = Place::new();
    let path = place.path().join("app.toml");
    std::fs::write(&path, text).expect("a file");
    let output = example("serde").arg(path).output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[test]
fn strings_and_maps_are_endpoints() {
    let file = r#"
        listen = ["tcp:port=8080", { scheme = "unix", address = "/run/a:b", mode = 0o660 }]

        [upstream]
        scheme = "tls"
        host = "db.example.com"
        port = 5432
        timeout = 2.5
        alpn = ["h2", "http/1.1"]
        endpoint = { scheme = "unix", path = "/run/a:b", checkPID = true }
    "#;
    let upstream = r"tls:alpn=h2,http/1.1:endpoint=unix\:checkPID\=1\:path\=/run/a\\\:b:host=db.example.com:port=5432:timeout=2.5";
    let expected =
        format!("listen: tcp:port=8080\nlisten: unix:address=/run/a\\:b:mode=660\nupstream: {upstream}\n");
    assert_eq!(read(file), Ok(expected));
}

#[test]
fn a_mistake_has_its_place() {
    let with = |upstream: &str| read(&format!("listen = []\nupstream = {upstream}\n")).expect_err(upstream);
    for (upstream, parts) in [
        (r#""tcp:h""#, ["line 2", "required but not given: port"]),
        (r#"{ scheme = "tcp", host = "h", port = 123456 }"#, ["line 2", "port: \"123456\""]),
        (r#"{ scheme = "tcp", host = "h", prot = 1 }"#, ["line 2", "did you mean port?"]),
        (r#"{ scheme = "tcp", host = ["h"], port = 1 }"#, ["line 2", "host takes one value, not a list"]),
        (
            r#"{ scheme = "tcp", host = { scheme = "tcp" }, port = 1 }"#,
            ["line 2", "host: takes a value, not a map"],
        ),
        (r#"{ host = "h", port = 1 }"#, ["line 2", "missing field `scheme`"]),
        (r#"{ scheme = "nothing" }"#, ["line 2", "no plugin provides the scheme"]),
        (
            r#"{ scheme = "tls", host = "h", port = 1, endpoint = { scheme = "unix", path = "" } }"#,
            ["line 2", "endpoint: path: "],
        ),
        ("5", ["line 2", "a client description is a string"]),
        ("[]", ["line 2", "a client description is a string"]),
    ] {
        let error = with(upstream);
        assert!(parts.iter().all(|part| error.contains(part)), "{upstream}: {error}");
    }
}

#[test]
fn a_secret_is_in_no_error() {
    let value = json!({ "scheme": "nothing", "password": "hunter2" });
    let error = serde_json::from_value::<ClientEndpoint>(value).expect_err("an unknown scheme").to_string();
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn what_is_written_is_read_again() {
    let text = r"tls:h:443:timeout=5:endpoint=unix\:path\=/a\\\:b";
    let endpoint: ClientEndpoint = text.parse().expect("an endpoint");
    let written = serde_json::to_value(&endpoint).expect("written");
    assert_eq!(written, json!(r"tls:h:443:endpoint=unix\:path\=/a\\\:b:timeout=5"));
    let again: ClientEndpoint = serde_json::from_value(written).expect("read");
    assert_eq!(again.to_string(), endpoint.to_string());
    // The text of a description stays as it is.
    let description: Description = serde_json::from_value(json!(r"b=1:x:\a")).expect("a description");
    assert_eq!(serde_json::to_value(&description).expect("written"), json!(r"b=1:x:\a"));
    assert!(serde_json::to_value(Description::parse(&b"unix:/\xff"[..]).expect("a description")).is_err());
}

#[test]
fn a_description_needs_no_scheme_that_exists() {
    let read =
        |value| serde_json::from_value::<Description>(value).map(|description| description.to_string());
    let value =
        json!({ "scheme": "any", "a": 1, "b": [1, "x"], "c": { "scheme": "in:ner", "d": false }, "e": -1.5 });
    assert_eq!(read(value).expect("a description"), r"any:a=1:b=1,x:c=in\\\:ner\:d\=0:e=-1.5");
    // A known one's modes are octal.
    let mode = json!({ "scheme": "unix", "address": "/x", "mode": 0o640 });
    assert_eq!(read(mode).expect("a description"), "unix:address=/x:mode=640");
    for wrong in
        [json!(r"x:\"), json!({ "scheme": "x", "é": 1 }), json!({ "scheme": "x", "a": ["1,2"] }), json!(null)]
    {
        assert!(read(wrong.clone()).is_err(), "{wrong}");
    }
    let twice = serde_json::from_str::<Description>(r#"{"scheme":"x","a":1,"a":2}"#).expect_err("twice");
    assert!(twice.to_string().contains("a is given twice"), "{twice}");
}

#[test]
fn another_registry_has_its_seed() {
    let registry = Registry::builder().default_plugin_path(false).no_built_in().build().expect("a registry");
    let read = |registry: &Registry| {
        use serde::de::DeserializeSeed;
        ServerSeed(registry).deserialize(&json!("tcp:80"))
    };
    assert!(read(&registry).is_err());
    let endpoint: ServerEndpoint = read(Registry::global()).expect("an endpoint");
    assert_eq!(endpoint.to_string(), "tcp:80");
}
