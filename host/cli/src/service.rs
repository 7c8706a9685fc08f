//! What commands that run for long have in common: a runtime, signals, a limit of descriptors.

use std::future::Future;
use std::io;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use endpoints::serve::{Event, Outcome as Served, Workers};
use endpoints::{Error, Listener, ServerEndpoint};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::events::Events;
use crate::exec;
use crate::failure::{Failure, Outcome};
use crate::manager;

/// A runtime with so many threads.
pub(crate) fn runtime(workers: usize) -> Result<Runtime, Failure> {
    // What a runtime takes. The first one panics where there is none left of its own two for signals.
    for reserved in [UnixStream::pair(), UnixStream::pair(), UnixStream::pair()] {
        reserved.map_err(|error| Failure::system("cannot begin", &error))?;
    }
    let mut builder = if workers == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    if workers > 1 {
        builder.worker_threads(workers);
    }
    builder.enable_all().build().map_err(|error| Failure::system("cannot begin", &error))
}

/// Runs `future`, has its events written, and leaves behind what still blocks a thread, such as reading standard input.
pub(crate) fn block_on(workers: usize, events: &Events, future: impl Future<Output = Outcome>) -> Outcome {
    let runtime = runtime(workers)?;
    let outcome = runtime.block_on(future);
    runtime.shutdown_background();
    events.flush();
    outcome
}

/// The same with what serves until SIGTERM or SIGINT stops it; a second one ends it at once.
pub(crate) fn serve<F>(runtime: Runtime, events: &Events, serving: impl FnOnce(Stop) -> F) -> Outcome
where
    F: Future<Output = Outcome>,
{
    serve_with(runtime, None, events, serving)
}

/// The same with workers.
pub(crate) fn serve_with<F>(
    runtime: Runtime,
    workers: Option<Workers>,
    events: &Events,
    serving: impl FnOnce(Stop) -> F,
) -> Outcome
where
    F: Future<Output = Outcome>,
{
    let (stop, end) = signals().map_err(|error| no_signals(&error))?;
    let ended = runtime.block_on(async {
        tokio::select! {
            outcome = serving(stop) => Ok(outcome),
            number = end.wait() => Err(number),
        }
    });
    let outcome = match ended {
        Ok(outcome) => {
            runtime.shutdown_background();
            outcome
        }
        Err(number) => {
            // Connections that are open tell their end when they are dropped.
            runtime.shutdown_timeout(TO_CUT);
            if let Some(workers) = workers {
                workers.shutdown_timeout(TO_CUT);
            }
            Ok(ExitCode::from(128 + number))
        }
    };
    events.flush();
    outcome
}

/// How long all connections may take to be cut at the second signal. What blocks a thread takes all of it.
const TO_CUT: Duration = Duration::from_millis(200);

/// When the process ends after the second signal, whatever holds it up.
const PATIENCE: Duration = Duration::from_secs(1);

/// The first of SIGTERM and SIGINT.
#[derive(Clone)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    pub(crate) async fn wait(mut self) {
        // The thread that sends it does not end before the process.
        let _ = self.0.wait_for(|stopped| *stopped).await;
        manager::stopping();
    }
}

/// The second one.
struct End(watch::Receiver<Option<u8>>);

impl End {
    /// Its number.
    async fn wait(mut self) -> u8 {
        match self.0.wait_for(Option::is_some).await.ok().and_then(|number| *number) {
            Some(number) => number,
            None => std::future::pending().await,
        }
    }
}

/// From now on SIGHUP does not end the process: it is heard here, as soon as that is awaited.
pub(crate) fn hangups(runtime: &Runtime) -> Result<Signal, Failure> {
    let _within = runtime.enter();
    signal(SignalKind::hangup()).map_err(|error| no_signals(&error))
}

fn no_signals(error: &io::Error) -> Failure {
    Failure::system("cannot wait for signals", error)
}

/// From now on SIGTERM and SIGINT do not end the process by themselves.
///
/// They are awaited on a thread of their own, which nothing else can hold up.
fn signals() -> io::Result<(Stop, End)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut arriving = {
        let _within = runtime.enter();
        Arriving { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? }
    };
    let (stop, stopped) = watch::channel(false);
    let (end, ended) = watch::channel(None);
    thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            arriving.next().await;
            stop.send_replace(true);
            let number = arriving.next().await;
            exec::kill_all();
            end.send_replace(Some(number));
            let _ = timeout(PATIENCE, arriving.next()).await;
            std::process::exit(128 + i32::from(number));
        })
    })?;
    Ok((Stop(stopped), End(ended)))
}

struct Arriving {
    terminate: Signal,
    interrupt: Signal,
}

impl Arriving {
    /// The number of the next one.
    async fn next(&mut self) -> u8 {
        let kind = tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        };
        kind.as_raw_value() as u8
    }
}

/// How many connections may wait to be accepted where a description does not say: some hundred clients may come at once, and
/// who finds the backlog full tries again a second later. The system has a limit of its own.
pub(crate) const BACKLOG: u32 = 4096;

/// Listens for many connections.
pub(crate) async fn listen(server: &ServerEndpoint) -> Result<Listener, Error> {
    let listener = server.listen().await?;
    listener.set_default_backlog(BACKLOG)?;
    Ok(listener)
}

/// What `begin` comes to, or nothing where it is told to stop before.
pub(crate) async fn unless_stopped<T>(
    begin: impl Future<Output = Result<T, Error>>,
    stop: Pin<&mut impl Future<Output = ()>>,
) -> Result<Option<T>, Error> {
    tokio::select! {
        begun = begin => begun.map(Some),
        () = stop => Ok(None),
    }
}

/// The same for the one thing that the command does, whose end is told.
pub(crate) async fn listen_unless_stopped<T>(
    listen: impl Future<Output = Result<T, Error>>,
    stop: Pin<&mut impl Future<Output = ()>>,
    events: &Events,
) -> Result<Option<T>, Error> {
    let listening = unless_stopped(listen, stop).await?;
    if listening.is_none() {
        events.tell(&Event::Stopped);
    }
    Ok(listening)
}

/// The limit of descriptors before it was raised.
static RAISED_FROM: OnceLock<u64> = OnceLock::new();

/// Allows the process as many descriptors as it may have. Commands are given the limit back that was there, which takes each of
/// them another exec(2).
pub(crate) fn raise_descriptor_limit() {
    let Rlimit { current: Some(current), maximum } = getrlimit(Resource::Nofile) else { return };
    if maximum == Some(current) {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => _ = RAISED_FROM.set(current),
        Err(error) => tracing::debug!(%error, "the limit of descriptors stays as it is"),
    }
}

/// The limit of descriptors that is meant for commands, where this process has raised its own.
pub(crate) fn lower_descriptor_limit() -> Option<u64> {
    RAISED_FROM.get().copied()
}

/// Limits this process to so many descriptors.
pub(crate) fn limit_descriptors(most: u64) -> io::Result<()> {
    let limit = Rlimit { current: Some(most), ..getrlimit(Resource::Nofile) };
    Ok(setrlimit(Resource::Nofile, limit)?)
}

/// The exit status of a service. Where the listener's connections came to an end, that one failed counts too.
pub(crate) fn ended(served: Served, events: &Events) -> Outcome {
    match served.error {
        Some(error) => Err(error.into()),
        None if served.exhausted && events.has_failed() => Ok(1.into()),
        None if served.cut > 0 => {
            let cut = served.cut;
            tracing::warn!(
                cut,
                "connections were cut: they were still open when the drain timeout had passed"
            );
            Ok(1.into())
        }
        None => Ok(0.into()),
    }
}
