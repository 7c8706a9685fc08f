//! Endpoints over TLS: the schemes `tls` and `ssl` (deprecated), clients and servers, on rustls.
//!
//! The manifest, `plugin.json`, says what they accept. Their two sides are in `client.rs` and `server.rs`; what they read
//! from files is in `pem.rs`, `certificate.rs`, `identity.rs` and `folder.rs`; `stream.rs` has the connection.

mod advice;
mod certificate;
mod client;
mod describe;
mod dh;
mod folder;
mod handshake;
mod hostname;
mod identity;
/// Reading PEM files; public for fuzzing, and no interface for others.
#[doc(hidden)]
pub mod pem;
mod reload;
mod server;
mod settings;
mod stream;
mod tickets;

use endpoints_plugin_api::{Arguments, Client, Error, Host, Plugin, Server};

/// The plugin.
#[derive(Debug)]
pub struct Tls {
    host: Host,
}

endpoints_plugin_api::export!(Tls, "plugin.json");

impl Plugin for Tls {
    fn new(host: Host) -> Result<Self, Error> {
        Ok(Self { host })
    }

    fn client(&self, scheme: &str, arguments: &mut Arguments<'_>) -> Result<Client, Error> {
        match scheme {
            "ssl" => client::ssl(&self.host, arguments),
            _ => client::tls(&self.host, arguments),
        }
    }

    fn server(&self, scheme: &str, arguments: &mut Arguments<'_>) -> Result<Server, Error> {
        match scheme {
            "ssl" => server::ssl(&self.host, arguments),
            _ => server::tls(&self.host, arguments),
        }
    }
}
