//! What a check comes to, and the steps that checks are made of, each with a time limit.

use std::fmt::Display;
use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use endpoints::{Connection, Error, ErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Why a check did not simply pass.
#[derive(Debug)]
pub(crate) enum Finding {
    /// The plugin breaks the contract.
    Fails(String),
    /// It keeps the contract, but its users would wish otherwise.
    Warns(String),
    /// The check says nothing about this plugin, for this reason.
    Skips(String),
}

/// What a check comes to: nothing, where it passes.
pub(crate) type Verdict<T = ()> = Result<T, Finding>;

pub(crate) fn fails<T>(message: impl Into<String>) -> Verdict<T> {
    Err(Finding::Fails(message.into()))
}

pub(crate) fn warns<T>(message: impl Into<String>) -> Verdict<T> {
    Err(Finding::Warns(message.into()))
}

pub(crate) fn skips<T>(reason: impl Into<String>) -> Verdict<T> {
    Err(Finding::Skips(reason.into()))
}

/// Fails with the message unless the condition holds.
pub(crate) fn ensure(condition: bool, message: impl FnOnce() -> String) -> Verdict {
    if condition { Ok(()) } else { fails(message()) }
}

/// How long a step may take that should take no time at all: five seconds, less where a whole check has little time.
pub(crate) fn step_limit() -> Duration {
    STEP.get().copied().unwrap_or(LONGEST_STEP)
}

const LONGEST_STEP: Duration = Duration::from_secs(5);

static STEP: OnceLock<Duration> = OnceLock::new();

/// Shares the time of a check among its steps.
pub(crate) fn limit_steps(check: Duration) {
    let _ = STEP.set((check / 5).min(LONGEST_STEP));
}

/// Waits for a step, at most so long.
pub(crate) async fn within<T>(what: &str, step: impl Future<Output = T>) -> Verdict<T> {
    let limit = step_limit();
    match tokio::time::timeout(limit, step).await {
        Ok(done) => Ok(done),
        Err(_) => fails(format!("{what} did not end within {limit:?}")),
    }
}

/// A step that must succeed.
pub(crate) trait Step<T> {
    /// What it gives, or a finding that says what failed.
    fn step(self, what: &str) -> Verdict<T>;
}

impl<T> Step<T> for Result<T, Error> {
    fn step(self, what: &str) -> Verdict<T> {
        self.map_err(|error| Finding::Fails(format!("{what} failed: {}", told(&error))))
    }
}

impl<T> Step<T> for io::Result<T> {
    fn step(self, what: &str) -> Verdict<T> {
        self.map_err(|error| Finding::Fails(format!("{what} failed: {error}")))
    }
}

/// An error with its kind, for people.
pub(crate) fn told(error: &Error) -> String {
    format!("{} ({})", error.message(), error.kind().name())
}

/// Accepts an error as long as it is no panic and no broken promise.
pub(crate) fn orderly(what: &str, error: &Error) -> Verdict {
    ensure(!matches!(error.kind(), ErrorKind::PluginPanicked | ErrorKind::Internal), || {
        format!("{what}: {}", told(error))
    })
}

/// Accepts an error of a read or write as long as it is no panic.
pub(crate) fn orderly_io(what: &str, error: &io::Error) -> Verdict {
    let panicked = error.to_string().contains("the plugin behind this connection");
    ensure(!panicked, || format!("{what}: {error}"))
}

/// Writes all bytes and flushes.
pub(crate) async fn send(connection: &mut Connection, bytes: &[u8], what: impl Display) -> Verdict {
    let sending = async {
        connection.write_all(bytes).await?;
        connection.flush().await
    };
    within(&format!("writing {what}"), sending).await?.step(&format!("writing {what}"))
}

/// Reads as many bytes as are expected, and compares.
pub(crate) async fn expect(connection: &mut Connection, bytes: &[u8], what: impl Display) -> Verdict {
    let mut read = vec![0; bytes.len()];
    let doing = format!("reading {what}");
    within(&doing, connection.read_exact(&mut read)).await?.step(&doing)?;
    match read.iter().zip(bytes).position(|(read, sent)| read != sent) {
        None => Ok(()),
        Some(place) => fails(format!("{what}: byte {place} of {} is not what was sent", bytes.len())),
    }
}

/// Reads the end of the stream.
pub(crate) async fn expect_end(connection: &mut Connection, what: impl Display) -> Verdict {
    let mut byte = [0; 1];
    let doing = format!("reading the end {what}");
    match within(&doing, connection.read(&mut byte)).await?.step(&doing)? {
        0 => Ok(()),
        _ => fails(format!("there are bytes in place of the end {what}")),
    }
}

/// Reads until the end of the stream or an error, whichever comes; the peer is gone.
pub(crate) async fn expect_gone(connection: &mut Connection, what: impl Display) -> Verdict {
    let mut rest = Vec::new();
    let doing = format!("noticing that the peer is gone {what}");
    match within(&doing, connection.read_to_end(&mut rest)).await? {
        Ok(_) => Ok(()),
        Err(error) => orderly_io(&doing, &error),
    }
}

/// Ends the sending direction.
pub(crate) async fn end(connection: &mut Connection, what: impl Display) -> Verdict {
    let doing = format!("shutting down {what}");
    within(&doing, connection.shutdown()).await?.step(&doing)
}

/// Bytes that differ from place to place, with no short period.
pub(crate) fn pattern(count: usize, seed: u8) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32 ^ u32::from(seed);
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    };
    (0..count).map(next).collect()
}
