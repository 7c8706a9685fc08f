//! The signals that end a program.

use std::fmt;

use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Error, ErrorKind};

/// SIGTERM and SIGINT; from when it is made they no longer end the process.
pub(crate) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Terminate,
    Interrupt,
}

impl Signals {
    pub(crate) fn new() -> Result<Self, Error> {
        let watch = |kind| {
            signal(kind)
                .map_err(|error| Error::new(ErrorKind::Internal, format!("cannot wait for signals: {error}")))
        };
        Ok(Self { terminate: watch(SignalKind::terminate())?, interrupt: watch(SignalKind::interrupt())? })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.interrupt.recv() => Signal::Interrupt,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        })
    }
}
