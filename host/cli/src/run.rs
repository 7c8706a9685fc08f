//! `endpoints run`: several services from a file.

use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use endpoints::{Error, ErrorKind, Registry};
use tokio::signal::unix::Signal;
use tokio::time::timeout;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::context::Context;
use crate::events::Events;
use crate::failure::Outcome;
use crate::manager;
use crate::options::threads;
use crate::output::{harmless, print};
use crate::service::{self, Stop, serve};

mod file;
mod kept_up;
mod made;
mod set;

use made::Made;
use set::Set;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The file of services, in TOML
    file: PathBuf,
    /// Make all endpoints of the file, open nothing, and say whether all is well
    #[arg(long)]
    check: bool,
    /// How many threads serve; unless given, the processors available
    #[arg(long, value_name = "N", value_parser = threads)]
    workers: Option<u16>,
}

pub(crate) fn run(context: &Context, options: Options) -> Outcome {
    if options.check {
        let made = made::read(&options.file, &context.registry()?)?;
        return say_checked(context, &options, &made);
    }
    context.queue_standard_error()?;
    let workers = options
        .workers
        .map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
    let runtime = service::runtime(workers)?;
    // Before all that takes time: whoever has written the file need not know whether it has been read yet.
    let hangups = service::hangups(&runtime)?;
    let registry = context.registry()?;
    let made = made::read(&options.file, &registry)?;
    let uses_standard_streams = made.iter().any(Made::uses_standard_streams);
    let events = Events::new(context, uses_standard_streams)?;
    // Programs are given the limit that was there.
    service::raise_descriptor_limit();
    let running = Running {
        options,
        registry,
        events: events.clone(),
        uses_standard_streams,
        workers,
        had_trouble: false,
    };
    serve(runtime, &events, |stop| running.run(made, stop, hangups))
}

fn say_checked(context: &Context, options: &Options, made: &[Made]) -> Outcome {
    let names: Vec<&str> = made.iter().map(Made::name).collect();
    let text = if context.json() {
        format!("{}\n", serde_json::json!({ "services": names }))
    } else {
        let path = options.file.display().to_string();
        format!("{}: all is well with {}\n", harmless(&path), harmless(&names.join(", ")))
    };
    print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// How long a reload waits for the file.
const TO_READ: Duration = Duration::from_secs(10);

struct Running {
    options: Options,
    registry: Registry,
    events: Events,
    uses_standard_streams: bool,
    workers: usize,
    /// Whether systemd was told of any with the last reload: it keeps the status until it is told another.
    had_trouble: bool,
}

impl Running {
    async fn run(mut self, made: Vec<Made>, stop: Stop, mut hangups: Signal) -> Outcome {
        let mut stop = pin!(stop.wait());
        let mut set = Set::new(made, &self.events, self.workers);
        let Some(()) = service::unless_stopped(set.start(), stop.as_mut()).await? else {
            // What had been started is stopped.
            set.stop().await?;
            return Ok(ExitCode::SUCCESS);
        };
        manager::ready();
        let mut watchdog = Watchdog::new();
        let ended = loop {
            tokio::select! {
                () = &mut stop => break Ok(()),
                ended = set.ended() => {
                    manager::stopping();
                    break ended;
                }
                () = watchdog.serve() => {}
                _ = hangups.recv() => tokio::select! {
                    () = &mut stop => break Ok(()),
                    () = watchdog.serve() => {}
                    () = self.reload(&mut set) => {}
                },
            }
        };
        let failed = set.has_failed();
        // Draining may take longer than systemd waits for a word.
        let stopped = tokio::select! {
            stopped = set.stop() => stopped,
            () = watchdog.serve() => Ok(()),
        };
        ended.and(stopped)?;
        Ok(ExitCode::from(u8::from(failed)))
    }

    /// Reads the file anew. Where it is wrong, nothing changes.
    async fn reload(&mut self, set: &mut Set) {
        manager::reloading();
        match self.read(set).await {
            Ok(made) => {
                let changes = set.change(made).await;
                self.events.reloaded(&self.options.file, changes.sorts());
                let had_trouble = std::mem::replace(&mut self.had_trouble, !changes.failures.is_empty());
                if self.had_trouble {
                    manager::ready_with(&format!("reloaded; failed: {}", changes.failures.join("; ")));
                } else if had_trouble {
                    manager::ready_with("reloaded");
                } else {
                    manager::ready();
                }
            }
            Err(error) => {
                self.had_trouble = true;
                self.events.refused(&error);
                manager::reload_refused(&error);
            }
        }
    }

    async fn read(&self, set: &Set) -> Result<Vec<Made>, Error> {
        // A file may be on a disk that does not answer, or be a pipe.
        let (path, registry) = (self.options.file.clone(), self.registry.clone());
        let reading = tokio::task::spawn_blocking(move || made::read(&path, &registry));
        let made = timeout(TO_READ, reading)
            .await
            .map_err(|_| {
                let path = self.options.file.display();
                let message = format!("{path}: it cannot be read within {TO_READ:?}");
                Error::new(ErrorKind::TimedOut, message)
            })?
            .map_err(|error| Error::new(ErrorKind::Internal, format!("reading failed: {error}")))??;
        set.check(&made)?;
        // Where events go, and who reads them, was decided at the start.
        let late = made.iter().find(|made| !self.uses_standard_streams && made.uses_standard_streams());
        if let Some(made) = late {
            let message = format!(
                "service {:?} uses standard input or output, which none did when this process was started: start it anew",
                made.name()
            );
            return Err(Error::new(ErrorKind::InvalidSetting, message));
        }
        Ok(made)
    }
}

/// What a service manager wants to hear at times, if it does.
struct Watchdog(Option<Interval>);

impl Watchdog {
    fn new() -> Self {
        Self(sd_notify::watchdog_enabled().map(|limit| {
            let mut ticks = interval((limit / 2).max(Duration::from_millis(1)));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        }))
    }

    /// Tells it, for ever.
    async fn serve(&mut self) {
        match &mut self.0 {
            Some(ticks) => loop {
                ticks.tick().await;
                manager::alive();
            },
            None => std::future::pending().await,
        }
    }
}
