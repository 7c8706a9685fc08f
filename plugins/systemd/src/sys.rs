//! Taking an inherited descriptor over.
#![expect(unsafe_code, reason = "a descriptor is known by its number alone")]

use std::fs;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

/// Why a descriptor was not taken.
#[derive(Debug)]
pub(crate) enum NotTaken {
    /// It is not open.
    Closed,
    /// Somebody in this process has it already.
    Taken,
    /// It is not what it should be.
    Unfit(String),
}

/// Takes an inherited descriptor over, if `check` finds nothing wrong with it; otherwise it stays as it is.
///
/// Whoever hands descriptors down leaves them open on exec, and taking one sets the flag that closes it on exec. So one
/// without the flag belongs to nobody yet, in whatever copy of this code somebody took it: everything that Rust opens
/// has the flag.
pub(crate) fn take(
    number: RawFd,
    check: impl FnOnce(&OwnedFd) -> Result<(), String>,
) -> Result<OwnedFd, NotTaken> {
    static TAKING: Mutex<()> = Mutex::new(());
    let _taking = TAKING.lock().unwrap_or_else(PoisonError::into_inner);
    match closes_on_exec(number) {
        Err(_) => return Err(NotTaken::Closed),
        Ok(true) => return Err(NotTaken::Taken),
        Ok(false) => {}
    }
    // SAFETY: it is open, was handed down to this process for its use, and nobody has taken it: looked at just now, under
    // the lock. Where it is not kept, it is given back below without being closed.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    let fit = check(&descriptor).and_then(|()| {
        rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC).map_err(|error| error.to_string())
    });
    match fit {
        Ok(()) => Ok(descriptor),
        Err(problem) => {
            let _ = descriptor.into_raw_fd();
            Err(NotTaken::Unfit(problem))
        }
    }
}

/// Whether the descriptor of that number is closed on exec.
fn closes_on_exec(number: RawFd) -> io::Result<bool> {
    const O_CLOEXEC: u32 = 0o2_000_000;
    let told = fs::read_to_string(format!("/proc/self/fdinfo/{number}"))?;
    let flags = told.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.map(|flags| flags & O_CLOEXEC != 0).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::{AsFd, AsRawFd};

    use super::*;

    #[test]
    fn a_descriptor_is_taken_once() {
        // One that is open on exec, as systemd hands them down; nothing in this process uses that number.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = rustix::io::fcntl_dupfd_cloexec(listener.as_fd(), 700).unwrap().into_raw_fd();
        // SAFETY: it was just made, and is owned by nobody.
        let handed_down = unsafe { OwnedFd::from_raw_fd(number) };
        rustix::io::fcntl_setfd(&handed_down, rustix::io::FdFlags::empty()).unwrap();
        let number = handed_down.into_raw_fd();
        let unfit = take(number, |_| Err("no".into()));
        assert!(matches!(unfit, Err(NotTaken::Unfit(problem)) if problem == "no"));
        let taken = take(number, |_| Ok(())).unwrap();
        assert!(matches!(take(number, |_| Ok(())), Err(NotTaken::Taken)));
        drop(taken);
        assert!(matches!(take(number, |_| Ok(())), Err(NotTaken::Closed)));
        assert!(matches!(take(listener.as_raw_fd(), |_| Ok(())), Err(NotTaken::Taken)));
    }
}
