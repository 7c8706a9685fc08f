//! A descriptor kept back for the time when there are no more.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use tokio::task::coop::unconstrained;

use crate::error::Error;
use crate::listener::Listener;

/// A descriptor that is given away for a moment when there are no more, to accept and close what waits: its clients hear
/// at once that nobody serves them, instead of waiting in the backlog for as long as descriptors are short.
///
/// Something else may be quicker to take that descriptor, as another task that connects: nothing is refused then, and
/// another one is kept when accepting has succeeded again.
pub(super) struct Reserve {
    /// One that can be made again wherever tokio runs, which has one itself; a file may be out of reach of a process by
    /// then that has changed its root.
    kept: Mutex<Option<OwnedFd>>,
    /// Whether there is none: something else was quicker when it was given away.
    is_lost: AtomicBool,
}

/// Connections that are closed at a time, at most: some thousand clients that come all the time must not hold a thread.
const MOST: usize = 128;

impl Reserve {
    pub(super) fn new() -> Self {
        let kept = one_more();
        Self { is_lost: AtomicBool::new(kept.is_none()), kept: Mutex::new(kept) }
    }

    /// Keeps another one where it was lost; for whoever has just seen that there are descriptors.
    #[inline]
    pub(super) fn restore(&self) {
        if self.is_lost.load(Ordering::Relaxed) {
            self.keep(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn keep(&self, kept: &mut Option<OwnedFd>) {
        if kept.is_none() {
            *kept = one_more();
        }
        self.is_lost.store(kept.is_none(), Ordering::Relaxed);
    }

    /// Accepts and closes what waits, where that is why accepting has failed; says how many connections that were.
    pub(super) fn refuse_waiting(&self, listener: &Listener, error: &Error) -> usize {
        if !is_about_descriptors(error) {
            return 0;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(descriptor) = kept.take() else { return 0 };
        drop(descriptor);
        let refused = refuse(listener);
        self.keep(&mut kept);
        refused
    }
}

fn one_more() -> Option<OwnedFd> {
    eventfd(0, EventfdFlags::CLOEXEC).ok()
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
pub(super) fn is_about_descriptors(error: &Error) -> bool {
    let about = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|number| about.contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_is_kept_again() {
        let reserve = Reserve::new();
        let is_there = || reserve.kept.lock().unwrap().is_some();
        assert!(is_there());
        // As when something else was quicker.
        *reserve.kept.lock().unwrap() = None;
        reserve.is_lost.store(true, Ordering::Relaxed);
        reserve.restore();
        assert!(is_there() && !reserve.is_lost.load(Ordering::Relaxed));
    }
}
