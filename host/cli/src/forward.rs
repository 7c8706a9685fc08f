//! `endpoints forward`: the relay.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use endpoints::forward::Forward;
use endpoints::serve::{Serve, Workers};
use endpoints::{ClientEndpoint, Error, Listener, ServerEndpoint};

use crate::context::Context;
use crate::events::Events;
use crate::failure::{Failure, Outcome};
use crate::manager;
use crate::options::{Limits, duration, some_time, threads};
use crate::progress;
use crate::service::{self, Stop, runtime, serve_with};
use crate::standard::are_standard_streams;
use crate::statistics::{self, Statistics};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where to listen
    server: OsString,
    /// Where to connect to for every connection
    client: OsString,
    #[command(flatten)]
    limits: Limits,
    /// Give connecting at most so much time, beside the description's own limit
    #[arg(long, value_name = "S", value_parser = some_time)]
    connect_timeout: Option<Duration>,
    /// How long open connections may go on after SIGTERM or SIGINT
    #[arg(long, value_name = "S", value_parser = duration, default_value = "30")]
    drain_timeout: Duration,
    /// How many threads accept and relay; unless given, the processors available
    #[arg(long, value_name = "N", value_parser = threads)]
    workers: Option<u16>,
    /// Serve /stats (JSON) and /metrics (Prometheus) over HTTP on this endpoint
    #[arg(long, value_name = "SERVER")]
    stats: Option<OsString>,
    /// Show once a second what is going on: on a terminal in one line that changes in place
    #[arg(long)]
    progress: bool,
}

pub(crate) fn run(context: &Context, mut options: Options) -> Outcome {
    context.queue_standard_error()?;
    let registry = context.registry()?;
    let server = registry.server(std::mem::take(&mut options.server).into_vec())?;
    let client = registry.client(std::mem::take(&mut options.client).into_vec())?;
    let stats = options.stats.take().map(|stats| registry.server(stats.into_vec()));
    let stats = stats.transpose().map_err(of_statistics)?;
    service::raise_descriptor_limit();
    let endpoints =
        [Some(server.explain()), Some(client.explain()), stats.as_ref().map(ServerEndpoint::explain)];
    let output_is_taken = endpoints.iter().flatten().any(are_standard_streams);
    let events = Events::new(context, output_is_taken)?;
    let workers = options
        .workers
        .map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
    // The first thread is this one, and its runtime comes first.
    let runtime = runtime(1)?;
    let workers = Workers::new(workers - 1).map_err(|error| Failure::system("cannot begin", &error))?;
    let relay = |stop| relay(&server, client, stats.as_ref(), &options, &workers, &events, stop);
    serve_with(runtime, Some(workers.clone()), &events, relay)
}

async fn relay(
    server: &ServerEndpoint,
    client: ClientEndpoint,
    stats: Option<&ServerEndpoint>,
    options: &Options,
    workers: &Workers,
    events: &Events,
    stop: Stop,
) -> Outcome {
    let mut stop = pin!(stop.wait());
    let listen = async {
        let listener = service::listen(server).await?;
        let stats = match stats {
            Some(stats) => Some(stats.listen().await.map_err(of_statistics)?),
            None => None,
        };
        Ok((listener, stats))
    };
    let Some((listener, stats)) = service::listen_unless_stopped(listen, stop.as_mut(), events).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let statistics = Arc::new(Statistics::default());
    events.listening(&listener);
    if let Some(stats) = &stats {
        events.statistics(stats);
    }
    manager::ready();
    let stats = stats.map(|listener| tokio::spawn(serve_statistics(listener, Arc::clone(&statistics))));
    let progress = options.progress.then(|| tokio::spawn(progress::show(Arc::clone(&statistics))));
    let mut forward = set_up(listener, client, options, workers, &statistics, events.clone());
    if stats.is_some() || progress.is_some() {
        forward = forward.meter(Arc::clone(&statistics.meter));
    }
    let served = forward.run(stop).await;
    for task in stats.into_iter().chain(progress) {
        task.abort();
        // Until it has let go of its listener.
        let _ = task.await;
    }
    service::ended(served, events)
}

fn set_up(
    listener: Listener,
    client: ClientEndpoint,
    options: &Options,
    workers: &Workers,
    statistics: &Arc<Statistics>,
    events: Events,
) -> Forward {
    let counted = Arc::clone(statistics);
    let mut forward = Forward::new(listener, client)
        .workers(workers)
        .drain_timeout(options.drain_timeout)
        .handshake_timeout(options.limits.handshake_timeout)
        .on_event(move |event| {
            counted.count(event);
            events.tell(event);
        });
    if let Some(most) = options.limits.max_connections {
        forward = forward.max_connections(most as usize).when_full(options.limits.when_full.into());
    }
    if let Some(most) = options.limits.max_per_peer {
        forward = forward.max_per_peer(most as usize);
    }
    if let Some(most) = options.limits.max_handshakes {
        forward = forward.max_handshakes(most as usize);
    }
    if let Some(limit) = options.connect_timeout {
        forward = forward.connect_timeout(limit);
    }
    if let Some(limit) = options.limits.idle_timeout {
        forward = forward.idle_timeout(limit);
    }
    forward
}

/// Of several descriptions, an error names the one that stands with an option.
fn of_statistics(error: Error) -> Error {
    error.context("--stats")
}

async fn serve_statistics(listener: Listener, statistics: Arc<Statistics>) {
    let serve = Serve::new(listener).max_connections(statistics::MOST_READERS).serve_from_reserve();
    let handle = move |_, incoming| statistics::answer(incoming, Arc::clone(&statistics));
    let _ = serve.run(handle, std::future::pending()).await;
}
