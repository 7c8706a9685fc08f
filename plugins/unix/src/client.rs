//! The client side.

use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

use endpoints_plugin_api::{Connect, ConnectContext, Connection, Error, ErrorKind, Host};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::file::other_than_socket;
use crate::lock::{self, Holder};
use crate::path::{AbstractName, Shown, SocketPath};

/// The wait after the first attempt that finds the backlog full; it doubles until [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(1);

const LONGEST_WAIT: Duration = Duration::from_millis(50);

/// A client endpoint.
#[derive(Debug)]
pub(crate) struct UnixClient {
    pub(crate) host: Host,
    pub(crate) target: Target,
    pub(crate) timeout: Duration,
}

/// What to connect to.
#[derive(Debug)]
pub(crate) enum Target {
    /// The socket at a path; with `check_pid`, only if the lock beside it is held.
    File { path: SocketPath, check_pid: bool },
    /// The socket of an abstract name.
    Abstract(AbstractName),
}

impl Target {
    fn address(&self) -> &SocketAddrUnix {
        match self {
            Self::File { path, .. } => path.address(),
            Self::Abstract(name) => name.address(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, .. } => path.fmt(f),
            Self::Abstract(name) => name.fmt(f),
        }
    }
}

impl Connect for UnixClient {
    async fn connect(&self, _context: ConnectContext) -> Result<Connection, Error> {
        if let Target::File { path, check_pid: true } = &self.target {
            check_lock(path)?;
        }
        let socket = connect(&self.target, self.timeout, |time| self.host.sleep(time)).await?;
        self.host.adopt(socket)
    }
}

/// Looks whether a live server holds the lock beside the socket; changes nothing.
///
/// # Errors
/// [`ConnectionRefused`](ErrorKind::ConnectionRefused) unless one does, or why that cannot be seen.
fn check_lock(path: &SocketPath) -> Result<(), Error> {
    let link = lock::beside(path.as_given());
    let shown = Shown(&link);
    let why = match lock::holder(&link) {
        Ok(Holder::Alive(_)) => return Ok(()),
        Ok(Holder::Nobody) => format!("there is no lock {shown}"),
        Ok(Holder::Dead(pid)) => {
            format!("process {}, which held the lock {shown}, is gone", pid.as_raw_nonzero())
        }
        Ok(Holder::NoLock(why)) => format!("{shown} is no lock: {why}"),
        Err(error) => return Err(Error::from_io(format_args!("cannot read the lock {shown}"), &error)),
    };
    let message = format!("nobody listens on {path}: {why} (checkPID=0 connects without looking)");
    Err(Error::new(ErrorKind::ConnectionRefused, message))
}

/// Connects, waiting up to `timeout` for a place in the listener's backlog.
///
/// # Cancel safety
/// Dropping the future closes the socket.
async fn connect<S: Future<Output = ()>>(
    target: &Target,
    timeout: Duration,
    sleep: impl Fn(Duration) -> S,
) -> Result<OwnedFd, Error> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|error| Error::from_io("cannot make a Unix socket", &error.into()))?;
    let begun = Instant::now();
    let mut wait = FIRST_WAIT;
    loop {
        match rustix::net::connect(&socket, target.address()) {
            Ok(()) => return Ok(socket),
            Err(Errno::INTR) => continue,
            // The kernel tells nobody when there is room again, so ask.
            Err(Errno::AGAIN) => {}
            Err(error) => return Err(cannot_connect(target, error)),
        }
        let left = timeout.saturating_sub(begun.elapsed());
        if left.is_zero() {
            let message =
                format!("cannot connect to {target} within {timeout:?}: the listener's backlog is full");
            return Err(Error::new(ErrorKind::TimedOut, message));
        }
        sleep(wait.min(left)).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

fn cannot_connect(target: &Target, error: Errno) -> Error {
    let in_the_way = match target {
        Target::File { path, .. } => other_than_socket(path.as_given()),
        Target::Abstract(_) => None,
    };
    let doing = match (error, in_the_way) {
        // A link to a socket that was refused tells nothing about the link.
        (Errno::CONNREFUSED, Some(what)) if what != "a symbolic link" => {
            format!("cannot connect to {target}: {what} is there and no socket")
        }
        (Errno::CONNREFUSED, _) if matches!(target, Target::Abstract(_)) => {
            format!("nobody listens on {target}")
        }
        (Errno::CONNREFUSED, _) => format!("nobody listens on {target}, though its socket is there"),
        (Errno::NOENT, _) => format!("there is no socket {target}"),
        (Errno::PROTOTYPE, _) => format!("cannot connect to {target}: it is no stream socket"),
        _ => format!("cannot connect to {target}"),
    };
    Error::from_io(doing, &error.into())
}

#[cfg(test)]
mod tests;
