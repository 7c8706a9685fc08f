//! The settings of a service that is to be.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::life::Life;
use super::run::Handler;
use super::{ServerService, Shared};
use crate::connection::Connection;
use crate::endpoint::ServerEndpoint;
use crate::listener::Incoming;
use crate::serve::{Event, Observer, Settings, Stopping, WhenFull};

/// Settings of a [`ServerService`] that is to be; made by [`ServerService::builder`].
#[must_use = "the service is made by `handle` or `handle_incoming`"]
pub struct ServerServiceBuilder {
    endpoint: ServerEndpoint,
    settings: Settings,
    name: Option<String>,
    default_backlog: Option<u32>,
}

impl ServerServiceBuilder {
    pub(super) fn new(endpoint: ServerEndpoint) -> Self {
        let mut settings = Settings::new();
        settings.handshake_timeout = Some(Duration::from_secs(30));
        Self { endpoint, settings, name: None, default_backlog: None }
    }

    /// What logs, and errors of a group, call the service: its endpoint's description, with secrets masked, unless said otherwise.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Lets so many connections wait to be accepted where the description does not say how many; see
    /// [`Listener::set_default_backlog`](crate::Listener::set_default_backlog).
    pub fn default_backlog(mut self, backlog: u32) -> Self {
        self.default_backlog = Some(backlog);
        self
    }

    /// Serves at most so many connections at a time, at least one.
    pub fn max_connections(mut self, most: usize) -> Self {
        self.settings.max_connections = Some(most);
        self
    }

    /// What to do with more connections than that.
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.settings.when_full = when_full;
        self
    }

    /// Serves at most so many connections of one peer at a time, at least one; see
    /// [`Serve::max_per_peer`](crate::serve::Serve::max_per_peer).
    pub fn max_per_peer(mut self, most: usize) -> Self {
        self.settings.max_per_peer = Some(most);
        self
    }

    /// Lets at most so many handshakes go on at a time, at least one; see
    /// [`Serve::max_handshakes`](crate::serve::Serve::max_handshakes).
    pub fn max_handshakes(mut self, most: usize) -> Self {
        self.settings.max_handshakes = Some(most);
        self
    }

    /// Gives a handshake at most so much time from accepting the connection on; 30 s unless said otherwise, no limit by
    /// [`Duration::MAX`].
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.settings.handshake_timeout = Some(limit);
        self
    }

    /// Ends waiting on a connection when nothing was read or written for so long; see [`Connection::set_idle_timeout`].
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.settings.idle_timeout = Some(limit);
        self
    }

    /// How long open connections may go on when it is stopped; they are cut then. 30 s unless said otherwise.
    pub fn drain_timeout(mut self, limit: Duration) -> Self {
        self.settings.drain_timeout = limit;
        self
    }

    /// How many tasks accept at the same time: from 1 to 1024; 1 unless said otherwise.
    pub fn acceptors(mut self, count: usize) -> Self {
        self.settings.acceptors = count;
        self
    }

    /// Calls `observe` for every event, in the tasks where they happen: it must not block. A panic in it is logged, and ends
    /// nothing.
    pub fn on_event(mut self, observe: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        self.settings.observer = Observer::new(observe);
        self
    }

    /// Makes a service with a task for each connection, which runs what `handler` gives for it. The [`Stopping`] tells it when
    /// the service drains, so that a connection that is idle need not be cut.
    ///
    /// The service has done the handshake before. One that fails is told as an [`Event::Error`], and so is a panic of the
    /// handler, which ends that connection alone.
    pub fn handle<H, F>(self, handler: H) -> ServerService
    where
        H: Fn(Connection, Stopping) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        self.build(Handler::of_connections(handler))
    }

    /// The same with a handler that gets the number of each connection, as events have it, and the connection before its
    /// handshake: it awaits the [`Incoming`], and is told by [`Incoming::stopping`] when the service drains.
    pub fn handle_incoming<H, F>(self, handler: H) -> ServerService
    where
        H: Fn(u64, Incoming) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        self.build(Handler::of_incoming(handler))
    }

    fn build(self, handler: Handler) -> ServerService {
        let Self { endpoint, settings, name, default_backlog } = self;
        let name = name.unwrap_or_else(|| endpoint.to_string());
        let life = Arc::new(Life::new(settings));
        ServerService { shared: Arc::new(Shared { endpoint, default_backlog, handler, name, life }) }
    }
}

impl fmt::Debug for ServerServiceBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerServiceBuilder").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
