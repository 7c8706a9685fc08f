//! What is told about serving.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::handling::message_of;
use crate::address::Address;
use crate::connection::Connection;
use crate::error::{Error, ErrorKind};
use crate::forward::Traffic;
use crate::listener::Incoming;

/// Something that happened while serving.
///
/// Whoever serves tells it. A handler of a program's own that tells what it does with a connection, as
/// [`Relay`](crate::forward::Relay) does, makes events of its own, with the number that it was given, and hands them to whom it
/// likes: its own observer, or a recorder of metrics.
///
/// # Examples
///
/// ```
/// use std::time::Instant;
/// use endpoints::forward::Traffic;
/// use endpoints::serve::Event;
/// use endpoints::{Error, Incoming};
///
/// async fn serve(id: u64, incoming: Incoming, observe: impl Fn(&Event<'_>)) {
///     let begun = Instant::now();
///     let mut traffic = Traffic::default();
///     if let Err(error) = answer(incoming, &mut traffic).await {
///         observe(&Event::error(Some(id), &error));
///     }
///     observe(&Event::closed(id, traffic, begun.elapsed()));
/// }
///
/// async fn answer(incoming: Incoming, traffic: &mut Traffic) -> Result<(), Error> {
///     let connection = incoming.await?;
///     // …
/// #   drop((connection, traffic));
///     Ok(())
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A connection was accepted; its handshake may still be to come.
    #[non_exhaustive]
    Accepted {
        /// Its number, counted from 1.
        id: u64,
        /// The connection; [`Incoming::info`] tells what is known about it.
        incoming: &'a Incoming,
    },
    /// The handshake of an accepted connection is done. A connection that has none, as one of `tcp`, tells nothing; of one
    /// that failed there is an [`Error`](Self::Error).
    #[non_exhaustive]
    Established {
        /// The number of the accepted connection.
        id: u64,
        /// The accepted connection: what it knows may be more than before, such as the name that the peer asked for in TLS.
        connection: &'a Connection,
        /// Time since it was accepted.
        duration: Duration,
    },
    /// The other side of a relayed connection is connected.
    #[non_exhaustive]
    Connected {
        /// The number of the accepted connection.
        id: u64,
        /// The accepted connection, its handshake done: what it knows may be more than before, such as the address that a
        /// proxy has told. `None` where nothing was accepted.
        accepted: Option<&'a Connection>,
        /// The other side.
        connected: &'a Connection,
    },
    /// A relayed connection ended, was cut, or came to nothing: told by [`Forward`](crate::forward::Forward) and
    /// [`Relay`](crate::forward::Relay), which know when that is, and not where a handler of the program's own has it.
    #[non_exhaustive]
    Closed {
        /// Its number.
        id: u64,
        /// Bytes that came from the accepted connection.
        bytes_in: u64,
        /// Bytes that were sent to it.
        bytes_out: u64,
        /// Time since it was accepted.
        duration: Duration,
    },
    /// Something failed.
    #[non_exhaustive]
    Error {
        /// The connection's number, where it is about one.
        id: Option<u64>,
        /// Where that connection came from, or one that was refused, as far as it is known.
        peer: Option<&'a Address>,
        /// What failed.
        error: &'a Error,
    },
    /// A client has closed the connection before it had sent anything that its handshake waits for, as those do that look
    /// whether there is a server. Nothing has failed.
    #[non_exhaustive]
    GivenUp {
        /// The connection's number.
        id: u64,
        /// Where it came from, as far as it is known.
        peer: Option<&'a Address>,
    },
    /// As many connections are open as may be: further ones would wait. It is told once, until there
    /// [has been room](Self::HasRoom) again.
    #[non_exhaustive]
    Full {
        /// How many that are.
        most: usize,
    },
    /// It was [full](Self::Full), and there has been room for further connections for a minute at least.
    HasRoom,
    /// No more connections are accepted; the open ones may end.
    Draining,
    /// The listener is closed: its address is free, though open connections may go on.
    ListenerClosed,
    /// It is over.
    Stopped,
}

impl<'a> Event<'a> {
    /// A connection was accepted: for handlers of connections that no [`Serve`](super::Serve) has accepted, and told of.
    #[must_use]
    pub fn accepted(id: u64, incoming: &'a Incoming) -> Self {
        Self::Accepted { id, incoming }
    }

    /// The handshake of an accepted connection is done, so long after it was accepted: for handlers of connections that no
    /// [`Serve`](super::Serve) has accepted, which tells it itself. They tell it where there was a handshake
    /// ([`Incoming::is_ready`] was false).
    #[must_use]
    pub fn established(id: u64, connection: &'a Connection, duration: Duration) -> Self {
        Self::Established { id, connection, duration }
    }

    /// The other side of an accepted connection is connected, or a connection where nothing was accepted: for handlers that tell
    /// what they do as [`Relay`](crate::forward::Relay) does.
    #[must_use]
    pub fn connected(id: u64, accepted: Option<&'a Connection>, connected: &'a Connection) -> Self {
        Self::Connected { id, accepted, connected }
    }

    /// A connection ended, after so long: for handlers that tell what they do as [`Relay`](crate::forward::Relay) does. They tell
    /// it of every connection once, also where they are dropped.
    #[must_use]
    pub fn closed(id: u64, traffic: Traffic, duration: Duration) -> Self {
        let Traffic { bytes_in, bytes_out } = traffic;
        Self::Closed { id, bytes_in, bytes_out, duration }
    }

    /// Something failed, of the connection with that number where it is about one: for handlers that tell what they do as
    /// [`Relay`](crate::forward::Relay) does.
    #[must_use]
    pub fn error(id: Option<u64>, error: &'a Error) -> Self {
        Self::Error { id, peer: None, error }
    }

    /// A connection failed that came from there, as far as that is known: otherwise as [`error`](Self::error).
    #[must_use]
    pub fn connection_error(id: u64, peer: Option<&'a Address>, error: &'a Error) -> Self {
        Self::Error { id: Some(id), peer, error }
    }

    /// The handshake of a connection from `peer` was not done: it failed, or, where the error is of the kind
    /// [`ErrorKind::Cancelled`], was [given up](Self::GivenUp).
    #[must_use]
    pub fn handshake_error(id: u64, peer: Option<&'a Address>, error: &'a Error) -> Self {
        match error.kind() {
            ErrorKind::Cancelled => Self::GivenUp { id, peer },
            _ => Self::connection_error(id, peer, error),
        }
    }
}

/// How serving ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// Connections that were still open when the drain timeout had passed, and were cut.
    pub cut: usize,
    /// Why it ended, where it was not told to.
    pub error: Option<Error>,
    /// Whether it ended since the listener had no more connections to give, and the last one was over.
    pub exhausted: bool,
}

impl Outcome {
    /// The end of what did not serve.
    pub(crate) fn nothing_cut() -> Self {
        Self { cut: 0, error: None, exhausted: false }
    }
}

/// Who is told of events.
#[derive(Clone)]
pub(crate) struct Observer(Arc<dyn Fn(&Event<'_>) + Send + Sync>);

impl Observer {
    pub(crate) fn none() -> Self {
        Self(Arc::new(|_| {}))
    }

    pub(crate) fn new(observe: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(observe))
    }

    /// Tells it. A panic of the observer ends nothing that is observed: neither the connection that the event is about, nor
    /// those of others, which an acceptor would take with it.
    pub(crate) fn tell(&self, event: &Event<'_>) {
        // What the observer has made of its own state is its own to see.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (self.0)(event))) {
            tracing::error!(panic = message_of(&*panic), "an observer panicked");
        }
    }
}
