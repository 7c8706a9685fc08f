//! What a relay does for each connection.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use endpoints_plugin_api as api;
use tokio::time::Instant;

use super::relay::{Limits, Meter, Place, Sockets, Traffic, relay_metered};
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
    /// Dropping the future closes both connections, which is told too.
    pub async fn serve(&self, id: u64, incoming: Incoming) {
        self.observed(id, async |traffic| self.join(id, incoming.await?, traffic).await).await;
    }

    /// The same for a connection that is established.
    ///
    /// # Cancel safety
    /// As for [`serve`](Self::serve).
    pub async fn serve_established(&self, id: u64, connection: Connection) {
        self.observed(id, async |traffic| self.join(id, connection, traffic).await).await;
    }

    async fn observed(&self, id: u64, work: impl AsyncFnOnce(&mut Traffic) -> Result<(), Error>) {
        let mut open =
            Open { observer: &self.observer, id, begun: Instant::now(), traffic: Traffic::default() };
        if let Err(error) = work(&mut open.traffic).await {
            self.observer.tell(&Event::Error { id: Some(id), error: &error });
        }
    }

    async fn join(&self, id: u64, mut accepted: Connection, traffic: &mut Traffic) -> Result<(), Error> {
        let mut connected = match self.connect(&accepted).await {
            Ok(connected) => connected,
            Err(error) => {
                // Nothing will come of what the peer has sent: it must not take that for an end.
                accepted.abort();
                return Err(error);
            }
        };
        self.observer.tell(&Event::Connected { id, accepted: Some(&accepted), connected: &connected });
        let meter = self.meter.as_deref();
        let limits = Limits::new(self.idle_timeout);
        let sockets = Sockets { first: Connection::bare, second: Connection::bare };
        let relayed = relay_metered(&mut accepted, &mut connected, sockets, limits, traffic, meter).await;
        relayed.map_err(|failure| {
            if failure.broken {
                accepted.abort();
                connected.abort();
            }
            let doing = match failure.place {
                Place::ReadingFirst => "reading from the accepted connection",
                Place::WritingFirst => "writing to the accepted connection",
                Place::ReadingSecond => "reading from the connected one",
                Place::WritingSecond => "writing to the connected one",
                Place::Idle => "relaying",
            };
            api::Error::from_io(doing, &failure.error).into()
        })
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

/// A connection that goes on; tells its end, also where it is cut.
struct Open<'a> {
    observer: &'a Observer,
    id: u64,
    begun: Instant,
    traffic: Traffic,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.observer.tell(&Event::closed(self.id, self.traffic, self.begun.elapsed()));
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("client", &self.client).finish_non_exhaustive()
    }
}
