//! Lines on their way to a reader that may be slow, or stall.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How many lines wait for the reader at most.
const MOST: usize = 4096;

/// How long the reader may take nothing at the end until what still waits is given up.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many times [`PATIENCE`] is had with a reader that is slow.
const ROUNDS: u32 = 5;

/// Hands lines to a thread that writes them, so that who has something to say never waits for who reads it.
///
/// When too many wait, more are dropped, and counted; a line that tells the count follows when there is room again.
#[derive(Debug)]
pub(crate) struct Queue {
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
    fn push(&mut self, line: String) {
        // Once full it stays so until half of it is gone, so that not every other line tells of one that was dropped.
        let most = if self.dropped > 0 { MOST / 2 } else { MOST };
        if self.lines.len() >= most {
            self.dropped += 1;
            return;
        }
        if let Some(note) = self.note() {
            self.lines.push_back(note);
        }
        self.lines.push_back(line);
    }

    fn pop(&mut self) -> Option<String> {
        self.lines.pop_front().or_else(|| self.note())
    }

    /// What is to be said in the place of what was dropped.
    fn note(&mut self) -> Option<String> {
        let count = std::mem::take(&mut self.dropped);
        (count > 0).then(|| format!("{}\n", serde_json::json!({ "event": "dropped", "count": count })))
    }

    fn is_done(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0 && !self.writing
    }
}

impl Queue {
    /// Begins the thread that writes to `output`.
    pub(crate) fn new(output: OwnedFd) -> io::Result<Arc<Self>> {
        let queue =
            Arc::new(Self { state: Mutex::default(), filled: Condvar::new(), emptied: Condvar::new() });
        let writer = Arc::clone(&queue);
        thread::Builder::new().name("events".into()).spawn(move || writer.write(File::from(output)))?;
        Ok(queue)
    }

    /// Has the line written when its turn comes. Never waits.
    pub(crate) fn push(&self, line: String) {
        let mut state = self.state();
        let idle = state.is_done();
        state.push(line);
        drop(state);
        if idle {
            self.filled.notify_one();
        }
    }

    /// Waits until all is written, but not for a reader that has stalled.
    pub(crate) fn flush(&self) {
        let mut state = self.state();
        for _ in 0..ROUNDS {
            let before = state.written;
            let waited = self.emptied.wait_timeout_while(state, PATIENCE, |state| !state.is_done());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.is_done() || state.written == before {
                return;
            }
        }
    }

    /// Goes on without end; the process does not wait for it.
    fn write(&self, mut output: File) {
        let mut state = self.state();
        loop {
            if let Some(line) = state.pop() {
                state.writing = true;
                drop(state);
                // A service goes on also when nobody reads its events.
                let _ = output.write_all(line.as_bytes());
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

    #[test]
    fn what_is_dropped_is_told_in_its_place() {
        let mut state = State::default();
        for number in 0..MOST + 3 {
            state.push(format!("{number}"));
        }
        assert_eq!((state.lines.len(), state.dropped), (MOST, 3));
        // Half of it is still there.
        state.lines.drain(..MOST / 2);
        state.push("one more".into());
        assert_eq!(state.dropped, 4);
        state.lines.pop_front();
        state.push("after".into());
        let last: Vec<_> = state.lines.iter().rev().take(3).map(String::as_str).collect();
        assert_eq!(last, ["after", "{\"count\":4,\"event\":\"dropped\"}\n", &(MOST - 1).to_string()]);
    }

    #[test]
    fn what_is_dropped_last_is_told_too() {
        let mut state = State { dropped: 2, ..State::default() };
        assert!(!state.is_done());
        assert_eq!(state.pop().as_deref(), Some("{\"count\":2,\"event\":\"dropped\"}\n"));
        assert!(state.pop().is_none() && state.is_done());
    }
}
