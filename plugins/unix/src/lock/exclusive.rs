//! What keeps our programs from replacing the same lock at the same time.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::{Identity, ignore_missing};
use crate::path::{Shown, with_suffix};

/// The sole right among our programs of this user to replace a lock.
pub(super) struct Exclusive {
    path: PathBuf,
    file: OwnedFd,
}

impl Exclusive {
    /// `None`: another program has it.
    pub(super) fn over(link: &Path) -> io::Result<Option<Self>> {
        let path = with_suffix(link, ".replacing");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)?;
        let stat = rustix::fs::fstat(&file)?;
        if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o077 != 0 {
            let problem = format!("{} is another user's, or open to others: remove it", Shown(&path));
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
        }
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK | Errno::INTR) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        // The one before may have removed it between opening and locking; then the next makes another.
        match Identity::of(&path) {
            Ok(found) if found == Identity::of_open(&file)? => Ok(Some(Self { path, file })),
            Ok(_) => Ok(None),
            Err(error) => ignore_missing(Err(error)).map(|()| None),
        }
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        // While it is locked, so that it is this very file.
        drop(fs::remove_file(&self.path));
        // Closing alone would not do while a child that is being started still has a copy of the descriptor.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}
