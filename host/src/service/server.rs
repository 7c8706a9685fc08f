//! The service that listens and serves.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use super::{BoxFuture, Service};
use crate::address::Address;
use crate::endpoint::ServerEndpoint;
use crate::error::Error;
use crate::grammar::Description;

mod builder;
mod life;
mod run;
#[cfg(test)]
mod tests;

pub use builder::ServerServiceBuilder;
use life::{Life, Listening};
use run::Handler;

/// Serves every connection to an endpoint, from when it is started until it is stopped, any number of times.
///
/// [`bind`](Self::bind) listens, and is all that may need privileges; [`start`](Self::start) serves, which needs none.
/// [`stop`](Self::stop) drains: it stops listening, and lets connections end until the drain timeout has passed. Limits are
/// those of [`Serve`](crate::serve::Serve), and so is the rule that an error of one connection, or of one `accept`, ends
/// nothing; but handshakes have a limit of 30 s unless another is set.
///
/// Cheap to clone; all clones are the same service. When the last one is dropped, it stops listening, and open connections
/// are cut.
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
/// let service = ServerService::builder(endpoints::server("tcp:port=80")?)
///     .max_connections(1000)
///     .max_per_peer(20)
///     .handle(echo);
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
#[derive(Clone)]
#[must_use = "nothing is served until it is started"]
pub struct ServerService {
    shared: Arc<Shared>,
}

struct Shared {
    endpoint: ServerEndpoint,
    default_backlog: Option<u32>,
    handler: Handler,
    name: String,
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
    /// Sets up a service that serves `endpoint`. Nothing happens before it is bound or started.
    pub fn builder(endpoint: ServerEndpoint) -> ServerServiceBuilder {
        ServerServiceBuilder::new(endpoint)
    }

    /// What logs call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Where it listens, or would.
    #[must_use]
    pub fn endpoint(&self) -> &ServerEndpoint {
        &self.shared.endpoint
    }

    /// What it is doing, and when that changes; a change may be told that leads to the same state.
    ///
    /// Nothing can be told while a look at it ([`borrow`](watch::Receiver::borrow)) is held: hold none while the service is
    /// started or stopped.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<ServerState> {
        self.shared.life.watch()
    }

    /// The client descriptions by which it is reached, canonical; none where it does not listen.
    #[must_use]
    pub fn reachable(&self) -> Vec<Description> {
        self.shared.life.reached(|reached| reached.descriptions.clone())
    }

    /// The addresses that it listens on; none where it does not listen.
    #[must_use]
    pub fn addresses(&self) -> Vec<Address> {
        self.shared.life.reached(|reached| reached.addresses.clone())
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
        self.bind_unless_stopped(self.shared.life.stops()).await
    }

    async fn bind_unless_stopped(&self, stops: u64) -> Result<(), Error> {
        let listen = || {
            let (endpoint, backlog) = (self.shared.endpoint.clone(), self.shared.default_backlog);
            Box::pin(async move {
                let listener = endpoint.listen().await?;
                if let Some(backlog) = backlog {
                    listener.set_default_backlog(backlog)?;
                }
                Ok(listener)
            }) as Listening
        };
        let bound = self.shared.life.bind(stops, listen).await?;
        if bound {
            for description in self.reachable() {
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
        let stops = self.shared.life.stops();
        loop {
            self.bind_unless_stopped(stops).await?;
            if self.shared.life.start(stops, &self.shared.handler, self.name())? {
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
    /// [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut) if connections were cut, with their number; where it was draining
    /// since it could not go on, why that was. It has stopped all the same.
    ///
    /// # Cancel safety
    /// It is told to stop when the future is first polled; dropping the future then stops the waiting alone.
    pub async fn stop(&self) -> Result<(), Error> {
        self.shared.life.stop().await
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
        self.shared.life.ended().await
    }
}

impl Service for ServerService {
    fn name(&self) -> String {
        self.name().to_owned()
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

impl Drop for Shared {
    fn drop(&mut self) {
        self.life.abandon();
    }
}

impl fmt::Debug for ServerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerService")
            .field("name", &self.name())
            .field("endpoint", self.endpoint())
            .field("state", &*self.state().borrow())
            .finish_non_exhaustive()
    }
}
