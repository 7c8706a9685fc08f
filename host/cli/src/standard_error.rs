//! Standard error. While something is served, nothing that writes there waits for who reads it.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fs::File;
use std::io::{self, IsTerminal, Write, stderr};
use std::os::fd::AsFd;
use std::panic::{self, PanicHookInfo};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use crate::events;
use crate::queue::{Purpose, Queue};

/// What is written while something is served.
static QUEUE: OnceLock<Arc<Queue>> = OnceLock::new();

static LIVE: Mutex<Live> = Mutex::new(Live { line: String::new(), shown: false });

/// From now on what is written waits in a queue. What does not fit is dropped, which is told as text or as JSON.
pub(crate) fn queue(json: bool) -> io::Result<()> {
    // Of its own: the lock of the one that all have may be held by who waits for the reader.
    let mut output = File::from(stderr().as_fd().try_clone_to_owned()?);
    let note: fn(u64) -> String = if json { events::dropped } else { dropped };
    let purpose = Purpose { name: "stderr", most: 4096, patience: Duration::from_millis(200), note };
    let queue = Queue::new(purpose, move |text| {
        let text = LIVE.lock().unwrap_or_else(PoisonError::into_inner).below(text);
        _ = output.write_all(text.as_bytes());
    })?;
    if QUEUE.set(queue).is_ok() {
        panic::set_hook(Box::new(panicked));
    }
    Ok(())
}

/// Writes a text, if that is possible.
pub(crate) fn write(text: String) {
    match QUEUE.get() {
        Some(queue) => queue.push(text),
        None => _ = stderr().lock().write_all(text.as_bytes()),
    }
}

/// Whether it is a terminal that knows escape sequences.
pub(crate) fn is_terminal() -> bool {
    let capable = std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
    capable && stderr().is_terminal()
}

/// Shows `line` beneath all that is written, in place of the one before; an empty one is none. It is for terminals, and
/// for what serves: only what goes through the queue is written above it.
pub(crate) fn set_live_line(line: String) {
    if let Some(queue) = QUEUE.get() {
        LIVE.lock().unwrap_or_else(PoisonError::into_inner).line = line;
        // What waits already brings it along.
        queue.push_if_empty(String::new());
    }
}

/// The line at the bottom of a terminal that changes in place.
#[derive(Debug, Default)]
struct Live {
    line: String,
    /// Whether one stands on the terminal.
    shown: bool,
}

impl Live {
    /// `text`, which ends its last line, with the live line below it and no longer above.
    fn below(&mut self, text: &str) -> String {
        // To the line's start, and all of it erased.
        let erase = if self.shown { "\r\x1b[K" } else { "" };
        self.shown = !self.line.is_empty();
        format!("{erase}{text}{}", self.line)
    }
}

/// Waits until all is written, but not for a reader that has stalled.
pub(crate) fn flush() {
    if let Some(queue) = QUEUE.get() {
        queue.flush();
    }
}

/// For the log, which writes each of its entries at once.
pub(crate) struct Log;

impl Write for Log {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        write(String::from_utf8_lossy(entry).into_owned());
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn dropped(count: u64) -> String {
    format!("{count} lines were dropped here, since nobody read them in time\n")
}

/// What the standard library would write itself.
fn panicked(panic: &PanicHookInfo<'_>) {
    let current = thread::current();
    let name = current.name().unwrap_or("<unnamed>");
    let backtrace = Backtrace::capture();
    let backtrace = match backtrace.status() {
        BacktraceStatus::Captured => format!("stack backtrace:\n{backtrace}"),
        _ => String::new(),
    };
    write(format!("\nthread '{name}' {panic}\n{backtrace}"));
    if name == "main" {
        // Perhaps its last words.
        flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_live_line_stays_below_what_is_written() {
        let mut live = Live::default();
        assert_eq!(live.below("listening\n"), "listening\n");
        live.line = "1 open".into();
        assert_eq!(live.below(""), "1 open");
        assert_eq!(live.below("a warning\n"), "\r\x1b[Ka warning\n1 open");
        live.line.clear();
        assert_eq!(live.below(""), "\r\x1b[K");
        assert_eq!(live.below("stopped\n"), "stopped\n");
    }
}
