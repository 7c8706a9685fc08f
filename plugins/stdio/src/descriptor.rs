//! Descriptors that were handed down to this process, as connections.

use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use endpoints_plugin_api::inherited::{NotTaken, take};
use endpoints_plugin_api::{
    Arguments, Connect, ConnectContext, Connection, Error, ErrorKind, Facts, Listen, ListenContext, Listener,
    Reachable,
};
use rustix::fs::{FileType, OFlags};
use rustix::net::SocketType;
use rustix::net::sockopt::{socket_acceptconn, socket_type};

use crate::once::Once;

/// Where a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Descriptors {
    /// Both directions.
    One(RawFd),
    /// One for each direction.
    Two { read: RawFd, write: RawFd },
}

/// How a descriptor is going to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Read,
    Write,
    Both,
    /// By a server, which may accept from it.
    Serve,
}

impl Descriptors {
    /// Standard input and output.
    pub(crate) const STANDARD: Self = Self::Two { read: 0, write: 1 };

    pub(crate) fn from_arguments(arguments: &Arguments<'_>) -> Result<Self, Error> {
        let number = |name: &str| match arguments.opt_integer(name).map(RawFd::try_from) {
            Some(Ok(2)) => Err(Error::invalid_argument(
                name,
                "2 is standard error, where messages go, and is left to them",
            )),
            Some(Ok(number)) => Ok(Some(number)),
            Some(Err(_)) => Err(Error::invalid_argument(name, "there are no descriptors of that number")),
            None => Ok(None),
        };
        match (number("number")?, number("read")?, number("write")?) {
            (Some(number), None, None) => Ok(Self::One(number)),
            (None, Some(read), Some(write)) if read == write => Ok(Self::One(read)),
            (None, Some(read), Some(write)) => Ok(Self::Two { read, write }),
            (Some(_), _, _) => Err(Error::invalid_argument("number", "read and write stand in its place")),
            _ => Err(Error::new(ErrorKind::Internal, "neither number nor read and write are given")),
        }
    }

    fn numbers(self) -> impl Iterator<Item = RawFd> {
        let (first, second) = match self {
            Self::One(number) => (number, None),
            Self::Two { read, write } => (read, Some(write)),
        };
        std::iter::once(first).chain(second)
    }

    /// Takes the connection over.
    fn connection(self) -> Result<Connection, Error> {
        match self {
            Self::One(number) => from_socket(number, taken(number, Use::Both)?),
            Self::Two { read, write } => {
                // Both are looked at before either is taken.
                let reading = taken(read, Use::Read)?;
                let writing = taken(write, Use::Write)?;
                Ok(Connection::from_descriptors(reading, writing, true))
            }
        }
    }
}

/// A connection over one descriptor. Others may have it open too, so nothing is changed about it.
fn from_socket(number: RawFd, socket: OwnedFd) -> Result<Connection, Error> {
    let write = socket
        .try_clone()
        .map_err(|error| Error::from_io(format_args!("cannot use the descriptor {number}"), &error))?;
    Ok(Connection::from_descriptors(socket, write, true))
}

/// Takes a descriptor over, where it can be used so.
fn taken(number: RawFd, how: Use) -> Result<OwnedFd, Error> {
    let what = match number {
        0 => "standard input".to_owned(),
        1 => "standard output".to_owned(),
        number => format!("the descriptor {number}"),
    };
    take(number, |descriptor| check(descriptor, how)).map_err(|error| match error {
        NotTaken::Taken => {
            // A number of this process's own looks the same.
            let message = match number {
                0 | 1 => format!("{what} is in use already; it can be a connection once"),
                _ => format!(
                    "nobody handed {what} down to this process, or it is in use already: it can be used once"
                ),
            };
            Error::new(ErrorKind::AddressInUse, message).with_retryable(false)
        }
        NotTaken::Unfit(problem) if number < 2 => {
            Error::new(ErrorKind::Unsupported, format!("{what} cannot be used: {problem}"))
        }
        NotTaken::Unfit(problem) => {
            let name = match how {
                Use::Read => "read",
                Use::Write => "write",
                Use::Both | Use::Serve => "number",
            };
            Error::invalid_argument(name, format!("{what} cannot be used: {problem}"))
        }
        _ => Error::new(ErrorKind::NotFound, format!("{what} is not open")),
    })
}

fn check(descriptor: BorrowedFd<'_>, how: Use) -> Result<(), String> {
    let system = |error: rustix::io::Errno| std::io::Error::from(error).to_string();
    let stat = rustix::fs::fstat(descriptor).map_err(system)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => return Err("it is a directory".into()),
        FileType::Socket => {
            if socket_type(descriptor) != Ok(SocketType::STREAM) {
                return Err("it is no stream socket".into());
            }
            return match socket_acceptconn(descriptor).map_err(system)? {
                true if how != Use::Serve => Err("it listens, which is for a server".into()),
                false if rustix::net::getpeername(descriptor).is_err() => Err("it is not connected".into()),
                _ => Ok(()),
            };
        }
        _ => {}
    }
    let mode = rustix::fs::fcntl_getfl(descriptor).map_err(system)? & OFlags::ACCMODE;
    let problem = match how {
        Use::Read if mode == OFlags::WRONLY => "it is open for writing only",
        Use::Write if mode == OFlags::RDONLY => "it is open for reading only",
        Use::Both | Use::Serve if mode == OFlags::WRONLY => {
            "it is open for writing only; write fd:read=…:write=… with another one to read"
        }
        Use::Both | Use::Serve if mode == OFlags::RDONLY => {
            "it is open for reading only; write fd:read=…:write=… with another one to write"
        }
        _ => return Ok(()),
    };
    Err(problem.into())
}

impl Connect for Descriptors {
    async fn connect(&self, _context: ConnectContext) -> Result<Connection, Error> {
        self.connection()
    }

    fn describe(&self) -> Facts {
        describe(*self)
    }
}

impl Listen for Descriptors {
    async fn listen(&self, _context: ListenContext) -> Result<Listener, Error> {
        let connection = match *self {
            Self::One(number) => {
                let descriptor = taken(number, Use::Serve)?;
                if socket_acceptconn(&descriptor) == Ok(true) {
                    let reachable = Reachable::of_socket(&descriptor);
                    return Ok(Listener::from_socket(descriptor, reachable, ()));
                }
                from_socket(number, descriptor)?
            }
            Self::Two { .. } => self.connection()?,
        };
        Ok(Listener::new(Once::new(connection)))
    }

    fn describe(&self) -> Facts {
        describe(*self)
    }
}

fn describe(descriptors: Descriptors) -> Facts {
    descriptors.numbers().fold(Facts::new(), |facts, number| facts.with("descriptor", number.to_string()))
}
