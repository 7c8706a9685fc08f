//! Descriptions in a configuration file: `serde FILE`. Says what the file means.

use std::process::ExitCode;

use endpoints::{ClientEndpoint, ServerEndpoint};
use serde::Deserialize;

// ANCHOR: configuration
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Configuration {
    listen: Vec<ServerEndpoint>,
    upstream: ClientEndpoint,
}

fn read(text: &str) -> Result<Configuration, toml::de::Error> {
    toml::from_str(text)
}
// ANCHOR_END: configuration

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: serde FILE");
        return ExitCode::from(2);
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("{path}: {error}");
            return ExitCode::FAILURE;
        }
    };
    match read(&text) {
        Ok(Configuration { listen, upstream }) => {
            for endpoint in &listen {
                println!("listen: {endpoint}"); // the canonical description, its secrets masked
            }
            println!("upstream: {upstream}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{path}: {error}");
            ExitCode::FAILURE
        }
    }
}
