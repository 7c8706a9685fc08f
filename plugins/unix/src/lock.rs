//! The lock beside a socket, by the protocol that Twisted's servers follow.
//!
//! Beside the socket `P` stands the symbolic link `P.lock`, whose target is the number of the process that listens, in
//! decimal. It is made before binding and removed after the socket when listening stops. A link whose process is gone
//! is *stale*: whoever replaces it may also remove the socket that the dead process left.
//!
//! Replacing is where a simple protocol fails: two servers find the same stale link, the first removes it and makes its
//! own, and the second removes that one. Here
//!
//! - only one of our programs at a time replaces links in a directory: it holds an `flock` on the directory meanwhile,
//!   which ends with the process, whatever happens to it;
//! - the stale link is exchanged for our own in one step, so that there is no moment without a lock in which a third
//!   server could take it; and what came out of the exchange is looked at: had a program that knows only the simple
//!   protocol been faster, its lock is put back.
//!
//! A process that is killed between these steps leaves at worst a link `P.lock.PID.N`, which means nothing to anybody.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use endpoints_plugin_api::{Error, ErrorKind};
use rustix::fs::{CWD, FlockOperation, OFlags, RenameFlags};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::path::{Shown, with_suffix};

/// A lock that this process holds. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Lock {
    link: PathBuf,
    pin: Pin,
    recovered: bool,
    held: bool,
}

/// Who holds a lock.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// There is no lock.
    Nobody,
    /// A process that runs.
    Alive(Pid),
    /// A process that is gone: the lock is stale.
    Dead(Pid),
    /// What stands there is no lock, for the reason given.
    NoLock(String),
}

/// The file of the lock for the socket at `socket`.
pub(crate) fn beside(socket: &Path) -> PathBuf {
    with_suffix(socket, ".lock")
}

/// Looks who holds the lock `link`, and changes nothing.
///
/// # Errors
/// If the link cannot be read.
pub(crate) fn holder(link: &Path) -> io::Result<Holder> {
    let target = match fs::read_link(link) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Holder::Nobody),
        // What readlink(2) says of anything but a symbolic link.
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            return Ok(Holder::NoLock("it is no symbolic link".to_owned()));
        }
        Err(error) => return Err(error),
    };
    Ok(match process_in(&target) {
        None => {
            Holder::NoLock(format!("it points to {:?}, which is no process number", target.to_string_lossy()))
        }
        Some(pid) if is_alive(rustix::process::test_kill_process(pid)) => Holder::Alive(pid),
        Some(pid) => Holder::Dead(pid),
    })
}

/// The process whose number a link's target is. Zero and what is below mean groups of processes to `kill`, so they are
/// none.
fn process_in(target: &Path) -> Option<Pid> {
    let digits = target.as_os_str().as_bytes();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Pid::from_raw(number)
}

/// What signal 0 tells about a process.
fn is_alive(signalled: rustix::io::Result<()>) -> bool {
    // Anything else, not being allowed to above all, means that there is a process.
    signalled != Err(Errno::SRCH)
}

impl Lock {
    /// Tries to take the lock `link`, an absolute path. `None`: others are at it in this very moment, so it is worth
    /// another try in a moment.
    ///
    /// # Errors
    /// [`AddressInUse`](ErrorKind::AddressInUse) if a live process holds it, or if what stands there is no lock;
    /// otherwise whatever keeps the link from being made.
    pub(crate) fn try_take(link: &Path) -> Result<Option<Self>, Error> {
        match symlink(own_number(), link) {
            Ok(()) => return Self::just_made(link).map_err(|error| cannot("open", link, &error)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(cannot("make", link, &error)),
        }
        match holder(link).map_err(|error| cannot("read", link, &error))? {
            Holder::Nobody => Ok(None),
            Holder::Dead(pid) => Self::recover(link, pid),
            Holder::Alive(pid) => Err(held_by(link, pid)),
            Holder::NoLock(why) => {
                let message = format!(
                    "{} stands where the lock belongs, but {why}: remove it if nothing needs it, or listen with \
                     lockfile=0",
                    Shown(link)
                );
                Err(Error::new(ErrorKind::AddressInUse, message).with_retryable(false))
            }
        }
    }

    /// Whether a dead process held the lock before, so that the socket it left may be removed.
    pub(crate) fn is_recovered(&self) -> bool {
        self.recovered
    }

    /// Gives the lock back: removes the link, if it is still the very one that was made here.
    ///
    /// # Errors
    /// If the link cannot be removed.
    pub(crate) fn give_back(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.held) {
            return Ok(());
        }
        match Identity::of(&self.link) {
            Ok(found) if found == self.pin.identity => ignore_missing(fs::remove_file(&self.link)),
            Ok(_) => Ok(()),
            Err(error) => ignore_missing(Err(error)),
        }
    }

    /// The lock that was made a moment ago; `None` if somebody has replaced it already.
    fn just_made(link: &Path) -> io::Result<Option<Self>> {
        let ours = || fs::read_link(link).is_ok_and(|target| target.as_os_str() == own_number().as_str());
        match Pin::open(link) {
            Ok(pin) => Ok(ours().then(|| Self { link: link.to_owned(), pin, recovered: false, held: true })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // No descriptor left, say. Nobody else would remove the lock of a live process.
            Err(error) => {
                if ours() {
                    drop(fs::remove_file(link));
                }
                Err(error)
            }
        }
    }

    /// Takes over the stale lock of the process `dead`.
    fn recover(link: &Path, dead: Pid) -> Result<Option<Self>, Error> {
        let failed = |error: &io::Error| {
            Error::from_io(
                format_args!(
                    "cannot take over the stale lock {} of process {}, which is gone (remove it to go on)",
                    Shown(link),
                    dead.as_raw_nonzero()
                ),
                error,
            )
        };
        let directory = link.parent().unwrap_or(Path::new("/"));
        let Some(_exclusive) = Exclusive::over(directory).map_err(|error| failed(&error))? else {
            return Ok(None);
        };
        // Another may have been faster between the look and the exclusive right.
        if holder(link).map_err(|error| failed(&error))? != Holder::Dead(dead) {
            return Ok(None);
        }
        Self::replace(link, dead).map_err(|error| failed(&error))
    }

    /// Puts a lock of our own in the place of the one of `dead`; `None` if it is another's by now.
    fn replace(link: &Path, dead: Pid) -> io::Result<Option<Self>> {
        let aside = Aside::new(link)?;
        let lock = Self { link: link.to_owned(), pin: Pin::open(&aside.0)?, recovered: true, held: true };
        match exchange(&aside.0, link) {
            Ok(()) if fs::read_link(&aside.0).is_ok_and(|target| process_in(&target) == Some(dead)) => {
                Ok(Some(lock))
            }
            // Somebody's lock came out: put it back. Ours stood in its place meanwhile, so nobody took it.
            Ok(()) => {
                lock.abandon();
                if let Err(error) = exchange(&aside.0, link) {
                    aside.keep();
                    return Err(error);
                }
                Ok(None)
            }
            // Not every file system can exchange. There, a last look and the rename are two steps, a moment apart; our
            // own programs exclude each other all the same.
            Err(error) if cannot_exchange(&error) && holder(link)? == Holder::Dead(dead) => {
                fs::rename(&aside.0, link)?;
                Ok(Some(lock))
            }
            Err(error) => {
                lock.abandon();
                let changed = cannot_exchange(&error) || error.kind() == io::ErrorKind::NotFound;
                if changed { Ok(None) } else { Err(error) }
            }
        }
    }

    /// Forgets about a lock that stands nowhere.
    fn abandon(mut self) {
        self.held = false;
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Whoever wants to hear of a failure calls `give_back`.
        drop(self.give_back());
    }
}

/// A lock of our own under a name that nobody looks at; what stands there in the end is removed.
struct Aside(PathBuf);

impl Aside {
    fn new(link: &Path) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let aside = with_suffix(link, &format!(".{}.{count}", std::process::id()));
            match symlink(own_number(), &aside) {
                // Left by a process of the same number that was killed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made.map(|()| Self(aside)),
            }
        }
    }

    /// Leaves it where it is: it is somebody's lock.
    fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

/// A link that is kept open, so that the number of its inode is not given to another once it is removed: some file
/// systems give it to the very next one, which would then be taken for this one.
#[derive(Debug)]
struct Pin {
    identity: Identity,
    _link: OwnedFd,
}

impl Pin {
    fn open(link: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::open(link, flags, rustix::fs::Mode::empty())?;
        Ok(Self { identity: Identity::of_open(&opened)?, _link: opened })
    }
}

/// What tells a file from every other that exists at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// That of the file at `path` itself, also where it is a symbolic link.
    ///
    /// # Errors
    /// If there is none, or it cannot be looked at.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        fs::symlink_metadata(path).map(|metadata| Self { device: metadata.dev(), inode: metadata.ino() })
    }

    /// That of an open file.
    ///
    /// # Errors
    /// If it cannot be looked at.
    pub(crate) fn of_open(file: impl AsFd) -> io::Result<Self> {
        let stat = rustix::fs::fstat(file)?;
        Ok(Self { device: stat.st_dev, inode: stat.st_ino })
    }
}

/// Makes a file that is already gone as good as one that was removed.
pub(crate) fn ignore_missing(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The sole right among our programs to replace locks in a directory.
struct Exclusive(OwnedFd);

impl Exclusive {
    /// `None`: another program has it.
    fn over(directory: &Path) -> io::Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(directory, flags, rustix::fs::Mode::empty())?;
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self(directory))),
            Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        // Closing alone would not do while a child that is being started still has a copy of the descriptor.
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

fn cannot_exchange(error: &io::Error) -> bool {
    [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP]
        .iter()
        .any(|known| error.raw_os_error() == Some(known.raw_os_error()))
}

fn own_number() -> String {
    std::process::id().to_string()
}

fn cannot(what: &str, link: &Path, error: &io::Error) -> Error {
    Error::from_io(format_args!("cannot {what} the lock {}", Shown(link)), error)
}

fn held_by(link: &Path, pid: Pid) -> Error {
    let link = Shown(link);
    let pid = pid.as_raw_nonzero();
    let message = if pid.to_string() == own_number() {
        // In a container, a server that was restarted often has the number that it had before.
        format!(
            "the lock {link} is held by this very process, {pid}: it listens there already, or an earlier process of \
             the same number was killed, in which case remove the link"
        )
    } else {
        format!("the lock {link} is held by process {pid}, which runs: stop it, or listen elsewhere")
    };
    Error::new(ErrorKind::AddressInUse, message)
}

#[cfg(test)]
mod tests;
