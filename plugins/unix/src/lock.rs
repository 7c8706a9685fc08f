//! The lock beside a socket, by the protocol that Twisted's servers follow.
//!
//! Beside the socket `P` stands the symbolic link `P.lock`, whose target is the number of the process that listens, in
//! decimal. It is made before binding and removed after the socket when listening stops. A link whose process is gone
//! is *stale*: whoever replaces it may also remove the socket that the dead process left.
//!
//! Replacing is where a simple protocol fails: two servers find the same stale link, the first removes it and makes its
//! own, and the second removes that one. Here
//!
//! - only one of our programs at a time replaces a link: it holds an `flock` meanwhile, which ends with the process,
//!   whatever happens to it. It is on a file that its user alone can open: whoever may read the directory could hold one
//!   on that for ever. (The exchange alone would not do: of three that put back what they found, one can lose its lock.)
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
use std::sync::{Mutex, PoisonError};

use endpoints_plugin_api::{Error, ErrorKind};
use rustix::fs::{CWD, OFlags, RenameFlags};
use rustix::io::Errno;
use rustix::process::Pid;

use self::exclusive::Exclusive;
use crate::path::{Shown, with_suffix};

mod exclusive;

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
    ///
    /// `answers` tells whether somebody listens on the socket. A process that is gone may be one of another container
    /// that is not seen from here, and the number of this very process that of an earlier one, as in a container that was
    /// started again.
    pub(crate) fn try_take(
        link: &Path,
        answers: &dyn Fn() -> Result<bool, Error>,
    ) -> Result<Option<Self>, Error> {
        // One at a time, so that a lock of this process is known as such to the next.
        static TAKING: Mutex<()> = Mutex::new(());
        let _taking = TAKING.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = Self::attempt(link, answers)?;
        if let Some(lock) = &taken {
            HELD.lock().unwrap_or_else(PoisonError::into_inner).push(lock.pin.identity);
        }
        Ok(taken)
    }

    fn attempt(link: &Path, answers: &dyn Fn() -> Result<bool, Error>) -> Result<Option<Self>, Error> {
        match symlink(own_number(), link) {
            Ok(()) => return Self::just_made(link).map_err(|error| cannot("open", link, &error)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(cannot("make", link, &error)),
        }
        match holder(link).map_err(|error| cannot("read", link, &error))? {
            Holder::Nobody => Ok(None),
            Holder::Dead(pid) => match answers()? {
                false => Self::recover(link, &Holder::Dead(pid)),
                true => Err(elsewhere(link, pid)),
            },
            Holder::Alive(pid) if is_own(pid) && !is_held(link) && !answers()? => {
                Self::recover(link, &Holder::Alive(pid))
            }
            // Where it cannot be told, the lock counts.
            Holder::Alive(pid) => Err(held_by(link, pid, answers().unwrap_or(true))),
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
        let given_back = self.remove();
        HELD.lock().unwrap_or_else(PoisonError::into_inner).retain(|held| *held != self.pin.identity);
        given_back
    }

    fn remove(&self) -> io::Result<()> {
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

    /// Takes over the lock of a process that is gone: `found`, which is dead, or has this process's number.
    fn recover(link: &Path, found: &Holder) -> Result<Option<Self>, Error> {
        let (Holder::Dead(dead) | Holder::Alive(dead)) = *found else { return Ok(None) };
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
        let Some(_exclusive) = Exclusive::over(link).map_err(|error| failed(&error))? else {
            return Ok(None);
        };
        // Another may have been faster between the look and the exclusive right.
        if holder(link).map_err(|error| failed(&error))? != *found {
            return Ok(None);
        }
        Self::replace(link, dead).map_err(|error| failed(&error))
    }

    /// Puts a lock of our own in the place of the one of `dead`; `None` if it is another's by now.
    fn replace(link: &Path, dead: Pid) -> io::Result<Option<Self>> {
        let aside = Aside::new(link)?;
        let lock = Self { link: link.to_owned(), pin: Pin::open(&aside.0)?, recovered: true, held: true };
        match exchange(&aside.0, link) {
            Ok(()) if names(&aside.0, dead) => Ok(Some(lock)),
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
            Err(error) if cannot_exchange(&error) && names(link, dead) => {
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

/// The locks that this process holds, as far as this copy of the code took them.
static HELD: Mutex<Vec<Identity>> = Mutex::new(Vec::new());

fn is_held(link: &Path) -> bool {
    // One that cannot be looked at is left alone.
    Identity::of(link)
        .map_or(true, |found| HELD.lock().unwrap_or_else(PoisonError::into_inner).contains(&found))
}

fn is_own(pid: Pid) -> bool {
    pid.as_raw_nonzero().to_string() == own_number()
}

fn names(link: &Path, pid: Pid) -> bool {
    fs::read_link(link).is_ok_and(|target| process_in(&target) == Some(pid))
}

fn elsewhere(link: &Path, pid: Pid) -> Error {
    let message = format!(
        "a server listens there, though process {}, which the lock {} names, is not seen from here: it runs in another \
         container, or a server without a lock answers; stop it, or listen elsewhere",
        pid.as_raw_nonzero(),
        Shown(link)
    );
    Error::new(ErrorKind::AddressInUse, message)
}

fn held_by(link: &Path, pid: Pid, answers: bool) -> Error {
    let link = Shown(link);
    let number = pid.as_raw_nonzero();
    let message = if is_own(pid) {
        format!("the lock {link} is held by this very process, {number}: it listens there already")
    } else if answers {
        format!("the lock {link} is held by process {number}, which runs: stop it, or listen elsewhere")
    } else {
        format!(
            "the lock {link} names process {number}, which runs, but nobody listens on the socket beside it: if that \
             process is no server of this socket, remove both files"
        )
    };
    Error::new(ErrorKind::AddressInUse, message)
}

#[cfg(test)]
mod tests;
