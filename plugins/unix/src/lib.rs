//! Endpoints of the scheme `unix`: stream sockets that have a file.
//!
//! A server holds a lock beside its socket, in the way Twisted's servers do, so that programs of both kinds respect
//! each other: the module `lock` has the protocol, `file` the life of the socket's file.
//!
//! What touches the file system here is a handful of calls that each take microseconds and no more than `bind` and
//! `connect` do themselves, so they are made where they stand and not on a thread for blocking work.

mod client;
mod file;
mod lock;
mod path;
mod server;

use endpoints_plugin_api::{Arguments, Client, Error, ErrorKind, Host, Plugin, Server, export};
use rustix::fs::Mode;

use crate::client::UnixClient;
use crate::path::SocketPath;
use crate::server::UnixServer;

/// The plugin that provides the scheme `unix`.
#[derive(Debug)]
pub struct Unix {
    host: Host,
}

impl Plugin for Unix {
    fn new(host: Host) -> Result<Self, Error> {
        Ok(Self { host })
    }

    fn client(&self, _scheme: &str, arguments: &mut Arguments<'_>) -> Result<Client, Error> {
        Ok(Client::new(UnixClient {
            host: self.host.clone(),
            path: SocketPath::new("path", arguments.path("path")?)?,
            timeout: arguments.duration("timeout")?,
            check_pid: arguments.flag("checkPID")?,
        }))
    }

    fn server(&self, _scheme: &str, arguments: &mut Arguments<'_>) -> Result<Server, Error> {
        Ok(Server::new(UnixServer {
            host: self.host.clone(),
            path: SocketPath::new("address", arguments.path("address")?)?,
            mode: Mode::from_raw_mode(small(arguments, "mode")?),
            backlog: small(arguments, "backlog")?,
            lockfile: arguments.flag("lockfile")?,
        }))
    }
}

/// A number whose range the manifest limits.
fn small<T: TryFrom<u64>>(arguments: &Arguments<'_>, name: &str) -> Result<T, Error> {
    T::try_from(arguments.integer(name)?)
        .map_err(|_| Error::new(ErrorKind::Internal, format!("the host did not limit the argument {name}")))
}

export!(Unix, "plugin.json");
