//! Descriptions in configuration files.
//!
//! A [`Description`], a [`ClientEndpoint`] and a [`ServerEndpoint`] are read from a string, or from a map that has the
//! scheme under `scheme` and the arguments under their names:
//!
//! ```toml
//! listen = "tcp:port=8080:interface=127.0.0.1"
//!
//! [upstream]
//! scheme = "tls"
//! host = "db.example.com"
//! port = 5432
//! alpn = ["postgresql"]
//! endpoint = { scheme = "unix", path = "/run/tunnel.sock" }
//! ```
//!
//! In a map nothing needs escaping. Values are those of the [builders](crate::ServerBuilder): numbers, also with a fraction,
//! booleans for flags, arrays for lists, and a string for whatever else; a nested description is again a string or a map. As a
//! mode, a number is the permission bits (TOML's `0o660`), and a string the octal digits (`"660"`).
//!
//! Endpoints are made by the [global](Registry::global) registry; with another one, use the seeds of this module. A mistake is
//! an error that names the argument, and for a nested map the way to it; it has no secret in it, but a format may quote the line of
//! the file that it is about.
//!
//! Written is always a string, the canonical description **with its secrets**: without them it would be another one. Print an
//! endpoint (`Display`) where secrets must not be seen. A description that is not UTF-8 cannot be written.

use serde::de::{DeserializeSeed, Deserializer, Error as _};
use serde::ser::{Error as _, Serializer};
use serde::{Deserialize, Serialize};

use crate::endpoint::{ClientEndpoint, RoleKind, ServerEndpoint};
use crate::grammar::Description;
use crate::registry::Registry;

mod node;

use node::Node;
#[cfg(feature = "schemars")]
pub(super) use node::SCHEME;

/// Reads a client endpoint of a certain registry.
#[derive(Clone, Copy, Debug)]
pub struct ClientSeed<'r>(pub &'r Registry);

/// Reads a server endpoint of a certain registry.
#[derive(Clone, Copy, Debug)]
pub struct ServerSeed<'r>(pub &'r Registry);

impl<'de> DeserializeSeed<'de> for ClientSeed<'_> {
    type Value = ClientEndpoint;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ClientEndpoint, D::Error> {
        let node = Node::read(deserializer, RoleKind::Client.name())?;
        node.endpoint(self.0, RoleKind::Client).map(ClientEndpoint::new).map_err(D::Error::custom)
    }
}

impl<'de> DeserializeSeed<'de> for ServerSeed<'_> {
    type Value = ServerEndpoint;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ServerEndpoint, D::Error> {
        let node = Node::read(deserializer, RoleKind::Server.name())?;
        node.endpoint(self.0, RoleKind::Server).map(ServerEndpoint::new).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for ClientEndpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ClientSeed(Registry::global()).deserialize(deserializer)
    }
}

impl<'de> Deserialize<'de> for ServerEndpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ServerSeed(Registry::global()).deserialize(deserializer)
    }
}

/// Neither the scheme nor the arguments need exist. Where the scheme is known, a number given as a mode is written in octal.
impl<'de> Deserialize<'de> for Description {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Node::read(deserializer, "")?.description(Registry::global()).map_err(D::Error::custom)
    }
}

/// The text as it was written.
impl Serialize for Description {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.text()) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => Err(S::Error::custom("the description is not UTF-8, which a string must be")),
        }
    }
}

/// The canonical description, with its secrets.
impl Serialize for ClientEndpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.description().canonicalized().serialize(serializer)
    }
}

/// The canonical description, with its secrets.
impl Serialize for ServerEndpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.description().canonicalized().serialize(serializer)
    }
}
