//! Endpoints of the scheme `unix`: stream sockets that have a file, or a name in Linux' abstract namespace.
//!
//! The server of a file holds a lock beside its socket, in the way Twisted's servers do, so that programs of both kinds respect
//! each other: the module `lock` has the protocol, `file` the life of the
//! socket's file, `owner` whom it is given to.
//!
//! What touches the file system here is a handful of calls that each take microseconds and no more than `bind` and
//! `connect` do themselves, so they are made where they stand and not on a thread for blocking work.

mod client;
mod file;
mod lock;
mod owner;
mod path;
mod server;

use endpoints_plugin_api::{Arguments, Client, Error, ErrorKind, Host, Plugin, Server, export};
use rustix::fs::Mode;

use crate::client::{Target, UnixClient};
use crate::owner::Owner;
use crate::path::{AbstractName, SocketPath};
use crate::server::{Place, UnixServer};

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
        let target = match arguments.opt_bytes("abstract") {
            Some(name) => Target::Abstract(AbstractName::new(name)?),
            None => Target::File {
                path: SocketPath::new("path", arguments.path("path")?)?,
                check_pid: arguments.flag("checkPID")?,
            },
        };
        let timeout = arguments.duration("timeout")?;
        Ok(Client::new(UnixClient { host: self.host.clone(), target, timeout }))
    }

    fn server(&self, _scheme: &str, arguments: &mut Arguments<'_>) -> Result<Server, Error> {
        let place = match arguments.opt_bytes("abstract") {
            Some(name) => Place::Abstract(AbstractName::new(name)?),
            None => Place::File {
                path: SocketPath::new("address", arguments.path("address")?)?,
                mode: Mode::from_raw_mode(small(arguments, "mode")?),
                owner: Owner::new(arguments.opt_text("user")?, arguments.opt_text("group")?)?,
                lockfile: arguments.flag("lockfile")?,
            },
        };
        let backlog = small(arguments, "backlog")?;
        Ok(Server::new(UnixServer { host: self.host.clone(), backlog, place }))
    }
}

/// A number whose range the manifest limits.
fn small<T: TryFrom<u64>>(arguments: &Arguments<'_>, name: &str) -> Result<T, Error> {
    T::try_from(arguments.integer(name)?)
        .map_err(|_| Error::new(ErrorKind::Internal, format!("the host did not limit the argument {name}")))
}

export!(Unix, "plugin.json");
