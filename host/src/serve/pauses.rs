//! Pauses in accepting, while that fails.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(1);

/// The pauses that all acceptors make together after one has failed: the next one fails for the same reason.
#[derive(Default)]
pub(super) struct Pauses {
    /// Whether there was one since accepting has succeeded last.
    is_failing: AtomicBool,
    state: Mutex<(Failures, Option<Instant>)>,
}

impl Pauses {
    /// When the pause that there is at the moment is over.
    #[inline]
    pub(super) fn until(&self) -> Option<Instant> {
        if !self.is_failing.load(Ordering::Relaxed) {
            return None;
        }
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.1.filter(|until| *until > Instant::now())
    }

    /// Whether there was one since accepting has succeeded last.
    #[inline]
    pub(super) fn are_made(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    /// Begins one, and says how long it is, unless there is one.
    pub(super) fn begin(&self) -> Option<Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (failures, until) = &mut *state;
        let now = Instant::now();
        if until.is_some_and(|until| until > now) {
            return None;
        }
        let pause = failures.pause();
        *until = Some(now + pause);
        self.is_failing.store(true, Ordering::Relaxed);
        Some(pause)
    }

    /// Accepting has succeeded. Within a pause, or soon after it, that says little: there may be one descriptor, and none for what the
    /// connection needs next.
    #[inline]
    pub(super) fn succeeded(&self) {
        if self.is_failing.load(Ordering::Relaxed) {
            self.maybe_over();
        }
    }

    #[cold]
    fn maybe_over(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.1.is_none_or(|until| until + LONGEST < Instant::now()) {
            *state = Default::default();
            self.is_failing.store(false, Ordering::Relaxed);
        }
    }
}

/// How often accepting has failed in a row: the pauses grow from 10 ms to 1 s, so that neither the log nor the processor
/// is flooded while descriptors are short.
#[derive(Default)]
pub(crate) struct Failures(u32);

impl Failures {
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = Duration::from_millis(10 << self.0.min(7)).min(LONGEST);
        self.0 += 1;
        pause
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn there_is_one_pause_for_all_and_it_grows_until_all_is_well() {
        let pauses = Pauses::default();
        pauses.succeeded();
        assert!(pauses.until().is_none());
        let mut all = Vec::new();
        for _ in 0..9 {
            let pause = pauses.begin().unwrap();
            assert_eq!(pauses.begin(), None, "another one joins it");
            assert_eq!(pauses.until(), Some(Instant::now() + pause));
            // As by the last descriptor.
            pauses.succeeded();
            advance(pause).await;
            assert!(pauses.until().is_none());
            pauses.succeeded();
            all.push(pause.as_millis());
        }
        assert_eq!(all, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        advance(LONGEST + Duration::from_millis(1)).await;
        pauses.succeeded();
        assert_eq!(pauses.begin(), Some(Duration::from_millis(10)));
    }
}
