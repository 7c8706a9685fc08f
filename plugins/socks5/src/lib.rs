//! `socks5:`: connecting through a SOCKS5 proxy.
//!
//! The client endpoint connects to the proxy by the nested description `proxy`, asks it for a connection to `host` and
//! `port`, and hands the proxy's connection back as it came: from then on it costs nothing.

mod client;
mod error;
pub mod protocol;

use endpoints_plugin_api::{Arguments, Client, Error, Host, Plugin};

/// The plugin.
#[derive(Debug)]
pub struct Socks5 {
    host: Host,
}

impl Plugin for Socks5 {
    fn new(host: Host) -> Result<Self, Error> {
        Ok(Self { host })
    }

    fn client(&self, _scheme: &str, arguments: &mut Arguments<'_>) -> Result<Client, Error> {
        client::make(self.host.clone(), arguments)
    }
}

endpoints_plugin_api::export!(Socks5, "plugin.json");
