//! What is done with each connection of a service.

use std::ffi::OsString;
use std::io;
use std::time::{Duration, Instant};

use endpoints::forward::{Relay, Traffic};
use endpoints::serve::Event;
use endpoints::{Address, Connection, ConnectionInfo, Error, ErrorKind, Incoming};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::events::Events;
use crate::exec::{LINGER, SHORT_LINGER, exec};

/// What is done with each connection.
pub(crate) enum Work {
    /// It is sent back what it sends.
    Echo,
    /// A command is run for it.
    Exec(Vec<OsString>),
    /// It is joined to another.
    Relay(Relay),
}

impl Work {
    /// Does the handshake first.
    pub(crate) async fn serve(&self, id: u64, incoming: Incoming, events: &Events) {
        match self {
            Self::Relay(relay) => relay.serve(id, incoming).await,
            work => {
                observed(id, incoming.info(), events, async |open| {
                    work.done(incoming.await?, LINGER, open).await
                })
                .await;
            }
        }
    }

    pub(crate) async fn serve_established(&self, id: u64, connection: Connection, events: &Events) {
        match self {
            Self::Relay(relay) => relay.serve_established(id, connection).await,
            work => {
                observed(id, connection.info(), events, async |open| {
                    work.done(connection, SHORT_LINGER, open).await
                })
                .await;
            }
        }
    }

    async fn done(&self, connection: Connection, linger: Duration, open: &mut Open<'_>) -> Result<(), Error> {
        // Its handshake may have told.
        open.peer = connection.info().peer_addr();
        open.is_established = true;
        match self {
            Self::Echo => echo(connection, &mut open.traffic).await,
            Self::Exec(command) => exec(command, connection, linger, open).await,
            Self::Relay(_) => Ok(()),
        }
    }
}

async fn observed(
    id: u64,
    info: ConnectionInfo,
    events: &Events,
    work: impl AsyncFnOnce(&mut Open<'_>) -> Result<(), Error>,
) {
    let mut open = Open::new(id, events);
    open.peer = info.peer_addr();
    if let Err(error) = work(&mut open).await {
        let event = if open.is_established { Event::connection_error } else { Event::handshake_error };
        events.tell(&event(id, open.peer.as_ref(), &error));
    }
}

/// A connection that goes on; tells its end, also where it is cut.
pub(crate) struct Open<'a> {
    events: &'a Events,
    id: u64,
    begun: Instant,
    /// Where it came from, as far as that is known.
    peer: Option<Address>,
    /// Its handshake is done.
    is_established: bool,
    pub(crate) traffic: Traffic,
}

impl<'a> Open<'a> {
    pub(crate) fn new(id: u64, events: &'a Events) -> Self {
        Self {
            events,
            id,
            begun: Instant::now(),
            peer: None,
            is_established: false,
            traffic: Traffic::default(),
        }
    }

    /// What the connection is joined to is there, and is no connection.
    pub(crate) fn connected(&self, info: &ConnectionInfo) {
        self.events.connected(self.id, info);
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.events.tell(&Event::closed(self.id, self.traffic, self.begun.elapsed()));
    }
}

async fn echo(mut connection: Connection, traffic: &mut Traffic) -> Result<(), Error> {
    let mut buf = vec![0; 16 * 1024];
    let broke = |error: io::Error| {
        let kind = kind_of(&error, ErrorKind::ConnectionReset);
        Error::new(kind, format!("the connection broke: {error}"))
    };
    loop {
        let count = connection.read(&mut buf).await.map_err(broke)?;
        traffic.bytes_in += count as u64;
        if count == 0 {
            return connection.shutdown().await.map_err(broke);
        }
        connection.write_all(&buf[..count]).await.map_err(broke)?;
        connection.flush().await.map_err(broke)?;
        traffic.bytes_out += count as u64;
    }
}

/// The kind of an error of a connection that broke, unless it was idle for too long.
pub(crate) fn kind_of(error: &io::Error, broken: ErrorKind) -> ErrorKind {
    if error.kind() == io::ErrorKind::TimedOut { ErrorKind::TimedOut } else { broken }
}
