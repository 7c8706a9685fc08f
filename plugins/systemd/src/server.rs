//! The server endpoint.

use std::os::fd::{BorrowedFd, RawFd};

use endpoints_plugin_api::inherited::{NotTaken, take};
use endpoints_plugin_api::{
    Arguments, Error, ErrorKind, Facts, Listen, ListenContext, Listener, Reachable, Server,
};
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};

use crate::inherited::Inherited;

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
        let socket = take(self.number, |socket| self.check(socket)).map_err(|error| match error {
            NotTaken::Taken => Error::new(
                ErrorKind::AddressInUse,
                format!(
                    "nobody handed the descriptor {} down to this process, or it is in use already: a socket can be \
                     listened on once",
                    self.number
                ),
            )
            .with_retryable(false),
            NotTaken::Unfit(problem) => {
                let message = format!("{what} cannot be listened on: {problem}");
                Error::invalid_argument(if problem.contains("domain") { "domain" } else { "index" }, message)
            }
            _ => Error::new(ErrorKind::NotFound, format!("{what} is not open")),
        })?;
        let reachable = Reachable::of_socket(&socket);
        // Its file, where it has one, belongs to whoever made it.
        Ok(Listener::from_socket(socket, reachable, ()))
    }

    fn describe(&self) -> Facts {
        Facts::new().with("descriptor", self.number.to_string())
    }
}

impl SystemdServer {
    /// Checks that a descriptor is a stream socket of the family that listens.
    fn check(&self, socket: BorrowedFd<'_>) -> Result<(), String> {
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
