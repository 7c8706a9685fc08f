//! The relay: every connection that is accepted is joined to one that is connected.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use endpoints_plugin_api as api;
use tokio::time::Instant;

use crate::connection::Connection;
use crate::endpoint::{ClientEndpoint, ConnectContext};
use crate::error::Error;
use crate::listener::{Incoming, Listener};
use crate::serve::{Event, Observer, Outcome, Serve, WhenFull};

mod relay;

use relay::{Limits, Place, relay_metered};
pub use relay::{Meter, Traffic, relay};

/// Relays between a listener and a client endpoint.
///
/// For every connection that is accepted, the client endpoint is connected, and bytes are copied both ways. The end of
/// one direction is passed on as such, and the other goes on. Where a connection breaks, is given up for being idle, or
/// cannot be joined to another, TCP peers see a reset, so that none takes half of something for the whole. An error on one
/// connection ends that one alone.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> Result<(), endpoints::Error> {
/// use endpoints::forward::Forward;
///
/// let listener = endpoints::server("tcp:port=8080")?.listen().await?;
/// let backend = endpoints::client("unix:/run/app.sock")?;
/// let outcome = Forward::new(listener, backend).run(std::future::pending()).await;
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is relayed until it runs"]
pub struct Forward {
    serve: Serve,
    client: ClientEndpoint,
    connect_timeout: Option<Duration>,
    idle_timeout: Option<Duration>,
    meter: Option<Arc<Meter>>,
}

impl Forward {
    /// Relays what `listener` accepts to `client`.
    pub fn new(listener: Listener, client: ClientEndpoint) -> Self {
        Self {
            serve: Serve::new(listener).handshake_timeout(Duration::from_secs(30)),
            client,
            connect_timeout: None,
            idle_timeout: None,
            meter: None,
        }
    }

    /// Gives connecting the client endpoint at most so much time, beside the description's own limit.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = Some(limit);
        self
    }

    /// Gives the handshake of an accepted connection at most so much time; 30 s unless said otherwise.
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.serve = self.serve.handshake_timeout(limit);
        self
    }

    /// Ends a connection on which nothing has moved for so long, in either direction.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = Some(limit);
        self
    }

    /// Relays at most so many connections at a time.
    pub fn max_connections(mut self, most: usize) -> Self {
        self.serve = self.serve.max_connections(most);
        self
    }

    /// What to do with more connections than that.
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.serve = self.serve.when_full(when_full);
        self
    }

    /// Relays at most so many connections of one peer at a time; see [`Serve::max_per_peer`].
    pub fn max_per_peer(mut self, most: usize) -> Self {
        self.serve = self.serve.max_per_peer(most);
        self
    }

    /// Lets at most so many handshakes of accepted connections go on at a time; see [`Serve::max_handshakes`].
    pub fn max_handshakes(mut self, most: usize) -> Self {
        self.serve = self.serve.max_handshakes(most);
        self
    }

    /// How long open connections may go on when it is told to stop; 30 s unless said otherwise.
    pub fn drain_timeout(mut self, limit: Duration) -> Self {
        self.serve = self.serve.drain_timeout(limit);
        self
    }

    /// How many tasks accept at the same time.
    pub fn acceptors(mut self, count: usize) -> Self {
        self.serve = self.serve.acceptors(count);
        self
    }

    /// Adds the bytes of all connections to `meter`, as they move.
    pub fn meter(mut self, meter: Arc<Meter>) -> Self {
        self.meter = Some(meter);
        self
    }

    /// Calls `observe` for every event, in the tasks where they happen: it must not block.
    pub fn on_event(mut self, observe: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        self.serve = self.serve.on_event(observe);
        self
    }

    /// Relays until `stop` ends; see [`Serve::run`].
    ///
    /// # Cancel safety
    /// Dropping the future stops listening and cuts all connections.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Outcome {
        let each = Arc::new(Each {
            wants_origin: self.client.0.passes_origin_on(),
            client: self.client,
            connect_timeout: self.connect_timeout,
            idle_timeout: self.idle_timeout,
            meter: self.meter,
            observer: self.serve.observer(),
        });
        let handle = move |id, incoming| {
            let each = Arc::clone(&each);
            async move { each.serve(id, incoming).await }
        };
        self.serve.run(handle, stop).await
    }
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward")
            .field("serve", &self.serve)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

/// What is done for each connection.
struct Each {
    client: ClientEndpoint,
    connect_timeout: Option<Duration>,
    idle_timeout: Option<Duration>,
    meter: Option<Arc<Meter>>,
    /// Whether the client endpoint passes on where the accepted connection came from.
    wants_origin: bool,
    observer: Observer,
}

impl Each {
    async fn serve(&self, id: u64, incoming: Incoming) {
        let begun = Instant::now();
        let mut traffic = Traffic::default();
        if let Err(error) = self.join(id, incoming, &mut traffic).await {
            self.observer.tell(&Event::Error { id: Some(id), error: &error });
        }
        let Traffic { bytes_in, bytes_out } = traffic;
        self.observer.tell(&Event::Closed { id, bytes_in, bytes_out, duration: begun.elapsed() });
    }

    async fn join(&self, id: u64, incoming: Incoming, traffic: &mut Traffic) -> Result<(), Error> {
        let mut accepted = incoming.await?;
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
        let relayed = relay_metered(&mut accepted, &mut connected, limits, traffic, meter).await;
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
