//! What commands that run for long have in common: a runtime, signals, the service manager.

use std::future::Future;

use endpoints::serve::Outcome as Served;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::{Failure, Outcome};

/// A runtime with so many threads.
pub(crate) fn runtime(workers: usize) -> Result<Runtime, Failure> {
    let mut builder = if workers == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    if workers > 1 {
        builder.worker_threads(workers);
    }
    builder.enable_all().build().map_err(|error| Failure::system("cannot begin", &error))
}

/// Runs `future`, and leaves behind what still blocks a thread, such as reading standard input.
pub(crate) fn block_on(workers: usize, future: impl Future<Output = Outcome>) -> Outcome {
    let runtime = runtime(workers)?;
    let outcome = runtime.block_on(future);
    runtime.shutdown_background();
    outcome
}

/// SIGTERM and SIGINT.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on the signals do not end the process by themselves. Needs a runtime.
    pub(crate) fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::system("cannot wait for signals", &error));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate().as_raw_value(),
            _ = self.interrupt.recv() => SignalKind::interrupt().as_raw_value(),
        }
    }

    /// Waits for the first signal. A second one ends the process at once.
    pub(crate) async fn stop(mut self) {
        self.next().await;
        tell_manager(&NotifyState::Stopping);
        tokio::spawn(async move {
            let number = self.next().await;
            std::process::exit(128 + number);
        });
    }
}

/// Tells systemd, where it started the process, that connections are accepted.
pub(crate) fn ready() {
    tell_manager(&NotifyState::Ready);
}

fn tell_manager(state: &NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(std::slice::from_ref(state)) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

/// Allows the process as many descriptors as it may have. Not where commands are run: what they inherit stays as it was.
pub(crate) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some() && limit.current != limit.maximum {
        if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
            tracing::debug!(%error, "the limit of descriptors stays as it is");
        }
    }
}

/// The exit status of a service.
pub(crate) fn ended(served: Served) -> Outcome {
    match served.error {
        Some(error) => Err(error.into()),
        None if served.cut > 0 => Ok(1.into()),
        None => Ok(0.into()),
    }
}
