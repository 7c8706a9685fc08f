//! The service that listens and serves.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{BoxFuture, Service};
use crate::address::Address;
use crate::connection::Connection;
use crate::endpoint::ServerEndpoint;
use crate::error::Error;
use crate::grammar::Description;
use crate::listener::Incoming;
use crate::serve::{Event, Observer, Settings, Stopping, WhenFull};

mod life;
mod run;

use life::{Life, Listening};
use run::Handler;

/// Serves every connection to an endpoint, from when it is started until it is stopped, any number of times.
///
/// [`bind`](Self::bind) listens, and is all that may need privileges; [`start`](Self::start) serves, which needs none.
/// [`stop`](Self::stop) drains: it stops listening, and lets connections end until the drain timeout has passed. Limits are
/// those of [`Serve`](crate::serve::Serve), and so is the rule that an error of one connection, or of one `accept`, ends
/// nothing; but handshakes have a limit of 30 s unless another is set.
///
/// Its methods take `&self`: put it behind an [`Arc`] to use it from several tasks. When it is dropped, it stops
/// listening, and open connections are cut.
///
/// # Examples
///
/// ```no_run
/// use endpoints::Connection;
/// use endpoints::serve::Stopping;
/// use endpoints::service::ServerService;
///
/// async fn echo(connection: Connection, stopping: Stopping) {
///     let (mut read, mut write) = tokio::io::split(connection);
///     tokio::select! {
///         _ = tokio::io::copy(&mut read, &mut write) => {}
///         () = stopping.wait() => {}
///     }
/// }
///
/// # fn drop_privileges() {}
/// # async fn example() -> Result<(), endpoints::Error> {
/// let service = ServerService::new(endpoints::server("tcp:port=80")?, echo).max_connections(1000).max_per_peer(20);
/// service.bind().await?;
/// drop_privileges();
/// service.start().await?;
/// tokio::select! {
///     ended = service.ended() => ended?,
///     () = tokio::time::sleep(std::time::Duration::from_secs(60)) => {}
/// }
/// service.stop().await
/// # }
/// ```
#[must_use = "nothing is served until it is started"]
pub struct ServerService {
    endpoint: ServerEndpoint,
    handler: Handler,
    settings: Settings,
    name: Option<String>,
    life: Arc<Life>,
}

/// What a [`ServerService`] is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServerState {
    /// Nothing: it was not started, or it was stopped, or dropped.
    Stopped,
    /// It begins to listen.
    Binding,
    /// It listens, and serves nobody yet: who connects waits in the backlog.
    Bound,
    /// It serves.
    Running,
    /// It listens no more; open connections may end.
    Draining,
    /// It ended by itself: the endpoint had no more connections to give.
    Finished,
    /// It ended by itself: it could not go on. [`ServerService::ended`] tells why.
    Failed,
}

impl ServerService {
    /// Serves `endpoint` with a task for each connection, which runs what `handle` gives for it. The [`Stopping`] tells it
    /// when the service drains, so that a connection that is idle need not be cut.
    ///
    /// The service has done the handshake before. One that fails is told as an [`Event::Error`], and so is a panic of the
    /// handler, which ends that connection alone.
    pub fn new<H, F>(endpoint: ServerEndpoint, handle: H) -> Self
    where
        H: Fn(Connection, Stopping) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Self::with(endpoint, Handler::of_connections(handle))
    }

    /// The same with a handler that gets the number of each connection, as events have it, and the connection before its
    /// handshake: it awaits the [`Incoming`], and is told by [`Incoming::stopping`] when the service drains.
    pub fn with_incoming<H, F>(endpoint: ServerEndpoint, handle: H) -> Self
    where
        H: Fn(u64, Incoming) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Self::with(endpoint, Handler::of_incoming(handle))
    }

    fn with(endpoint: ServerEndpoint, handler: Handler) -> Self {
        let mut settings = Settings::new();
        settings.handshake_timeout = Some(Duration::from_secs(30));
        Self { endpoint, handler, settings, name: None, life: Arc::new(Life::new()) }
    }

    /// What logs call it: its endpoint's description, with secrets masked, unless said otherwise.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
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

    /// Gives a handshake at most so much time from accepting the connection on; 30 s unless said otherwise.
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

    /// How many tasks accept at the same time: from 1 to 1024.
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

    /// What logs call it.
    #[must_use]
    pub fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.endpoint.to_string())
    }

    /// Where it listens, or would.
    #[must_use]
    pub fn endpoint(&self) -> &ServerEndpoint {
        &self.endpoint
    }

    /// What it is doing, and when that changes.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<ServerState> {
        self.life.watch()
    }

    /// The client descriptions by which it is reached, canonical; none where it does not listen.
    #[must_use]
    pub fn listening(&self) -> Vec<Description> {
        self.life.reached(|reached| reached.descriptions.clone())
    }

    /// The addresses that it listens on; none where it does not listen.
    #[must_use]
    pub fn addresses(&self) -> Vec<Address> {
        self.life.reached(|reached| reached.addresses.clone())
    }

    /// Listens without serving anybody yet: the part of starting that may need privileges, such as opening a port below
    /// 1024. Who connects waits in the backlog. It is done in the task that awaits this, for what counts for one thread alone,
    /// such as its capabilities and namespaces.
    ///
    /// Does nothing where it is bound already, or runs; where it drains, waits for the end of that. What plugins open later
    /// is theirs: `tls` reads certificates anew when their files change, which must be readable to whoever the process is by
    /// then.
    ///
    /// # Errors
    /// Why it cannot listen; [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled) if it is stopped meanwhile;
    /// [`ErrorKind::Internal`](crate::ErrorKind::Internal) outside of a tokio runtime.
    ///
    /// # Cancel safety
    /// Dropping the future gives it up and closes what it had opened.
    pub async fn bind(&self) -> Result<(), Error> {
        self.bind_unless_stopped(self.life.stops()).await
    }

    async fn bind_unless_stopped(&self, stops: u64) -> Result<(), Error> {
        let listen = || {
            let endpoint = self.endpoint.clone();
            Box::pin(async move { endpoint.listen().await }) as Listening
        };
        let bound = self.life.bind(stops, listen).await?;
        if bound {
            for description in self.listening() {
                tracing::info!(service = self.name(), %description, "listening");
            }
        }
        Ok(())
    }

    /// Starts to serve, in tasks of the runtime that this is awaited in; binds before, where that has not been done.
    ///
    /// Does nothing where it runs; where it drains, waits for the end of that, and starts anew.
    ///
    /// # Errors
    /// As [`bind`](Self::bind); it is stopped then, but for what was bound before and is started outside of a tokio runtime,
    /// which stays bound.
    ///
    /// # Cancel safety
    /// Dropping the future before it has started gives it up, and closes what it had opened.
    pub async fn start(&self) -> Result<(), Error> {
        let stops = self.life.stops();
        loop {
            self.bind_unless_stopped(stops).await?;
            if self.life.start(stops, || self.handler.clone(), &self.settings, self.name())? {
                return Ok(());
            }
        }
    }

    /// Stops listening, lets open connections end, cuts those that do not within the drain timeout, and waits until that is
    /// done. Handshakes are given up after two seconds, and starting or binding that goes on is given up at once.
    ///
    /// Does nothing where it does not run; where it is being stopped already, waits for the end of that.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut) if connections were cut, with their number. It has stopped all
    /// the same.
    ///
    /// # Cancel safety
    /// It is told to stop when the future is first polled; dropping the future then stops the waiting alone.
    pub async fn stop(&self) -> Result<(), Error> {
        self.life.stop(&self.settings).await
    }

    /// Waits until it ends without having been told to, for ever where that does not happen: `Ok` if the endpoint had no
    /// more connections to give, as `stdio`. Tells so until it is started or stopped again.
    ///
    /// # Errors
    /// Why it could not go on.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn ended(&self) -> Result<(), Error> {
        self.life.ended().await
    }
}

impl Service for ServerService {
    fn name(&self) -> String {
        self.name()
    }

    fn bind(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.bind())
    }

    fn start(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.start())
    }

    fn stop(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.stop())
    }

    fn ended(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.ended())
    }
}

impl Drop for ServerService {
    fn drop(&mut self) {
        self.life.abandon();
    }
}

impl fmt::Debug for ServerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerService")
            .field("endpoint", &self.endpoint)
            .field("state", &*self.life.watch().borrow())
            .finish_non_exhaustive()
    }
}
