//! Which thread serves a connection, so that none serves much more than others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::Handle;

use super::stopping::Stopping;

/// The threads that serve, and how many connections each has.
pub(super) struct Balance {
    /// The first is that of whoever serves, the others are workers.
    threads: Box<[Thread]>,
    /// Told when there are no workers any more.
    workers_ended: Stopping,
}

struct Thread {
    runtime: Handle,
    open: AtomicUsize,
}

/// A connection's part in what its thread serves, given back when it ends.
pub(super) struct Part {
    balance: Arc<Balance>,
    thread: usize,
}

/// So many more than another one a thread may have at least: what is soon over is quickest served where it was accepted.
const SLACK: usize = 4;

impl Balance {
    pub(super) fn new(threads: impl Iterator<Item = Handle>, workers_ended: Stopping) -> Arc<Self> {
        let threads = threads.map(|runtime| Thread { runtime, open: AtomicUsize::new(0) }).collect();
        Arc::new(Self { threads, workers_ended })
    }

    /// A part for a connection that a thread has accepted, unless it has much more than another; `None` for the thread stands
    /// for one that serves no more than others.
    pub(super) fn part(self: &Arc<Self>, thread: Option<usize>) -> Part {
        let load = |thread: usize| self.threads[thread].open.load(Ordering::Relaxed);
        // What has ended has nothing open, and would get all.
        let count = if self.workers_ended.is_stopping() { 1 } else { self.threads.len() };
        let fewest = (0..count).min_by_key(|thread| load(*thread)).unwrap_or_default();
        let thread = match thread {
            Some(own) if own < count && load(own) <= load(fewest) + SLACK.max(load(fewest) / 8) => own,
            _ => fewest,
        };
        self.threads[thread].open.fetch_add(1, Ordering::Relaxed);
        Part { balance: Arc::clone(self), thread }
    }
}

impl Part {
    /// The runtime of the thread that is to serve the connection, where that is another one.
    pub(super) fn runtime_beside(&self, own: usize) -> Option<&Handle> {
        (self.thread != own).then(|| &self.balance.threads[self.thread].runtime)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.balance.threads[self.thread].open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;

    #[tokio::test]
    async fn whoever_has_much_more_leaves_the_next_to_others() {
        let (ended, told) = watch::channel(false);
        let balance = Balance::new((0..3).map(|_| Handle::current()), told.into());
        let mut parts: Vec<Part> = (0..=SLACK).map(|_| balance.part(Some(0))).collect();
        assert!(parts.iter().all(|part| part.thread == 0));
        parts.push(balance.part(Some(0)));
        assert_eq!((parts[5].thread, parts[5].runtime_beside(1).is_none()), (1, true));
        parts.push(balance.part(Some(0)));
        assert_eq!(parts[6].thread, 2);
        // They all have one at least.
        parts.push(balance.part(Some(0)));
        assert_eq!((parts[7].thread, parts[7].runtime_beside(0).is_none()), (0, true));
        parts.push(balance.part(None));
        assert_eq!(parts[8].thread, 1);
        // Also where they have fewer, and accept one themselves in the last moment.
        ended.send_replace(true);
        parts.extend([balance.part(Some(1)), balance.part(None)]);
        assert_eq!((parts[9].thread, parts[10].thread), (0, 0));
        parts.clear();
        assert!(balance.threads.iter().all(|thread| thread.open.load(Ordering::Relaxed) == 0));
    }
}
