//! `endpoints listen`: serves connections without a second endpoint.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use endpoints::serve::{Event, Serve};
use endpoints::{Error, ErrorKind, Incoming, Listener, ServerEndpoint};

use crate::connect::join;
use crate::context::Context;
use crate::events::Events;
use crate::failure::{Failure, Outcome};
use crate::manager;
use crate::options::{Limits, duration};
use crate::service::{self, Stop, runtime, serve};
use crate::standard::{are_standard_streams, refuse_standard_streams};
use crate::work::{Open, Work};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where to listen
    server: OsString,
    /// Send every connection back what it sends
    #[arg(long, conflicts_with = "exec")]
    echo: bool,
    /// Run this command for every connection, its standard input and output joined to it; all that follows belongs to it
    #[arg(long, value_name = "CMD", num_args = 1.., allow_hyphen_values = true)]
    exec: Option<Vec<OsString>>,
    #[command(flatten)]
    limits: Limits,
    /// How long open connections may go on after SIGTERM or SIGINT
    #[arg(long, value_name = "S", value_parser = duration, default_value = "30")]
    drain_timeout: Duration,
}

pub(crate) fn run(context: &Context, options: Options) -> Outcome {
    context.queue_standard_error()?;
    let server = context.registry()?.server(options.server.into_vec())?;
    let work = match (options.echo, options.exec) {
        (true, _) => Work::Echo,
        (false, Some(command)) => Work::Exec(command),
        (false, None) => {
            refuse_limits_of_many(&options.limits)?;
            let instead = "give --echo or --exec, or use `endpoints forward`";
            refuse_standard_streams(&server.explain(), instead)?;
            let events = Events::new(context, true)?;
            let one = |stop| one(&server, &events, stop, &options.limits, options.drain_timeout);
            return serve(runtime(1)?, &events, one);
        }
    };
    if matches!(work, Work::Echo) {
        service::raise_descriptor_limit();
    }
    let events = Events::new(context, are_standard_streams(&server.explain()))?;
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    serve(runtime(workers)?, &events, async |stop| {
        let mut stop = pin!(stop.wait());
        let listen = service::listen(&server);
        let listening = service::listen_unless_stopped(listen, stop.as_mut(), &events).await?;
        let Some(listener) = listening else { return Ok(ExitCode::SUCCESS) };
        events.listening(&listener);
        manager::ready();
        let observer = events.clone();
        let mut serve = Serve::new(listener)
            .drain_timeout(options.drain_timeout)
            .handshake_timeout(options.limits.handshake_timeout)
            .on_event(move |event| observer.tell(event));
        if let Some(most) = options.limits.max_connections {
            serve = serve.max_connections(most as usize).when_full(options.limits.when_full.into());
        }
        if let Some(most) = options.limits.max_per_peer {
            serve = serve.max_per_peer(most as usize);
        }
        if let Some(most) = options.limits.max_handshakes {
            serve = serve.max_handshakes(most as usize);
        }
        if let Some(limit) = options.limits.idle_timeout {
            serve = serve.idle_timeout(limit);
        }
        let work = Arc::new((work, events.clone()));
        let handle = move |id, incoming| {
            let shared = Arc::clone(&work);
            async move {
                let (work, events) = &*shared;
                work.serve(id, incoming, events).await;
            }
        };
        service::ended(serve.run(handle, stop).await, &events)
    })
}

/// Limits on several connections make no sense where there is one alone.
fn refuse_limits_of_many(limits: &Limits) -> Result<(), Error> {
    if limits.max_connections.or(limits.max_per_peer).or(limits.max_handshakes).is_none() {
        return Ok(());
    }
    let message = "--max-connections, --max-per-peer and --max-handshakes are for many connections: give --echo or --exec before";
    Err(Error::new(ErrorKind::InvalidArgument, message))
}

/// Joins the first connection to standard input and output.
async fn one(
    server: &ServerEndpoint,
    events: &Events,
    stop: Stop,
    limits: &Limits,
    drain_timeout: Duration,
) -> Outcome {
    let mut stop = pin!(stop.wait());
    let listening = service::listen_unless_stopped(server.listen(), stop.as_mut(), events).await?;
    let Some(listener) = listening else { return Ok(ExitCode::SUCCESS) };
    events.listening(&listener);
    manager::ready();
    let incoming = tokio::select! {
        incoming = first(&listener, events) => Some(incoming?),
        () = &mut stop => None,
    };
    listener.close().await?;
    let Some(incoming) = incoming else {
        events.tell(&Event::Draining);
        events.tell(&Event::Stopped);
        return Ok(ExitCode::SUCCESS);
    };
    events.tell(&Event::accepted(1, &incoming));
    let open = Open::new(1, events);
    let mut joined = Box::pin(async move {
        let mut connection = incoming.establish(limits.handshake_timeout).await?;
        connection.set_idle_timeout(limits.idle_timeout);
        join(connection, open).await
    });
    let outcome = tokio::select! {
        joined = &mut joined => joined,
        () = &mut stop => {
            events.tell(&Event::Draining);
            // It is cut then.
            let joined = tokio::time::timeout(drain_timeout, joined).await;
            events.tell(&Event::Stopped);
            match joined {
                Ok(joined) => joined,
                Err(_) => return Ok(ExitCode::FAILURE),
            }
        }
    };
    outcome.map(|()| ExitCode::SUCCESS)
}

/// The first connection; what accepting fails for meanwhile is told.
async fn first(listener: &Listener, events: &Events) -> Result<Incoming, Failure> {
    loop {
        match listener.accept().await {
            Ok(incoming) => return Ok(incoming),
            Err(error) if error.is_retryable() => {
                events.tell(&Event::error(None, &error));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
