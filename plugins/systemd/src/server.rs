//! The server endpoint.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{OwnedFd, RawFd};

use endpoints_plugin_api::{
    Arguments, Error, ErrorKind, Facts, Listen, ListenContext, Listener, Reachable, Server,
};
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

use crate::inherited::Inherited;
use crate::sys::{self, NotTaken};

/// Makes the endpoint: finds the descriptor, and leaves it as it is.
pub(crate) fn make(arguments: &Arguments<'_>) -> Result<Server, Error> {
    let domain = arguments.text("domain")?.to_owned();
    let inherited = Inherited::from_environment();
    let number = match (arguments.opt_integer("index"), arguments.opt_text("name")?) {
        (Some(index), _) => inherited.at(index)?,
        (None, Some(name)) => inherited.named(name)?,
        (None, None) => return Err(Error::new(ErrorKind::Internal, "neither index nor name is given")),
    };
    Ok(Server::new(SystemdServer { domain, number }))
}

/// A way to listen.
struct SystemdServer {
    domain: String,
    number: RawFd,
}

impl Listen for SystemdServer {
    async fn listen(&self, _context: ListenContext) -> Result<Listener, Error> {
        let what = format!("the inherited descriptor {}", self.number);
        let socket = sys::take(self.number, |socket| self.check(socket)).map_err(|error| match error {
            NotTaken::Closed => Error::new(ErrorKind::NotFound, format!("{what} is not open")),
            NotTaken::Taken => Error::new(
                ErrorKind::AddressInUse,
                format!("{what} is in use already; a socket can be listened on once"),
            )
            .with_retryable(false),
            NotTaken::Unfit(problem) => {
                let message = format!("{what} cannot be listened on: {problem}");
                Error::invalid_argument(if problem.contains("domain") { "domain" } else { "index" }, message)
            }
        })?;
        let reachable = reachable(&socket).into_iter().collect();
        // Its file, where it has one, belongs to whoever made it.
        Ok(Listener::from_socket(socket, reachable, ()))
    }

    fn describe(&self) -> Facts {
        Facts::new().with("descriptor", self.number.to_string())
    }
}

impl SystemdServer {
    /// Checks that a descriptor is a stream socket of the family that listens.
    fn check(&self, socket: &OwnedFd) -> Result<(), String> {
        let family = socket_domain(socket).map_err(|_| "it is no socket".to_owned())?;
        let name = match family {
            AddressFamily::INET => "INET",
            AddressFamily::INET6 => "INET6",
            AddressFamily::UNIX => "UNIX",
            _ => return Err("it is of a family that nobody listens on here".into()),
        };
        if name != self.domain {
            return Err(format!("it is {name}, and domain says {}; write domain={name}", self.domain));
        }
        if socket_type(socket) != Ok(SocketType::STREAM) {
            return Err("it is no stream socket (ListenStream=)".into());
        }
        if socket_acceptconn(socket) != Ok(true) {
            return Err("it does not listen; is it a connection, of a unit with Accept=yes?".into());
        }
        Ok(())
    }
}

/// The client description that reaches it from this machine.
fn reachable(socket: &OwnedFd) -> Option<Reachable> {
    let bound = rustix::net::getsockname(socket).ok()?;
    if let Ok(bound) = SocketAddr::try_from(bound.clone()) {
        let host = match bound.ip().to_canonical() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.to_string(),
            ip => match bound {
                SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{ip}%{}", v6.scope_id()),
                _ => ip.to_string(),
            },
        };
        return Some(Reachable::new("tcp").with("host", host).with("port", bound.port().to_string()));
    }
    let bound = SocketAddrUnix::try_from(bound).ok()?;
    if let Some(name) = bound.abstract_name() {
        return Some(Reachable::new("unix").with("abstract", name));
    }
    Some(Reachable::new("unix").with("path", bound.path_bytes()?))
}
