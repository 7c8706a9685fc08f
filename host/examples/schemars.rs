//! The JSON schema of a configuration file with descriptions.

use endpoints::{ClientEndpoint, ServerEndpoint};

// ANCHOR: schema
#[derive(schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "the example reads no file")]
struct Configuration {
    listen: Vec<ServerEndpoint>,
    upstream: ClientEndpoint,
}

fn main() {
    println!("{:#}", schemars::schema_for!(Configuration).to_value());
}
// ANCHOR_END: schema
