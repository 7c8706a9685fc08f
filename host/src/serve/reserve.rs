//! A descriptor kept back for the time when there are no more.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};
use tokio::task::coop::unconstrained;

use crate::error::Error;
use crate::listener::Listener;

/// A descriptor that is given away for a moment when there are no more, to accept and close what waits: its clients hear
/// at once that nobody serves them, instead of waiting in the backlog for as long as descriptors are short.
pub(super) struct Reserve {
    /// What it is of: a socket of the family that listens, as a file may be out of reach of a process by then that has
    /// changed its root, and other families may be forbidden to it.
    family: Option<AddressFamily>,
    kept: Mutex<Option<OwnedFd>>,
}

/// Connections that are closed at a time, at most: some thousand clients that come all the time must not hold a thread.
const MOST: usize = 128;

impl Reserve {
    /// For a listener whose socket is the host's; of others, whoever accepts would have to keep it.
    pub(super) fn new(listener: &Listener) -> Self {
        let family = listener.socket_of_host().and_then(|socket| sockopt::socket_domain(socket).ok());
        let reserve = Self { family, kept: Mutex::new(None) };
        reserve.fill(&mut reserve.kept.lock().unwrap_or_else(PoisonError::into_inner));
        reserve
    }

    fn fill(&self, kept: &mut Option<OwnedFd>) {
        if let (None, Some(family)) = (&kept, self.family) {
            // Where that fails, it is tried again the next time.
            *kept = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).ok();
        }
    }

    /// Accepts and closes what waits, where that is why accepting has failed; says how many connections that were.
    pub(super) fn refuse_waiting(&self, listener: &Listener, error: &Error) -> usize {
        if self.family.is_none() || !is_about_descriptors(error) {
            return 0;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // From the last time, when there may have been none.
        self.fill(&mut kept);
        if kept.take().is_none() {
            return 0;
        }
        let refused = refuse(listener);
        self.fill(&mut kept);
        refused
    }
}

/// It is the listener that accepts, so that it knows when there is nothing left: accept(2) fails for want of a descriptor
/// also where nobody waits.
fn refuse(listener: &Listener) -> usize {
    let accepts = || {
        let accepting = pin!(unconstrained(listener.accept()));
        matches!(accepting.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(_)))
    };
    (0..MOST).take_while(|_| accepts()).count()
}

/// Whether this process, or the system, has as many descriptors as it may have.
fn is_about_descriptors(error: &Error) -> bool {
    let about = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|number| about.contains(&number))
}
