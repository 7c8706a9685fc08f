//! The recorded servers of which it is known how listening went.

use std::fs;
use std::net::IpAddr;

use endpoints::Address;
use serde_json::Value;

use crate::support::{World, both_forms, pki, skip};

both_forms!(servers_listen_as_recorded);

/// Not to be run so: a path whose length counts is relative there, and an abstract name is given by `abstract` here.
const OTHERWISE: [&str; 3] = ["unix-listen-108", "unix-listen-103", "unix-listen-abstract"];

async fn servers_listen_as_recorded(world: &World) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/conformance/server.jsonl");
    let cases = fs::read_to_string(path).expect("the cases");
    let cases = cases.lines().map(|line| serde_json::from_str::<Value>(line).expect("a case in JSON"));
    let scratch = tempfile::tempdir().expect("a folder");
    let tmp = scratch.path().join("tmp");
    fs::create_dir(&tmp).expect("a folder");
    let (mut ran, mut otherwise, mut failures) = (0, 0, Vec::new());
    for case in cases.filter(|case| case["listen"].is_object()) {
        let id = case["id"].as_str().expect("an id");
        // What is to be refused when it is made is looked at with all other cases.
        if OTHERWISE.contains(&id) || case["want"].is_object() {
            otherwise += 1;
            continue;
        }
        ran += 1;
        let mut input = case["input"].as_str().expect("a description").to_owned();
        input = input.replace("unix:tmp", &format!("unix:{}", tmp.display()));
        if input.contains("pki/") {
            let Some(folder) = pki() else {
                skip(id, "there is no openssl to make certificates with");
                continue;
            };
            input = input.replace("pki/", &format!("{}/pki/", folder.display()));
        }
        let listening = async { world.registry.server(&input)?.listen().await };
        let problem = match (&case["listen"]["ok"], listening.await) {
            (Value::Null, Ok(_)) => Some("it listens".to_owned()),
            (Value::Null, Err(error)) => {
                let wanted = case["listen"]["error"]["errno"].as_i64().filter(|number| *number > 0);
                let told = error.raw_os_error().map(i64::from);
                // Not everything is met as an error of the system here.
                (told.is_some() && wanted.is_some() && told != wanted).then(|| error.to_string())
            }
            (_, Err(error)) => Some(error.to_string()),
            (ok, Ok(listener)) => {
                let host = match &listener.addresses()[0] {
                    Address::Ip(address) => Some(address.ip().to_canonical()),
                    _ => None,
                };
                let wanted = ok["host"].as_str();
                let wanted = wanted.map(|host| host.parse::<IpAddr>().expect("an address").to_canonical());
                (host != wanted).then(|| format!("it listens on {host:?}"))
            }
        };
        failures.extend(problem.map(|problem| format!("{id}: {problem}")));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!((ran, otherwise), (16, 15), "cases that tell how listening went");
}
