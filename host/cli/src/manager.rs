//! The service manager, systemd, where it started the process and wants to hear from it.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use endpoints::Error;
use sd_notify::NotifyState;

use crate::output::harmless;
use crate::queue::{Purpose, Queue};

/// Its socket takes few messages until they are read, and then blocks.
const MESSAGES: Purpose =
    Purpose { name: "manager", most: 64, patience: Duration::from_millis(200), note: dropped };

/// What it is to be told; nothing where it cannot be.
static QUEUE: OnceLock<Option<Arc<Queue>>> = OnceLock::new();

/// Tells it that connections are accepted.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Tells it that the process stops.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Tells it that the configuration is being read anew; [`ready`] says when that is done.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the service manager cannot be told"),
    }
}

/// Tells it that the process is alive.
pub(crate) fn alive() {
    if let Some(queue) = queue() {
        queue.push_once(text(&[NotifyState::Watchdog]));
    }
}

/// The longest status that it is told, in characters.
const LONGEST: usize = 200;

/// Tells it that the reload was refused, so that all goes on as before, and why.
pub(crate) fn reload_refused(error: &Error) {
    ready_with(&format!("the reload was refused: {}", error.message()));
}

/// Tells it that connections are accepted, and what else is to be known.
pub(crate) fn ready_with(status: &str) {
    let mut status = harmless(status);
    if let Some((end, _)) = status.char_indices().nth(LONGEST) {
        let (last, _) = status[..end].char_indices().next_back().unwrap_or_default();
        status.replace_range(last.., "…");
    }
    tell(&[NotifyState::Status(&status), NotifyState::Ready]);
}

/// Waits until it has all that it was told, but not where it reads nothing.
pub(crate) fn flush() {
    if let Some(Some(queue)) = QUEUE.get() {
        queue.flush();
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Some(queue) = queue() {
        queue.push(text(states));
    }
}

fn queue() -> Option<&'static Queue> {
    let begin = || {
        let path = std::env::var_os("NOTIFY_SOCKET")?;
        Queue::new(MESSAGES, move |message| send(&path, message)).inspect_err(failed).ok()
    };
    QUEUE.get_or_init(begin).as_deref()
}

/// As [`sd_notify::notify`] would write it.
fn text(states: &[NotifyState<'_>]) -> String {
    states.iter().map(|state| format!("{state}\n")).collect()
}

fn send(path: &OsStr, message: &str) {
    let sent = || {
        let socket = UnixDatagram::unbound()?;
        // An abstract name, as in sd_notify(3), which `sd_notify::notify` takes for a path.
        let address = match path.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(path)?,
        };
        // It is sent as a whole or not at all.
        socket.send_to_addr(message.as_bytes(), &address).map(drop)
    };
    if !message.is_empty()
        && let Err(error) = sent()
    {
        failed(&error);
    }
}

fn failed(error: &io::Error) {
    tracing::warn!(%error, "the service manager cannot be told");
}

/// It would not understand.
fn dropped(count: u64) -> String {
    tracing::warn!(count, "the service manager read nothing, and was not told all");
    String::new()
}
