//! The relay: every connection that is accepted is joined to one that is connected.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::endpoint::ClientEndpoint;
use crate::listener::Listener;
use crate::serve::{Event, Outcome, Serve, WhenFull, Workers};

mod each;
mod relay;

pub use each::Relay;
use each::Serving;
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
    relay: Relay,
}

impl Forward {
    /// Relays what `listener` accepts to `client`.
    pub fn new(listener: Listener, client: ClientEndpoint) -> Self {
        Self {
            serve: Serve::new(listener).handshake_timeout(Duration::from_secs(30)),
            relay: Relay::new(client),
        }
    }

    /// Gives connecting the client endpoint at most so much time, beside the description's own limit.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.relay = self.relay.connect_timeout(limit);
        self
    }

    /// Gives the handshake of an accepted connection at most so much time; 30 s unless said otherwise.
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.serve = self.serve.handshake_timeout(limit);
        self
    }

    /// Ends a connection on which nothing has moved for so long, in either direction.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.relay = self.relay.idle_timeout(limit);
        self
    }

    /// Relays at most so many connections at a time, at least one.
    pub fn max_connections(mut self, most: usize) -> Self {
        self.serve = self.serve.max_connections(most);
        self
    }

    /// What to do with more connections than that.
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.serve = self.serve.when_full(when_full);
        self
    }

    /// Relays at most so many connections of one peer at a time, at least one; see [`Serve::max_per_peer`].
    pub fn max_per_peer(mut self, most: usize) -> Self {
        self.serve = self.serve.max_per_peer(most);
        self
    }

    /// Lets at most so many handshakes of accepted connections go on at a time, at least one; see [`Serve::max_handshakes`].
    pub fn max_handshakes(mut self, most: usize) -> Self {
        self.serve = self.serve.max_handshakes(most);
        self
    }

    /// How long open connections may go on when it is told to stop; 30 s unless said otherwise.
    pub fn drain_timeout(mut self, limit: Duration) -> Self {
        self.serve = self.serve.drain_timeout(limit);
        self
    }

    /// How many tasks accept at the same time on the thread, or the runtime, that runs it: from 1 to 1024; 1 unless said
    /// otherwise. Each of the [`workers`](Self::workers) adds one.
    pub fn acceptors(mut self, count: usize) -> Self {
        self.serve = self.serve.acceptors(count);
        self
    }

    /// Has `workers` accept and relay too; see [`Serve::workers`].
    pub fn workers(mut self, workers: &Workers) -> Self {
        self.serve = self.serve.workers(workers);
        self
    }

    /// Adds the bytes of all connections to `meter`, as they move.
    pub fn meter(mut self, meter: Arc<Meter>) -> Self {
        self.relay = self.relay.meter(meter);
        self
    }

    /// Calls `observe` for every event, in the tasks where they happen: it must not block. A panic in it is logged, and ends
    /// nothing.
    pub fn on_event(mut self, observe: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        self.serve = self.serve.on_event(observe);
        self
    }

    /// Relays until `stop` ends; see [`Serve::run`].
    ///
    /// # Cancel safety
    /// Dropping the future stops listening and cuts all connections.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Outcome {
        let relay = Arc::new(self.relay.observed_by(self.serve.observer()));
        let handle = move |id, incoming| Serving::new(Arc::clone(&relay), id, incoming);
        self.serve.run(handle, stop).await
    }
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward").field("serve", &self.serve).field("relay", &self.relay).finish()
    }
}
