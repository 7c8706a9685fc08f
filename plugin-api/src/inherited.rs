//! Descriptors that were handed down to this process.
#![expect(unsafe_code, reason = "a descriptor is known by its number alone")]

use std::fs;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

/// Why a descriptor was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotTaken {
    /// It is not open.
    Closed,
    /// Somebody in this process has it already.
    Taken,
    /// It is not what it should be.
    Unfit(String),
}

/// Takes over a descriptor that was handed down to this process, if `check` finds nothing wrong with it; otherwise it
/// stays as it is.
///
/// Each is given away once. Whoever hands descriptors down leaves them open on exec, and taking one sets the flag that
/// closes it on exec. So one without the flag belongs to nobody yet, in whatever copy of this code somebody took it:
/// everything that Rust opens has the flag.
///
/// Standard input and output (0 and 1) get `/dev/null` in their place, and what was there is given under another number:
/// what other code of the process prints cannot get into the stream then, nor can a file that is opened later take the
/// number. That they were taken is known to the copy of this code that did it alone.
///
/// # Errors
/// Why it was not taken.
pub fn take(
    number: RawFd,
    check: impl FnOnce(BorrowedFd<'_>) -> Result<(), String>,
) -> Result<OwnedFd, NotTaken> {
    static STANDARD: Mutex<[bool; 2]> = Mutex::new([false; 2]);
    let mut standard = STANDARD.lock().unwrap_or_else(PoisonError::into_inner);
    match number {
        ..0 => return Err(NotTaken::Closed),
        // Whatever is opened next would get its number, and with it the messages of the whole program.
        2 => return Err(NotTaken::Unfit("standard error belongs to the program".to_owned())),
        0 | 1 if standard[usize::from(number == 1)] => return Err(NotTaken::Taken),
        0 | 1 => {}
        _ => match closes_on_exec(number) {
            Err(_) => return Err(NotTaken::Closed),
            Ok(true) => return Err(NotTaken::Taken),
            Ok(false) => {}
        },
    }
    // SAFETY: it is open, was handed down to this process for its use, and nobody has taken it: looked at just now, under
    // the lock. Rust sees to it that the standard ones are open. Unless it is kept, it is never closed, also where the
    // check panics.
    let descriptor = unsafe { ManuallyDrop::new(OwnedFd::from_raw_fd(number)) };
    let taken = check(descriptor.as_fd()).and_then(|()| {
        let taken = match number {
            0 | 1 => put_aside(descriptor.as_fd(), number).map(Some),
            _ => rustix::io::fcntl_setfd(&*descriptor, rustix::io::FdFlags::CLOEXEC)
                .map(|()| None)
                .map_err(Into::into),
        };
        taken.map_err(|error| error.to_string())
    });
    match taken {
        Ok(None) => Ok(ManuallyDrop::into_inner(descriptor)),
        Ok(Some(copy)) => {
            standard[usize::from(number == 1)] = true;
            Ok(copy)
        }
        Err(problem) => Err(NotTaken::Unfit(problem)),
    }
}

/// Puts `/dev/null` in the place of a standard stream, and gives the stream.
fn put_aside(descriptor: BorrowedFd<'_>, number: RawFd) -> io::Result<OwnedFd> {
    let copy = rustix::io::fcntl_dupfd_cloexec(descriptor, 3)?;
    let null = fs::File::options().read(number == 0).write(number != 0).open("/dev/null")?;
    match number {
        0 => rustix::stdio::dup2_stdin(&null)?,
        _ => rustix::stdio::dup2_stdout(&null)?,
    }
    Ok(copy)
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
    use std::os::fd::{AsRawFd, IntoRawFd};

    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri lacks the system call")]
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
        assert!(matches!(take(-1, |_| Ok(())), Err(NotTaken::Closed)));
        assert!(matches!(take(listener.as_raw_fd(), |_| Ok(())), Err(NotTaken::Taken)));
        assert!(matches!(take(2, |_| Ok(())), Err(NotTaken::Unfit(_))));
    }
}
