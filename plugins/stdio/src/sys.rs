//! What is done in the child between fork and exec.
#![expect(
    unsafe_code,
    reason = "what runs there is restricted, and descriptors are known by their numbers alone"
)]

use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::FdFlags;

/// The first descriptor that is handed down for a socket unit (`SD_LISTEN_FDS_START`, sd_listen_fds(3)).
const FIRST: RawFd = 3;

/// The most that are looked at, however many the environment claims.
const MOST: RawFd = 4096;

/// Keeps from a program what the service manager handed down to this process alone: the sockets that are not in use (yet),
/// and the variables that tell of them.
pub(crate) fn keep_activation_from(command: &mut Command) {
    let count = std::env::var("LISTEN_FDS").ok().and_then(|count| count.trim().parse::<RawFd>().ok());
    let meant = std::env::var("LISTEN_PID").ok().and_then(|number| number.trim().parse().ok());
    for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
        command.env_remove(name);
    }
    let count = count.filter(|_| meant == Some(std::process::id())).unwrap_or(0).clamp(0, MOST);
    if count == 0 {
        return;
    }
    // In the child alone: in this process the flag would mean that somebody has taken them.
    let close = move || {
        for number in FIRST..FIRST + count {
            // SAFETY: it is borrowed for this one system call, which refuses a number that is not open.
            let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
            // One that is not open needs no flag.
            let _ = rustix::io::fcntl_setfd(descriptor, FdFlags::CLOEXEC);
        }
        Ok(())
    };
    // SAFETY: between fork and exec only system calls may be made; this makes nothing else, neither allocates nor locks.
    unsafe { command.pre_exec(close) };
}
