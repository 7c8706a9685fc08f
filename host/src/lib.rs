//! Listen and connect wherever the user says.
//!
//! A program should not be tied to one kind of wire. Here the user gives a *description*, such as
//! `tcp:host=example.com:port=80`, `unix:/run/app.sock` or `socks5:host=example.com:port=80:proxy=tcp\:127.0.0.1\:1080`,
//! and the program only connects or listens. What is behind a scheme is a plugin: compiled in, or loaded from a `.so`.
//!
//! # Examples
//!
//! ```no_run
//! # async fn example() -> Result<(), endpoints::Error> {
//! let listener = endpoints::server("tcp:port=8080:interface=127.0.0.1")?.listen().await?;
//! loop {
//!     let incoming = listener.accept().await?;
//!     tokio::spawn(async move {
//!         let connection = incoming.await?; // a handshake, where the endpoint has one
//!         println!("{:?}", connection.info().peer_addr());
//!         Ok::<(), endpoints::Error>(())
//!     });
//! }
//! # }
//! ```

#[cfg(any(
    feature = "axum",
    feature = "clap",
    feature = "futures-core",
    feature = "hyper-util",
    feature = "metrics",
    feature = "schemars",
    feature = "serde",
    feature = "tokio-util",
    feature = "tonic",
    feature = "tower-service",
))]
pub mod adapters;
mod address;
mod arguments;
mod builder;
mod complete;
mod connection;
mod endpoint;
mod error;
mod explain;
pub mod forward;
pub mod grammar;
mod hints;
mod idle;
mod listener;
mod loader;
pub mod manifest;
mod provider;
mod registry;
mod secrets;
pub mod serve;
pub mod service;
mod services;
mod stream;
mod tls;

/// A plugin that is compiled in.
pub use endpoints_plugin_api::export::BuiltIn;
/// The names of the facts of connections.
pub use endpoints_plugin_api::name as fact;

pub use address::Address;
pub use arguments::parse_duration;
pub use builder::{ClientBuilder, ServerBuilder, Value};
pub use complete::Candidate;
pub use connection::{Connection, ConnectionInfo, Credentials, Layer, ProxySsl, ProxyTlv, TlsFacts};
pub use endpoint::{ClientEndpoint, ConnectContext, RoleKind, ServerEndpoint};
pub use error::{Error, ErrorKind};
pub use explain::{ExplainedArgument, Explanation};
pub use grammar::{Description, quote, quote_str};
pub use listener::{Established, Establishing, Incoming, Listener};
pub use loader::{Place, PlaceOutcome, PlaceSource, PluginRule, Refusal, RefusalKind};
pub use provider::Origin;
pub use registry::{PluginReport, PluginState, Registry, RegistryBuilder};
pub use tls::{TlsClientBuilder, TlsServerBuilder};

/// The version of the plugin API that this host speaks.
pub const PLUGIN_API: &str = endpoints_plugin_api::VERSION;

/// Makes a client endpoint with the [global](Registry::global) registry.
///
/// # Errors
/// As [`Registry::client`].
pub fn client(description: impl AsRef<[u8]>) -> Result<ClientEndpoint, Error> {
    Registry::global().client(description)
}

/// Makes a server endpoint with the [global](Registry::global) registry.
///
/// # Errors
/// As [`Registry::server`].
pub fn server(description: impl AsRef<[u8]>) -> Result<ServerEndpoint, Error> {
    Registry::global().server(description)
}
