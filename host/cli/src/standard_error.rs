//! Standard error. While something is served, nothing that writes there waits for who reads it.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fs::File;
use std::io::{self, Write, stderr};
use std::os::fd::AsFd;
use std::panic::{self, PanicHookInfo};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use crate::events;
use crate::queue::{Purpose, Queue};

/// What is written while something is served.
static QUEUE: OnceLock<Arc<Queue>> = OnceLock::new();

/// From now on what is written waits in a queue. What does not fit is dropped, which is told as text or as JSON.
pub(crate) fn queue(json: bool) -> io::Result<()> {
    // Of its own: the lock of the one that all have may be held by who waits for the reader.
    let mut output = File::from(stderr().as_fd().try_clone_to_owned()?);
    let note: fn(u64) -> String = if json { events::dropped } else { dropped };
    let purpose = Purpose { name: "stderr", most: 4096, patience: Duration::from_millis(200), note };
    let queue = Queue::new(purpose, move |text| _ = output.write_all(text.as_bytes()))?;
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
