//! `endpoints connect`: standard input and output joined to a connection.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use endpoints::forward::relay;
use endpoints::serve::Event;
use endpoints::{ConnectContext, Connection, Error, ErrorKind};
use tokio::io::AsyncWriteExt;

use crate::context::Context;
use crate::events::Events;
use crate::failure::{Failure, Outcome};
use crate::options::duration;
use crate::service::block_on;
use crate::standard::refuse_standard_streams;
use crate::stdio::Stdio;
use crate::work::Open;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where to connect to
    client: OsString,
    /// Give connecting at most so much time: seconds, or with a unit as in 250ms
    #[arg(long, value_name = "S", value_parser = duration)]
    timeout: Option<Duration>,
}

pub(crate) fn run(context: &Context, options: Options) -> Outcome {
    context.queue_standard_error()?;
    let client = context.registry()?.client(options.client.into_vec())?;
    refuse_standard_streams(&client.explain(), "`endpoints forward` joins two endpoints to each other")?;
    let events = Events::new(context, true)?;
    block_on(1, &events, async {
        let mut attempt = ConnectContext::new();
        if let Some(limit) = options.timeout {
            attempt = attempt.with_timeout(limit);
        }
        let connection = client.connect_with(attempt).await?;
        events.tell(&Event::connected(1, None, &connection));
        join(connection, Open::new(1, &events)).await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Joins a connection to standard input and output until its end.
pub(crate) async fn join(mut connection: Connection, mut open: Open<'_>) -> Result<(), Failure> {
    let mut stdio = Stdio::new();
    let joined = relay(&mut connection, &mut stdio, None, &mut open.traffic).await;
    let flushed = stdio.flush().await;
    drop(open);
    if stdio.nobody_reads() {
        return Err(Failure::NobodyReads);
    }
    joined.map_err(|error| Error::new(kind(&error), format!("the connection broke: {error}")))?;
    flushed.map_err(|error| Failure::output(&error))
}

fn kind(error: &std::io::Error) -> ErrorKind {
    match error.kind() {
        std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe => ErrorKind::ConnectionReset,
        std::io::ErrorKind::TimedOut => ErrorKind::TimedOut,
        _ => ErrorKind::Other,
    }
}
