//! Lines on their way to a reader that may be slow, or stall.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a reader that takes something now and then may take for all that waits at the end.
const LONGEST: Duration = Duration::from_secs(5);

/// What a queue is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purpose {
    /// Of the thread that writes.
    pub(crate) name: &'static str,
    /// How many lines wait for the reader at most.
    pub(crate) most: usize,
    /// How long the reader may take nothing at the end until what still waits is given up.
    pub(crate) patience: Duration,
    /// What is said where so many lines were dropped.
    pub(crate) note: fn(u64) -> String,
}

/// Hands lines to a thread that writes them, so that who has something to say never waits for who reads it.
///
/// When too many wait, more are dropped, and counted; a line that tells the count follows when there is room again.
#[derive(Debug)]
pub(crate) struct Queue {
    purpose: Purpose,
    state: Mutex<State>,
    /// There is something to write.
    filled: Condvar,
    /// All has been written.
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<String>,
    dropped: u64,
    written: u64,
    writing: bool,
}

impl State {
    fn push(&mut self, line: String, purpose: &Purpose) {
        // Once full it stays so until half of it is gone, so that not every other line tells of one that was dropped.
        let most = if self.dropped > 0 { purpose.most / 2 } else { purpose.most };
        if self.lines.len() >= most {
            self.dropped += 1;
            return;
        }
        if let Some(note) = self.note(purpose) {
            self.lines.push_back(note);
        }
        self.lines.push_back(line);
    }

    fn pop(&mut self, purpose: &Purpose) -> Option<String> {
        self.lines.pop_front().or_else(|| self.note(purpose))
    }

    /// What is to be said in the place of what was dropped.
    fn note(&mut self, purpose: &Purpose) -> Option<String> {
        let count = std::mem::take(&mut self.dropped);
        (count > 0).then(|| (purpose.note)(count))
    }

    fn is_done(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0 && !self.writing
    }
}

impl Queue {
    /// Begins the thread that calls `write` with each line.
    pub(crate) fn new(purpose: Purpose, write: impl FnMut(&str) + Send + 'static) -> io::Result<Arc<Self>> {
        let (filled, emptied) = (Condvar::new(), Condvar::new());
        let queue = Arc::new(Self { purpose, state: Mutex::default(), filled, emptied });
        let writer = Arc::clone(&queue);
        thread::Builder::new().name(purpose.name.into()).spawn(move || writer.write(write))?;
        Ok(queue)
    }

    /// Has the line written when its turn comes. Never waits.
    pub(crate) fn push(&self, line: String) {
        let mut state = self.state();
        let idle = state.is_done();
        state.push(line, &self.purpose);
        drop(state);
        if idle {
            self.filled.notify_one();
        }
    }

    /// The same, unless such a line waits already.
    pub(crate) fn push_once(&self, line: String) {
        if !self.state().lines.contains(&line) {
            self.push(line);
        }
    }

    /// The same, unless any line waits already.
    pub(crate) fn push_if_empty(&self, line: String) {
        if self.state().lines.is_empty() {
            self.push(line);
        }
    }

    /// Waits until all is written, but not for a reader that has stalled.
    pub(crate) fn flush(&self) {
        let begun = Instant::now();
        let mut state = self.state();
        while begun.elapsed() < LONGEST {
            let before = state.written;
            let waited =
                self.emptied.wait_timeout_while(state, self.purpose.patience, |state| !state.is_done());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.is_done() || state.written == before {
                return;
            }
        }
    }

    /// Goes on without end; the process does not wait for it.
    fn write(&self, mut write: impl FnMut(&str)) {
        let mut state = self.state();
        loop {
            if let Some(line) = state.pop(&self.purpose) {
                state.writing = true;
                drop(state);
                write(&line);
                state = self.state();
                state.writing = false;
                state.written += 1;
            } else {
                self.emptied.notify_all();
                state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PURPOSE: Purpose = Purpose {
        name: "test",
        most: 100,
        patience: Duration::ZERO,
        note: |count| format!("{count} were dropped"),
    };

    #[test]
    fn what_is_dropped_is_told_in_its_place() {
        let mut state = State::default();
        for number in 0..PURPOSE.most + 3 {
            state.push(format!("{number}"), &PURPOSE);
        }
        assert_eq!((state.lines.len(), state.dropped), (PURPOSE.most, 3));
        // Half of it is still there.
        state.lines.drain(..PURPOSE.most / 2);
        state.push("one more".into(), &PURPOSE);
        assert_eq!(state.dropped, 4);
        state.lines.pop_front();
        state.push("after".into(), &PURPOSE);
        let last: Vec<_> = state.lines.iter().rev().take(3).map(String::as_str).collect();
        assert_eq!(last, ["after", "4 were dropped", &(PURPOSE.most - 1).to_string()]);
    }

    #[test]
    fn what_is_dropped_last_is_told_too() {
        let mut state = State { dropped: 2, ..State::default() };
        assert!(!state.is_done());
        assert_eq!(state.pop(&PURPOSE).as_deref(), Some("2 were dropped"));
        assert!(state.pop(&PURPOSE).is_none() && state.is_done());
    }
}
