//! What a relay does for each connection.

use std::fmt;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use endpoints_plugin_api as api;
use tokio::time::Instant;

use super::relay::{Limits, Meter, Place, Relaying, Sockets, Traffic};
use crate::address::Address;
use crate::connection::Connection;
use crate::endpoint::{ClientEndpoint, ConnectContext};
use crate::error::Error;
use crate::listener::Incoming;
use crate::serve::{Event, Observer};

/// Joins connections to those of a client endpoint: what [`Forward`](super::Forward) does for each connection, for programs
/// that get their connections elsewhere, such as from a [`ServerService`](crate::service::ServerService).
///
/// # Examples
///
/// ```no_run
/// # fn example() -> Result<(), endpoints::Error> {
/// use std::sync::Arc;
/// use endpoints::forward::Relay;
/// use endpoints::service::ServerService;
///
/// let relay = Arc::new(Relay::new(endpoints::client("unix:/run/app.sock")?));
/// let service = ServerService::builder(endpoints::server("tcp:port=8080")?).handle_incoming(move |id, incoming| {
///     let relay = Arc::clone(&relay);
///     async move { relay.serve(id, incoming).await }
/// });
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "nothing is relayed until it is given a connection"]
pub struct Relay {
    client: ClientEndpoint,
    connect_timeout: Option<Duration>,
    idle_timeout: Option<Duration>,
    meter: Option<Arc<Meter>>,
    /// Whether the client endpoint passes on where the accepted connection came from.
    wants_origin: bool,
    observer: Observer,
}

impl Relay {
    /// Joins each connection to one of `client`.
    pub fn new(client: ClientEndpoint) -> Self {
        Self {
            wants_origin: client.0.passes_origin_on(),
            client,
            connect_timeout: None,
            idle_timeout: None,
            meter: None,
            observer: Observer::none(),
        }
    }

    /// Gives connecting the client endpoint at most so much time, beside the description's own limit.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = Some(limit);
        self
    }

    /// Ends a connection on which nothing has moved for so long, in either direction.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = Some(limit);
        self
    }

    /// Adds the bytes of all connections to `meter`, as they move.
    pub fn meter(mut self, meter: Arc<Meter>) -> Self {
        self.meter = Some(meter);
        self
    }

    /// Calls `observe` for what happens to each connection, in its task: it must not block.
    pub fn on_event(self, observe: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        self.observed_by(Observer::new(observe))
    }

    pub(super) fn observed_by(mut self, observer: Observer) -> Self {
        self.observer = observer;
        self
    }

    /// Does the handshake of an accepted connection, and joins it to one of the client endpoint until both directions have
    /// ended. What goes wrong is told as an [`Event::Error`], and the end as an [`Event::Closed`], with that number.
    ///
    /// # Cancel safety
    /// Dropping the future closes both connections, as broken ones (a TCP connection is reset), which is told too.
    pub async fn serve(&self, id: u64, incoming: Incoming) {
        Serving::new(self, id, incoming).await;
    }

    /// The same for a connection that is established.
    ///
    /// # Cancel safety
    /// As for [`serve`](Self::serve).
    pub async fn serve_established(&self, id: u64, connection: Connection) {
        Serving::established(self, id, connection).await;
    }

    /// Does the handshake of an accepted connection, and joins it.
    async fn establish(&self, id: u64, mut incoming: Incoming) -> Result<Box<Joined>, Failed> {
        let early = incoming.take_early();
        match incoming.await {
            Ok(accepted) => self.join(id, accepted).await,
            Err(error) => Err(Failed { peer: early.peer_addr(), error, in_handshake: true }),
        }
    }

    /// Joins an accepted connection to one of the client endpoint.
    async fn join(&self, id: u64, accepted: Connection) -> Result<Box<Joined>, Failed> {
        let unless_joined = ResetOnDrop(&accepted);
        let connected = self.connect(&accepted).await.map_err(|error| Failed::of(&accepted, error))?;
        std::mem::forget(unless_joined);
        self.observer.tell(&Event::Connected { id, accepted: Some(&accepted), connected: &connected });
        let relaying = Relaying::new(Limits::new(self.idle_timeout));
        Ok(Box::new(Joined { accepted, connected, relaying }))
    }

    async fn connect(&self, accepted: &Connection) -> Result<Connection, Error> {
        let mut context = ConnectContext::new();
        if let Some(limit) = self.connect_timeout {
            context = context.with_timeout(limit);
        }
        if self.wants_origin {
            context = context.with_origin(accepted.info());
        }
        self.client.connect_with(context).await
    }
}

/// What went wrong with a connection, and where it came from, as far as that is known.
struct Failed {
    peer: Option<Address>,
    error: Error,
    in_handshake: bool,
}

impl Failed {
    fn of(accepted: &Connection, error: Error) -> Self {
        Self { peer: accepted.info().peer_addr(), error, in_handshake: false }
    }

    fn event(&self, id: u64) -> Event<'_> {
        let event = if self.in_handshake { Event::handshake_error } else { Event::connection_error };
        event(id, self.peer.as_ref(), &self.error)
    }
}

/// Has the connection reset when it is closed: nothing comes of what the peer has sent, and it must not take that for an end.
struct ResetOnDrop<'a>(&'a Connection);

impl Drop for ResetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.reset_on_close();
    }
}

/// What [`Relay::serve`] does, by a relay that it borrows or shares. Tells the end of the connection, also where it is cut.
///
/// It is no async block, which would keep room for all that connecting needs as long as the connection is open.
pub(super) struct Serving<'a, R: Deref<Target = Relay>> {
    relay: R,
    id: u64,
    begun: Instant,
    traffic: Traffic,
    stage: Stage<'a>,
}

enum Stage<'a> {
    Joining(Pin<Box<dyn Future<Output = Result<Box<Joined>, Failed>> + Send + 'a>>),
    Relaying(Box<Joined>),
    Ended,
}

/// Two connections that are one for their peers.
struct Joined {
    accepted: Connection,
    connected: Connection,
    relaying: Relaying,
}

impl<'a, R: Deref<Target = Relay> + Clone + Send + Sync + 'a> Serving<'a, R> {
    pub(super) fn new(relay: R, id: u64, incoming: Incoming) -> Self {
        let to = relay.clone();
        Self::joining(relay, id, Box::pin(async move { to.establish(id, incoming).await }))
    }

    fn established(relay: R, id: u64, connection: Connection) -> Self {
        let to = relay.clone();
        Self::joining(relay, id, Box::pin(async move { to.join(id, connection).await }))
    }

    fn joining(
        relay: R,
        id: u64,
        joining: Pin<Box<dyn Future<Output = Result<Box<Joined>, Failed>> + Send + 'a>>,
    ) -> Self {
        Self { relay, id, begun: Instant::now(), traffic: Traffic::default(), stage: Stage::Joining(joining) }
    }
}

impl<R: Deref<Target = Relay> + Unpin> Future for Serving<'_, R> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let ended = loop {
            match &mut this.stage {
                Stage::Joining(joining) => match ready!(joining.as_mut().poll(cx)) {
                    Ok(joined) => this.stage = Stage::Relaying(joined),
                    Err(error) => break Err(error),
                },
                Stage::Relaying(joined) => {
                    break ready!(joined.poll(cx, &mut this.traffic, this.relay.meter.as_deref()));
                }
                Stage::Ended => return Poll::Ready(()),
            }
        };
        this.stage = Stage::Ended;
        if let Err(failed) = ended {
            this.relay.observer.tell(&failed.event(this.id));
        }
        Poll::Ready(())
    }
}

impl Joined {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        traffic: &mut Traffic,
        meter: Option<&Meter>,
    ) -> Poll<Result<(), Failed>> {
        const SOCKETS: Sockets<Connection, Connection> =
            Sockets { first: Connection::bare, second: Connection::bare, close: true };
        let Self { accepted, connected, relaying } = self;
        relaying.poll(cx, (accepted, connected), &SOCKETS, traffic, meter).map_err(|failure| {
            if failure.broken {
                accepted.reset_on_close();
                connected.reset_on_close();
            }
            let doing = match failure.place {
                Place::ReadingFirst => "reading from the accepted connection",
                Place::WritingFirst => "writing to the accepted connection",
                Place::ReadingSecond => "reading from the connected one",
                Place::WritingSecond => "writing to the connected one",
                Place::Idle => "relaying",
            };
            let error = api::Error::from_io(doing, &failure.error);
            // The handshake was done long before.
            let is_cut = failure.error.kind() == std::io::ErrorKind::UnexpectedEof;
            let error = if is_cut { error.with_kind(api::ErrorKind::ConnectionReset) } else { error };
            Failed::of(accepted, error.into())
        })
    }
}

impl<R: Deref<Target = Relay>> Drop for Serving<'_, R> {
    fn drop(&mut self) {
        // Cut in the middle, which the peers must not take for an end.
        if let Stage::Relaying(joined) = &self.stage {
            joined.accepted.reset_on_close();
            joined.connected.reset_on_close();
        }
        // What is told has happened.
        self.stage = Stage::Ended;
        self.relay.observer.tell(&Event::closed(self.id, self.traffic, self.begun.elapsed()));
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("client", &self.client).finish_non_exhaustive()
    }
}
