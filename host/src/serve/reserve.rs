//! A descriptor kept back for the time when there are no more.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use tokio::sync::Notify;
use tokio::task::coop::unconstrained;

use crate::error::Error;
use crate::listener::{Incoming, Listener};

/// A descriptor that is given away for a moment when there are no more, to accept and close what waits: its clients hear
/// at once that nobody serves them, instead of waiting in the backlog for as long as descriptors are short.
///
/// Or it is lent to one connection after another.
///
/// Something else may be quicker to take that descriptor, as another task that connects: nothing is refused then, and
/// another one is kept when there are some again.
pub(super) struct Reserve(Arc<Kept>);

struct Kept {
    /// One that can be made again wherever tokio runs, which has one itself; a file may be out of reach of a process by
    /// then that has changed its root.
    descriptor: Mutex<Option<OwnedFd>>,
    /// Whether there is none: something else was quicker when it was given away.
    is_lost: AtomicBool,
    /// Told when it is no longer lent.
    returned: Notify,
}

/// What comes of asking for the descriptor to accept by.
pub(super) enum Loan {
    /// It is lent to this connection.
    Given(Incoming, Lent),
    /// Nobody waited.
    Unneeded,
    /// Another connection has it.
    Lent,
    /// There is none, or accepting has failed all the same.
    Lost,
}

/// Connections that are closed at a time, at most: some thousand clients that come all the time must not hold a thread.
const MOST: usize = 128;

impl Reserve {
    pub(super) fn new() -> Self {
        let descriptor = one_more();
        let is_lost = AtomicBool::new(descriptor.is_none());
        Self(Arc::new(Kept { descriptor: Mutex::new(descriptor), is_lost, returned: Notify::new() }))
    }

    /// Keeps another one where it was lost; for whoever has just seen that there are descriptors.
    #[inline]
    pub(super) fn restore(&self) {
        if self.0.is_lost.load(Ordering::Relaxed) {
            self.0.keep(&mut self.0.descriptor());
        }
    }

    /// Keeps the descriptor from being given away for as long as what this gives is there.
    pub(super) fn hold(&self) -> impl Drop {
        self.0.descriptor()
    }

    /// Accepts one connection that waits, and lends it the descriptor.
    pub(super) fn lend(&self, listener: &Listener) -> Loan {
        let mut kept = self.0.descriptor();
        if kept.is_none() && self.0.is_lost.load(Ordering::Relaxed) {
            self.0.keep(&mut kept);
            if kept.is_none() {
                return Loan::Lost;
            }
        }
        let Some(descriptor) = kept.take() else { return Loan::Lent };
        drop(descriptor);
        match accept_now(listener) {
            Poll::Ready(Ok(incoming)) => Loan::Given(incoming, Lent(Arc::clone(&self.0))),
            accepted => {
                self.0.keep(&mut kept);
                if accepted.is_pending() && kept.is_some() { Loan::Unneeded } else { Loan::Lost }
            }
        }
    }

    /// Waits until a connection has given the descriptor back.
    pub(super) async fn returned(&self) {
        self.0.returned.notified().await;
    }

    /// Accepts and closes what waits, where that is why accepting has failed; says how many connections that were.
    pub(super) fn refuse_waiting(&self, listener: &Listener, error: &Error) -> usize {
        if !is_about_descriptors(error) {
            return 0;
        }
        let mut kept = self.0.descriptor();
        let Some(descriptor) = kept.take().or_else(one_more) else { return 0 };
        drop(descriptor);
        let refused = (0..MOST).take_while(|_| matches!(accept_now(listener), Poll::Ready(Ok(_)))).count();
        self.0.keep(&mut kept);
        refused
    }
}

impl Kept {
    fn descriptor(&self) -> MutexGuard<'_, Option<OwnedFd>> {
        self.descriptor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, kept: &mut Option<OwnedFd>) {
        if kept.is_none() {
            *kept = one_more();
        }
        self.is_lost.store(kept.is_none(), Ordering::Relaxed);
    }
}

/// That a connection has the descriptor; kept back again when this is dropped, or, where the connection is closed only after
/// that, when it is wanted next.
pub(super) struct Lent(Arc<Kept>);

impl Drop for Lent {
    fn drop(&mut self) {
        self.0.keep(&mut self.0.descriptor());
        self.0.returned.notify_one();
    }
}

fn one_more() -> Option<OwnedFd> {
    eventfd(0, EventfdFlags::CLOEXEC).ok()
}

/// It is the listener that accepts, as it knows when there is nothing left: accept(2) by itself fails for want of a descriptor
/// also where nobody waits.
fn accept_now(listener: &Listener) -> Poll<Result<Incoming, Error>> {
    let accepting = pin!(unconstrained(listener.accept()));
    accepting.poll(&mut Context::from_waker(Waker::noop()))
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
        let is_there = || reserve.0.descriptor().is_some();
        assert!(is_there());
        // As when something else was quicker.
        *reserve.0.descriptor() = None;
        reserve.0.is_lost.store(true, Ordering::Relaxed);
        reserve.restore();
        assert!(is_there() && !reserve.0.is_lost.load(Ordering::Relaxed));
    }
}
