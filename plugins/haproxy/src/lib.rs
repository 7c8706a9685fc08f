//! The PROXY protocol around other endpoints: the scheme `haproxy`, a server and a client side.
//!
//! The manifest, `plugin.json`, says what it accepts. The protocol itself is in `proxy.rs`, without input and output.

mod client;
/// The protocol; public for tests, benchmarks and fuzzing, and no interface for others.
#[doc(hidden)]
pub mod proxy;
mod server;

use endpoints_plugin_api::{Arguments, Client, Error, Host, Plugin, Server};

/// The plugin.
#[derive(Debug)]
pub struct Haproxy {
    host: Host,
}

endpoints_plugin_api::export!(Haproxy, "plugin.json");

impl Plugin for Haproxy {
    fn new(host: Host) -> Result<Self, Error> {
        Ok(Self { host })
    }

    fn client(&self, _scheme: &str, arguments: &mut Arguments<'_>) -> Result<Client, Error> {
        client::make(arguments)
    }

    fn server(&self, _scheme: &str, arguments: &mut Arguments<'_>) -> Result<Server, Error> {
        server::make(&self.host, arguments)
    }
}
