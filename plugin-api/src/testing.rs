//! A host in memory, for the tests of a plugin. It needs the feature `testing`, which belongs among the
//! dev-dependencies:
//!
//! ```toml
//! [dev-dependencies]
//! endpoints-plugin-api = { version = "1", features = ["testing"] }
//! tokio = { version = "1", features = ["io-util", "macros", "rt", "test-util"] }
//! ```
//!
//! [`TestHost`] makes an instance of the plugin's type through the very tables that a loaded plugin is called through, and
//! lends it the services of [`Host`](crate::Host) on the runtime of the test: with `tokio::time::pause`, what sleeps
//! does not take the time. Endpoints that a plugin stands around are *names* in a network in memory. Whatever listens
//! there under a name, be it the plugin or the test, is reached by that name. A [`Link`] says how badly the connections of a
//! name behave; [`TestHost::left_open`] tells what was not closed.
//!
//! # What it does not do
//!
//! - It knows nothing of the manifest. [`Values`] are typed values as a host gives them after it has checked and
//!   completed them, so that defaults and limits have to be minded by the test. `endpoints explain` shows what a host makes of
//!   a description.
//! - It knows no grammar: a description, such as one that the plugin gives to [`Host::client`](crate::Host::client), is a
//!   name like any other.
//! - The plugin is part of the test's program, and so finds the statics of the test's tokio. Whether it gets by without
//!   them shows when it is loaded from a file.
//! - It takes connected sockets from a plugin, but no pairs of descriptors.
//!
//! # Examples
//!
//! A wrapper that greets, tested from both sides:
//!
//! ```
//! use endpoints_plugin_api::testing::{Link, TestHost, Values};
//! use endpoints_plugin_api::{Arguments, Client, Connection, Error, Host, Plugin};
//! use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
//!
//! struct Greet;
//!
//! impl Plugin for Greet {
//!     fn new(_host: Host) -> Result<Self, Error> {
//!         Ok(Self)
//!     }
//!
//!     fn client(&self, _scheme: &str, arguments: &mut Arguments<'_>) -> Result<Client, Error> {
//!         let greeting = arguments.text("greeting")?.to_owned();
//!         let greet = move |mut connection: Connection| {
//!             let greeting = greeting.clone();
//!             async move {
//!                 connection.write_all(greeting.as_bytes()).await?;
//!                 Ok(connection)
//!             }
//!         };
//!         Ok(Client::wrap(arguments.client("endpoint")?, greet))
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! let host = TestHost::new();
//! let plugin = host.plugin::<Greet>()?;
//! let mut listener = host.listen("server")?;
//! host.link("server", Link::new().chunk(1).pending());
//!
//! let values = Values::new().text("greeting", "hello").client("endpoint", "server");
//! let mut connection = plugin.client("greet", &values)?.connect().await?;
//! connection.write_all(b", world").await?;
//! connection.shutdown().await?;
//! drop(connection);
//!
//! let mut heard = String::new();
//! listener.accept().await?.read_to_string(&mut heard).await?;
//! assert_eq!(heard, "hello, world");
//! assert!(host.left_open().is_empty());
//! # Ok(())
//! # }
//! ```

mod host;
mod link;
mod network;
mod pipe;
mod plugin;
mod services;
mod socket;
mod sys;
mod values;

pub use host::TestHost;
pub use link::Link;
pub use network::PeerListener;
pub use pipe::Peer;
pub use plugin::{TestClient, TestListener, TestPlugin, TestServer};
pub use values::Values;
