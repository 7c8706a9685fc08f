//! The server side.

use std::path::Path;
use std::time::Duration;

use endpoints_plugin_api::{Error, ErrorKind, Host, Listen, ListenContext, Listener, LogLevel, Reachable};
use rustix::fd::OwnedFd;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::file::{SocketFile, answers, remove_dead};
use crate::lock::{self, Lock};
use crate::owner::{Ids, Owner};
use crate::path::{AbstractName, LONGEST, Shown, SocketPath};

/// How often the lock is tried while other servers are busy taking it over.
const TRIES: u32 = 100;

/// The time between two such tries.
const BETWEEN_TRIES: Duration = Duration::from_millis(5);

/// A server endpoint.
#[derive(Debug)]
pub(crate) struct UnixServer {
    pub(crate) host: Host,
    pub(crate) backlog: i32,
    pub(crate) place: Place,
}

/// Where to listen.
#[derive(Debug)]
pub(crate) enum Place {
    /// At a path.
    File { path: SocketPath, mode: Mode, owner: Owner, lockfile: bool },
    /// Under an abstract name.
    Abstract(AbstractName),
}

impl Listen for UnixServer {
    async fn listen(&self, _context: ListenContext) -> Result<Listener, Error> {
        match &self.place {
            Place::File { path, mode, owner, lockfile } => {
                let owner = owner.ids(&self.host).await?;
                self.listen_at(path, *mode, owner, *lockfile).await
            }
            Place::Abstract(name) => self.listen_as(name),
        }
    }
}

impl UnixServer {
    async fn listen_at(
        &self,
        path: &SocketPath,
        mode: Mode,
        owner: Ids,
        lockfile: bool,
    ) -> Result<Listener, Error> {
        let absolute = path
            .absolute()
            .map_err(|error| Error::from_io(format_args!("cannot tell where {path} is"), &error))?;
        let lock = match lockfile {
            true => Some(self.take_lock(path, &absolute).await?),
            false => None,
        };
        let (socket, file) = open(path, &absolute, mode, owner, self.backlog, lock.as_ref())?;
        // From another working directory the absolute path is the right one, but it may be too long for an address.
        let reachable = match absolute.as_os_str().len() {
            0..=LONGEST => absolute.as_path(),
            _ => path.as_given(),
        };
        let reachable = Reachable::new("unix").with("path", reachable.as_os_str().as_encoded_bytes());
        let guard = Guard { host: self.host.clone(), file, lock };
        Ok(Listener::from_socket(socket, vec![reachable], guard))
    }

    fn listen_as(&self, name: &AbstractName) -> Result<Listener, Error> {
        let socket = stream_socket()?;
        rustix::net::bind(&socket, name.address()).map_err(|error| match error {
            Errno::ADDRINUSE => Error::new(
                ErrorKind::AddressInUse,
                format!("cannot bind {name}: another socket has that name"),
            ),
            error => Error::from_io(format_args!("cannot bind {name}"), &error.into()),
        })?;
        rustix::net::listen(&socket, self.backlog)
            .map_err(|error| Error::from_io(format_args!("cannot listen on {name}"), &error.into()))?;
        let reachable = Reachable::new("unix").with("abstract", name.name());
        Ok(Listener::from_socket(socket, vec![reachable], ()))
    }

    async fn take_lock(&self, path: &SocketPath, absolute: &Path) -> Result<Lock, Error> {
        let link = lock::beside(absolute);
        for _ in 0..TRIES {
            if let Some(lock) = Lock::try_take(&link, &|| answers(path, absolute))? {
                if lock.is_recovered() {
                    let message =
                        format_args!("took over the lock {} of a process that is gone", Shown(&link));
                    self.host.log(LogLevel::Info, message);
                }
                return Ok(lock);
            }
            self.host.sleep(BETWEEN_TRIES).await;
        }
        let message = format!(
            "the lock {} is stale or keeps changing hands, and another process is replacing it: try again",
            Shown(&link)
        );
        Err(Error::new(ErrorKind::AddressInUse, message))
    }
}

/// Makes the listening socket. `lock` is the lock that is held for it, where one is.
///
/// # Errors
/// Why it cannot listen; no file is left behind.
fn open(
    path: &SocketPath,
    absolute: &Path,
    mode: Mode,
    owner: Ids,
    backlog: i32,
    lock: Option<&Lock>,
) -> Result<(OwnedFd, SocketFile), Error> {
    let socket = stream_socket()?;
    if lock.is_some_and(Lock::is_recovered) {
        remove_dead(path, absolute)?;
    }
    let file = SocketFile::bind(&socket, path, absolute, mode, owner)?;
    // Nobody can connect before this, so the mode is right when the first client comes.
    rustix::net::listen(&socket, backlog)
        .map_err(|error| Error::from_io(format_args!("cannot listen on {path}"), &error.into()))?;
    Ok((socket, file))
}

fn stream_socket() -> Result<OwnedFd, Error> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|error| Error::from_io("cannot make a Unix socket", &error.into()))
}

/// What is cleaned up when listening has ended: first the socket's file, then the lock, as whoever takes the lock next
/// wants to bind.
struct Guard {
    host: Host,
    file: SocketFile,
    lock: Option<Lock>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let file = self.file.remove();
        let lock = self.lock.as_mut().map_or(Ok(()), Lock::give_back);
        for (what, removed) in [("the socket's file", file), ("the lock beside the socket", lock)] {
            if let Err(error) = removed {
                self.host.log(LogLevel::Warn, format_args!("cannot remove {what}: {error}"));
            }
        }
    }
}

#[cfg(test)]
mod tests;
