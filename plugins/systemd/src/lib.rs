//! Sockets that systemd, or whoever passes them as it does, listens on: the scheme `systemd`, a server.
//!
//! Which sockets there are is in the environment; see `inherited.rs`.

mod inherited;
mod server;

use endpoints_plugin_api::{Arguments, Error, Host, Plugin, Server};

/// The plugin.
#[derive(Debug)]
pub struct Systemd;

endpoints_plugin_api::export!(Systemd, "plugin.json");

impl Plugin for Systemd {
    fn new(_host: Host) -> Result<Self, Error> {
        Ok(Self)
    }

    fn server(&self, _scheme: &str, arguments: &mut Arguments<'_>) -> Result<Server, Error> {
        server::make(arguments)
    }
}
