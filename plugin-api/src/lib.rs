//! What an endpoint plugin is written against.
//!
//! A plugin provides one or more *schemes*, such as `tcp:` or `socks5:`. The same source is compiled into a program
//! or built as a `.so` that hosts load: the crate says `crate-type = ["rlib", "cdylib"]` and calls [`export!`] once.
//!
//! - A **transport** makes streams: its [`Plugin::client`] gives a [`Client`] made from a [`Connect`], and its
//!   [`Plugin::server`] a [`Server`] made from a [`Listen`].
//! - A **wrapper** stands around another endpoint, which the host has made and checked already: take it from the
//!   [`Arguments`] and use [`Client::wrap`] and [`Server::wrap`].
//! - What a scheme accepts is declared in `plugin.json`; the host has checked every argument against it before any
//!   code of the plugin runs.
//! - A plugin that was loaded has no reactor of its own: [`Host`] lends it connecting, sleeping, resolving, readiness
//!   and logging. Compiled in, it uses the same services.
//!
//! # Examples
//!
//! A complete wrapper plugin (its manifest, `plugin.json`, stands in the book's chapter on plugins):
//!
//! ```
//! use endpoints_plugin_api::{Arguments, Client, Connection, Error, Host, Plugin, Server};
//!
//! struct Pass;
//!
//! impl Plugin for Pass {
//!     fn new(_host: Host) -> Result<Self, Error> {
//!         Ok(Pass)
//!     }
//!
//!     fn client(&self, _scheme: &str, arguments: &mut Arguments<'_>) -> Result<Client, Error> {
//!         Ok(Client::wrap(arguments.client("endpoint")?, pass))
//!     }
//!
//!     fn server(&self, _scheme: &str, arguments: &mut Arguments<'_>) -> Result<Server, Error> {
//!         Ok(Server::wrap(arguments.server("endpoint")?, pass))
//!     }
//! }
//!
//! async fn pass(connection: Connection) -> Result<Connection, Error> {
//!     Ok(connection.map_stream(|stream| stream))
//! }
//! # fn main() {}
//! ```

pub mod abi;
mod arguments;
mod connection;
mod error;
pub mod export;
mod facts;
pub mod inherited;
mod listener;
pub mod manifest;
mod plugin;
mod reachable;
mod services;
mod stream;
#[cfg(feature = "testing")]
pub mod testing;
mod wrap;

pub use arguments::Arguments;
pub use connection::Connection;
pub use error::{Error, ErrorKind};
pub use facts::{Facts, name, proxy_tlv};
pub use listener::{Accept, Incoming, Listener};
pub use plugin::{Client, Connect, ConnectContext, Listen, ListenContext, Plugin, Server};
pub use reachable::{Argument, Reachable};
pub use services::{Host, Interest, LogLevel, Readiness, TimedOut};
pub use stream::Stream;

/// The version of this crate: the API that a plugin is built with.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What [`export!`] expands to refers to these; nothing else should.
#[doc(hidden)]
pub mod __private {
    use abi_stable::std_types::RStr;

    use crate::abi::module::{PluginMod, PluginModRef, create};
    pub use crate::export::BuiltIn;
    pub use abi_stable;
    pub use inventory;

    /// The module of a plugin, made when the host asks for it.
    pub fn module<P: crate::Plugin>(manifest: &'static str) -> PluginModRef {
        use abi_stable::prefix_type::PrefixTypeTrait as _;
        PluginMod { manifest: RStr::from_str(manifest), create: create::<P> }.leak_into_prefix()
    }
}
