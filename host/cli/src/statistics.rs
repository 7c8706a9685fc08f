//! What the relay has done so far, and the small HTTP service that tells it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use endpoints::forward::Meter;
use endpoints::serve::Event;

mod handshakes;
mod http;
mod json;
mod prometheus;

use handshakes::{Handshakes, Times};
pub(crate) use http::{MOST_READERS, answer};

/// Counts as it happens. What is counted for each connection takes no lock.
pub(crate) struct Statistics {
    begun: Instant,
    accepted: AtomicU64,
    closed: AtomicU64,
    failed: AtomicU64,
    handshakes: Handshakes,
    /// By the names of their kinds.
    errors: Mutex<BTreeMap<&'static str, u64>>,
    pub(crate) meter: Arc<Meter>,
}

impl Default for Statistics {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            accepted: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            handshakes: Handshakes::default(),
            errors: Mutex::default(),
            meter: Arc::default(),
        }
    }
}

/// The counts at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) now: u64,
    pub(crate) total: u64,
    pub(crate) failed: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) handshakes: Times,
    pub(crate) errors: BTreeMap<&'static str, u64>,
    pub(crate) uptime: Duration,
}

impl Statistics {
    pub(crate) fn count(&self, event: &Event<'_>) {
        let counter = match event {
            Event::Accepted { .. } => &self.accepted,
            Event::Closed { .. } => &self.closed,
            Event::Established { duration, .. } => return self.handshakes.record(*duration),
            Event::Error { id, error, .. } => {
                let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
                *errors.entry(error.kind().name()).or_default() += 1;
                if id.is_none() {
                    return;
                }
                &self.failed
            }
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> Counts {
        // What is closed was accepted before: read in this order, the difference is never negative.
        let closed = self.closed.load(Ordering::Relaxed);
        let total = self.accepted.load(Ordering::Relaxed);
        let traffic = self.meter.traffic();
        Counts {
            now: total.saturating_sub(closed),
            total,
            failed: self.failed.load(Ordering::Relaxed),
            bytes_in: traffic.bytes_in,
            bytes_out: traffic.bytes_out,
            handshakes: self.handshakes.times(),
            errors: self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            uptime: self.begun.elapsed(),
        }
    }
}

#[cfg(test)]
mod tests {
    use endpoints::{Error, ErrorKind};

    use super::*;

    #[test]
    fn errors_of_the_service_are_no_failed_connections() {
        let statistics = Statistics::default();
        for (id, kind) in [
            (Some(1), ErrorKind::HandshakeFailed),
            (None, ErrorKind::ResourceExhausted),
            (Some(2), ErrorKind::HandshakeFailed),
        ] {
            statistics.count(&Event::error(id, &Error::new(kind, "on purpose")));
        }
        let counts = statistics.counts();
        assert_eq!(counts.failed, 2);
        assert_eq!(counts.errors, [("handshake-failed", 2), ("resource-exhausted", 1)].into());
    }
}
