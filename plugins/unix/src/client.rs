//! The client side.

use std::future::Future;
use std::time::{Duration, Instant};

use endpoints_plugin_api::{Connect, ConnectContext, Connection, Error, ErrorKind, Host};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::file::other_than_socket;
use crate::lock::{self, Holder};
use crate::path::{Shown, SocketPath};

/// The wait after the first attempt that finds the backlog full; it doubles until [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(1);

const LONGEST_WAIT: Duration = Duration::from_millis(50);

/// A client endpoint.
#[derive(Debug)]
pub(crate) struct UnixClient {
    pub(crate) host: Host,
    pub(crate) path: SocketPath,
    pub(crate) timeout: Duration,
    pub(crate) check_pid: bool,
}

impl Connect for UnixClient {
    async fn connect(&self, _context: ConnectContext) -> Result<Connection, Error> {
        if self.check_pid {
            check_lock(&self.path)?;
        }
        let socket = connect(&self.path, self.timeout, |time| self.host.sleep(time)).await?;
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
    path: &SocketPath,
    timeout: Duration,
    sleep: impl Fn(Duration) -> S,
) -> Result<OwnedFd, Error> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|error| Error::from_io("cannot make a Unix socket", &error.into()))?;
    let begun = Instant::now();
    let mut wait = FIRST_WAIT;
    loop {
        match rustix::net::connect(&socket, path.address()) {
            Ok(()) => return Ok(socket),
            Err(Errno::INTR) => continue,
            // The kernel tells nobody when there is room again, so ask.
            Err(Errno::AGAIN) => {}
            Err(error) => return Err(cannot_connect(path, error)),
        }
        let left = timeout.saturating_sub(begun.elapsed());
        if left.is_zero() {
            let message =
                format!("cannot connect to {path} within {timeout:?}: the listener's backlog is full");
            return Err(Error::new(ErrorKind::TimedOut, message));
        }
        sleep(wait.min(left)).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

fn cannot_connect(path: &SocketPath, error: Errno) -> Error {
    let doing = match (error, other_than_socket(path.as_given())) {
        // A link to a socket that was refused tells nothing about the link.
        (Errno::CONNREFUSED, Some(what)) if what != "a symbolic link" => {
            format!("cannot connect to {path}: {what} is there and no socket")
        }
        (Errno::CONNREFUSED, _) => format!("nobody listens on {path}, though its socket is there"),
        (Errno::NOENT, _) => format!("there is no socket {path}"),
        (Errno::PROTOTYPE, _) => format!("cannot connect to {path}: it is no stream socket"),
        _ => format!("cannot connect to {path}"),
    };
    Error::from_io(doing, &error.into())
}

#[cfg(test)]
mod tests;
