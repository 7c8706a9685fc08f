//! The life of a socket's file: made with its mode, told apart from others, removed.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use endpoints_plugin_api::{Error, ErrorKind};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::lock::{Identity, ignore_missing};
use crate::owner::Ids;
use crate::path::{Shown, SocketPath};

/// The file of a socket that was bound here. Dropping it removes the file, if it is still the very same one.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: Identity,
    /// Keeps the inode, so that its number is not given to another file after the socket was closed, which would then
    /// be taken for this one.
    pin: OwnedFd,
    present: bool,
}

impl SocketFile {
    /// Binds `socket` to a file that never has looser rights than `mode`, and has them exactly in the end; with another
    /// owner, nobody has any right before the file is that owner's. `absolute` is the same path from the root.
    ///
    /// # Errors
    /// Those of `bind`, or that the file cannot be given away; nothing is left behind.
    pub(crate) fn bind(
        socket: impl AsFd,
        path: &SocketPath,
        absolute: &Path,
        mode: Mode,
        owner: Ids,
    ) -> Result<Self, Error> {
        let first = if owner.is_unchanged() { mode } else { Mode::empty() };
        let file = Self::bind_restricted(socket, path, absolute, first)?;
        file.give_to(owner)
            .map_err(|error| Error::from_io(format_args!("cannot give {path} to {owner}"), &error.into()))?;
        file.widen(mode).map_err(|error| {
            Error::from_io(format_args!("cannot set the mode {:o} of {path}", mode.bits()), &error)
        })?;
        Ok(file)
    }

    /// Binds `socket` to a file that has the rights of `mode` but for those that the umask takes away.
    fn bind_restricted(
        socket: impl AsFd,
        path: &SocketPath,
        absolute: &Path,
        mode: Mode,
    ) -> Result<Self, Error> {
        // Linux makes the file with the mode of the socket's own inode less the umask; without this it would be 777 less
        // the umask until the first chmod.
        rustix::fs::fchmod(&socket, mode).map_err(|error| {
            Error::from_io(
                format_args!("cannot limit the mode of {path} to {:o}", mode.bits()),
                &error.into(),
            )
        })?;
        rustix::net::bind(&socket, path.address()).map_err(|error| cannot_bind(path, absolute, error))?;
        Self::just_bound(absolute).map_err(|error| {
            drop(remove_socket(absolute));
            Error::from_io(format_args!("cannot open the socket {path} that was just made"), &error)
        })
    }

    fn just_bound(absolute: &Path) -> io::Result<Self> {
        let pin =
            rustix::fs::open(absolute, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        if FileType::from_raw_mode(rustix::fs::fstat(&pin)?.st_mode) != FileType::Socket {
            // Somebody who may write to the directory was quick: that file's mode is not ours to set.
            return Err(io::Error::other("another file has taken its place"));
        }
        let identity = Identity::of_open(&pin)?;
        Ok(Self { path: absolute.to_owned(), identity, pin, present: true })
    }

    /// Changes the owner.
    fn give_to(&self, owner: Ids) -> rustix::io::Result<()> {
        if owner.is_unchanged() {
            return Ok(());
        }
        // By way of the descriptor, as the path may lead to another file by now.
        rustix::fs::chownat(&self.pin, c"", owner.user, owner.group, AtFlags::EMPTY_PATH)
    }

    /// Gives the rights that it has not got yet.
    fn widen(&self, mode: Mode) -> io::Result<()> {
        let found = rustix::fs::fstat(&self.pin)?.st_mode;
        if Mode::from_raw_mode(found) == mode {
            return Ok(());
        }
        // By way of the descriptor, as the path may lead to another file by now, and chmod follows links.
        let pinned = format!("/proc/self/fd/{}", self.pin.as_raw_fd());
        match fs::set_permissions(&pinned, fs::Permissions::from_mode(mode.as_raw_mode())) {
            // No /proc, as in some chroots.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.is_in_place() => {
                Ok(rustix::fs::chmodat(CWD, &self.path, mode, AtFlags::empty())?)
            }
            other => other,
        }
    }

    /// Removes the file, if it is still the very one that was bound.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub(crate) fn remove(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.present) && self.is_in_place() {
            return ignore_missing(fs::remove_file(&self.path));
        }
        Ok(())
    }

    fn is_in_place(&self) -> bool {
        Identity::of(&self.path).is_ok_and(|found| found == self.identity)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Whoever wants to hear of a failure calls `remove`.
        drop(self.remove());
    }
}

/// Removes the socket that a dead server left at `path`; what is no socket stays. `absolute` is the same path from the
/// root.
///
/// # Errors
/// [`AddressInUse`](ErrorKind::AddressInUse) if somebody answers there: the dead server's lock says nothing about one
/// that listens without a lock. Otherwise if it cannot be told whether somebody does, or the socket cannot be removed;
/// in each case it stays.
pub(crate) fn remove_dead(path: &SocketPath, absolute: &Path) -> Result<(), Error> {
    if answers(path, absolute)? {
        let message = format!(
            "cannot bind {path}: the lock beside it was a dead process's, but a server without a lock answers \
             there: stop it, or listen elsewhere"
        );
        return Err(Error::new(ErrorKind::AddressInUse, message));
    }
    remove_socket(absolute).map_err(|error| {
        Error::from_io(format_args!("cannot remove {path}, which a dead server left behind"), &error)
    })
}

/// Whether somebody listens on the socket.
///
/// # Errors
/// If that cannot be told.
pub(crate) fn answers(path: &SocketPath, absolute: &Path) -> Result<bool, Error> {
    if other_than_socket(absolute).is_some() {
        return Ok(false);
    }
    match is_dead(path.address()) {
        Ok(dead) => Ok(!dead),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => {
            let what =
                format_args!("cannot tell whether a server still answers on {path} (remove it if none does)");
            Err(Error::from_io(what, &error.into()))
        }
    }
}

/// Removes the socket at `path`, whoever it belongs to; what is no socket stays.
///
/// # Errors
/// If there is one that cannot be removed.
fn remove_socket(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => ignore_missing(fs::remove_file(path)),
        Ok(_) => Ok(()),
        Err(error) => ignore_missing(Err(error)),
    }
}

/// What sort of file `path` itself is, in words, where it is no socket.
pub(crate) fn other_than_socket(path: &Path) -> Option<&'static str> {
    let kind = fs::symlink_metadata(path).ok()?.file_type();
    if kind.is_socket() {
        return None;
    }
    Some(match kind {
        _ if kind.is_dir() => "a directory",
        _ if kind.is_symlink() => "a symbolic link",
        _ if kind.is_file() => "a regular file",
        _ => "a special file",
    })
}

fn cannot_bind(path: &SocketPath, absolute: &Path, error: Errno) -> Error {
    if error == Errno::ADDRINUSE {
        return in_use(path, absolute);
    }
    let directory = absolute.parent().unwrap_or(Path::new("/"));
    match error {
        Errno::NOENT => Error::from_io(
            format_args!("cannot bind {path}: the directory {} does not exist", Shown(directory)),
            &error.into(),
        ),
        Errno::ACCESS | Errno::PERM => Error::from_io(
            format_args!("cannot bind {path}: no right to make files in {}", Shown(directory)),
            &error.into(),
        ),
        _ => Error::from_io(format_args!("cannot bind {path}"), &error.into()),
    }
}

/// What to do about something that is at the path already.
fn in_use(path: &SocketPath, absolute: &Path) -> Error {
    if let Some(what) = other_than_socket(absolute) {
        let message = format!(
            "cannot bind {path}: {what} is there, which is left alone: choose another path or remove it"
        );
        return Error::new(ErrorKind::AddressInUse, message).with_retryable(false);
    }
    if is_dead(path.address()) == Ok(true) {
        let message = format!(
            "cannot bind {path}: a socket is there already, but nobody answers on it and no lock says that it may go: \
             remove the file (servers that listen with lockfile=1 clean up after a crash by themselves)"
        );
        return Error::new(ErrorKind::AddressInUse, message).with_retryable(false);
    }
    Error::new(ErrorKind::AddressInUse, format!("cannot bind {path}: another server listens there"))
}

/// Whether the socket at `address` belongs to no process any more.
///
/// # Errors
/// If that cannot be told: there is none, or it may not be connected to.
fn is_dead(address: &SocketAddrUnix) -> rustix::io::Result<bool> {
    // A datagram socket is told whether somebody is there, but cannot disturb a stream server by asking.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    match rustix::net::connect(&probe, address) {
        Err(Errno::CONNREFUSED) => Ok(true),
        // What a socket of another type that is bound says.
        Ok(()) | Err(Errno::PROTOTYPE) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
