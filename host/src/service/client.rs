//! A connection that stays up.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use endpoints_plugin_api as api;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

use crate::connection::{Connection, ConnectionInfo};
use crate::endpoint::ClientEndpoint;
use crate::error::{Error, ErrorKind};
use crate::serve::Stopping;
use crate::service::{Backoff, BoxFuture, RetryPolicy, Service};

mod attempt;
mod driver;
mod machine;
#[cfg(test)]
mod tests;

pub use attempt::Order;
use driver::{Command, Driver, Settings, User};

/// Keeps one connection up: connects, connects again whenever that fails or the connection ends, and waits longer after every
/// failure in a row.
///
/// What is done with a connection is up to the function that it is made with: [`handle`](ClientServiceBuilder::handle) for one
/// that does everything itself, [`prepare`](ClientServiceBuilder::prepare) where other parts of the program want to use what
/// it makes of the connection, by [`when_connected`](Self::when_connected).
///
/// Whatever keeps a connection from being up is a failure and makes the next wait longer: a name that is not resolved, a
/// refused connection, a failed TLS handshake, a preparation that fails or panics.
///
/// Cheap to clone; all clones are the same service. When the last one is dropped, the connection is closed.
///
/// A panic in a function that the program gave it ends no service: one in the retry policy is taken for the usual delay, and one in
/// an observer passed over; both are logged.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> Result<(), endpoints::Error> {
/// use endpoints::service::ClientService;
/// use tokio::io::AsyncWriteExt;
///
/// let service = ClientService::builder(endpoints::client("tls:host=example.com:port=6697")?)
///     .handle(|mut connection, _stopping| async move {
///         // Up for as long as this runs; then it connects anew.
///         let _ = connection.write_all(b"hello\r\n").await;
///     });
/// service.start()?;
/// service.when_connected().await?;
/// service.stop().await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is connected until it is started"]
pub struct ClientService<C = ()> {
    shared: Arc<Shared<C>>,
}

struct Shared<C> {
    name: String,
    commands: mpsc::UnboundedSender<Command<C>>,
    state: watch::Receiver<ClientState>,
    /// Until it is first needed.
    idle: Mutex<Option<Driver<C>>>,
}

/// What a [`ClientService`] is doing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ClientState {
    /// Nothing: it was never started, or has stopped.
    Stopped,
    /// It connects.
    #[non_exhaustive]
    Connecting {
        /// Which attempt it is, counted from 1 over the life of the service.
        attempt: u64,
    },
    /// It is connected, and makes the connection ready for use.
    #[non_exhaustive]
    Preparing {
        /// The attempt that led to the connection.
        attempt: u64,
    },
    /// The connection is up.
    #[non_exhaustive]
    Connected {
        /// The attempt that led to the connection.
        attempt: u64,
        /// The endpoint that it was made with.
        endpoint: ClientEndpoint,
        /// What is known about it.
        info: Arc<ConnectionInfo>,
    },
    /// It waits before it tries again.
    #[non_exhaustive]
    Waiting {
        /// Failures in a row.
        failures: u64,
        /// How long it waits, from when the state was entered.
        delay: Duration,
        /// What failed; `None` where a connection that was up has ended.
        error: Option<Error>,
    },
    /// It was told to stop, and the connection has not ended yet.
    Closing,
}

impl ClientService {
    /// Sets up a service that connects to `endpoint`. Nothing happens before it is started.
    pub fn builder(endpoint: ClientEndpoint) -> ClientServiceBuilder {
        ClientServiceBuilder {
            name: None,
            endpoints: vec![endpoint],
            order: Order::Given,
            policy: Arc::new(Backoff::new()),
            reset_after: Duration::ZERO,
            connect_timeout: None,
            prepare_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(10),
            observer: None,
        }
    }
}

impl<C: Clone + Send + 'static> ClientService<C> {
    /// Starts to connect. Does nothing where it runs; where it is [closing](ClientState::Closing), it connects anew after
    /// that. The count of failures in a row goes on from before it was stopped.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] outside of a tokio runtime, [`ErrorKind::Closed`] if the one that it ran in has ended.
    pub fn start(&self) -> Result<(), Error> {
        self.send(Command::Start)
    }

    /// Stops: gives up an attempt, or closes the connection, and waits until that is done. Whoever waits for a connection
    /// gets an error. Does nothing where it does not run. It may be started again.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] if the connection was cut after the [close timeout](ClientServiceBuilder::close_timeout); it has
    /// stopped all the same. Also as [`start`](Self::start).
    ///
    /// # Cancel safety
    /// It is told to stop when the future is first polled; dropping the future then stops the waiting alone.
    pub async fn stop(&self) -> Result<(), Error> {
        if self.is_idle() && Handle::try_current().is_err() {
            return Ok(());
        }
        let (whom, stopped) = oneshot::channel();
        self.send(Command::Stop(whom))?;
        stopped.await.unwrap_or_else(|_| Err(self.gone()))
    }

    /// Waits until the connection is up, and gives what the [preparation](ClientServiceBuilder::prepare) made of it; at once
    /// where it is up. Before the first start it waits for that.
    ///
    /// What it gives may be of no more use by the time that it is used: a connection can end at any time.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] if the service is stopped, or was; failed attempts are none.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn when_connected(&self) -> Result<C, Error> {
        self.when(None).await
    }

    /// As [`when_connected`](Self::when_connected), but gives up when so many attempts have failed from now on; at least one.
    /// The service itself goes on.
    ///
    /// # Errors
    /// Also why the last of the attempts failed.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn when_connected_within(&self, attempts: u64) -> Result<C, Error> {
        self.when(Some(attempts.max(1))).await
    }

    /// Waits until it can do nothing more, for ever where that does not happen.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] when the runtime that it ran in has ended.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn ended(&self) -> Result<(), Error> {
        self.shared.commands.closed().await;
        Err(self.gone())
    }

    /// What logs and errors call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// What it is doing, now and from now on. A state that lasts very shortly may be missed;
    /// [`on_state`](ClientServiceBuilder::on_state) misses none.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<ClientState> {
        self.shared.state.clone()
    }

    /// Whether nobody has needed it yet.
    fn is_idle(&self) -> bool {
        self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    async fn when(&self, patience: Option<u64>) -> Result<C, Error> {
        let (whom, answer) = oneshot::channel();
        self.send(Command::When(whom, patience))?;
        answer.await.unwrap_or_else(|_| Err(self.gone()))
    }

    fn send(&self, command: Command<C>) -> Result<(), Error> {
        let mut idle = self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.is_some() {
            let runtime = Handle::try_current().map_err(|_| {
                let message = format!("{} needs a tokio runtime: call it within one", self.shared.name);
                Error::new(ErrorKind::Internal, message)
            })?;
            if let Some(driver) = idle.take() {
                runtime.spawn(driver.run());
            }
        }
        drop(idle);
        self.shared.commands.send(command).map_err(|_| self.gone())
    }

    fn gone(&self) -> Error {
        let message = format!("{} is over: the runtime that it ran in has ended", self.shared.name);
        Error::new(ErrorKind::Closed, message)
    }
}

impl<C: Clone + Send + 'static> Service for ClientService<C> {
    fn name(&self) -> String {
        self.shared.name.clone()
    }

    fn start(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { self.start() })
    }

    fn stop(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.stop())
    }

    fn ended(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.ended())
    }
}

impl<C> Clone for ClientService<C> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<C> fmt::Debug for ClientService<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientService")
            .field("name", &self.shared.name)
            .field("state", &*self.shared.state.borrow())
            .finish()
    }
}

/// Settings of a [`ClientService`] that is to be; made by [`ClientService::builder`].
#[must_use = "the service is made by `handle` or `prepare`"]
pub struct ClientServiceBuilder {
    name: Option<String>,
    endpoints: Vec<ClientEndpoint>,
    order: Order,
    policy: Arc<dyn RetryPolicy>,
    reset_after: Duration,
    connect_timeout: Option<Duration>,
    prepare_timeout: Duration,
    close_timeout: Duration,
    observer: Option<Observer>,
}

/// Who is told of every state.
type Observer = Arc<dyn Fn(&ClientState) + Send + Sync>;

impl ClientServiceBuilder {
    /// What logs and errors call the service; unless said otherwise the first endpoint's description.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Another endpoint, for when those before cannot be connected: an attempt goes through all of them, and has failed when
    /// all have. One whose connection could not be prepared comes last in the next attempt.
    pub fn or(mut self, endpoint: ClientEndpoint) -> Self {
        self.endpoints.push(endpoint);
        self
    }

    /// In which order several endpoints are tried.
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// How long to wait after failures in a row; [`Backoff::new`] unless said otherwise.
    pub fn retry_policy(mut self, policy: impl RetryPolicy + 'static) -> Self {
        self.policy = Arc::new(policy);
        self
    }

    /// For how long a connection must have been up for the count of failures to start anew; unless said otherwise it does as
    /// soon as one is up. A server that accepts and closes at once is not asked over and over then.
    pub fn reset_after(mut self, time: Duration) -> Self {
        self.reset_after = time;
        self
    }

    /// Gives connecting each endpoint at most so much time, beside the description's own limit.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = Some(limit);
        self
    }

    /// Gives the preparation of a connection at most so much time; 30 s unless said otherwise.
    pub fn prepare_timeout(mut self, limit: Duration) -> Self {
        self.prepare_timeout = limit;
        self
    }

    /// How long a function that has kept its [`Stopping`] may go on when the service is stopped; 10 s unless said
    /// otherwise. It is cut then; one that has not kept it is cut at once.
    ///
    /// It is kept for as long as the future that has it goes on. An `async fn` or `async` closure has all its parameters to
    /// its end, also one named `_stopping`; a closure around an `async move` block, what the block uses. A function that
    /// needs no time to end drops it first: `drop(stopping)`.
    pub fn close_timeout(mut self, limit: Duration) -> Self {
        self.close_timeout = limit;
        self
    }

    /// Calls `observe` for every state that the service enters, in the task that runs it: it must not block.
    pub fn on_state(mut self, observe: impl Fn(&ClientState) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observe));
        self
    }

    /// Makes a service that hands every connection to `handler`. The connection counts as up at once, and as ended when the
    /// handler's future ends; a panic in it ends that connection alone. Whether it is given time to end when the service is
    /// stopped depends on whether it [keeps its `Stopping`](Self::close_timeout).
    pub fn handle<H, F>(self, handler: H) -> ClientService
    where
        H: Fn(Connection, Stopping) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        self.build(Arc::new(move |connection, stopping| {
            let handled = handler(connection, stopping);
            Box::pin(async move { Ok(((), Box::pin(handled) as BoxFuture<'static, ()>)) })
        }))
    }

    /// Makes a service that makes every connection ready for use first: logs in, or speaks a protocol's first words.
    ///
    /// `prepare` gives a pair: what others are to use, which [`when_connected`](ClientService::when_connected) clones for
    /// them, and a future that runs the connection, which counts as ended when that future ends. An error, a panic, or more
    /// time than the [limit](Self::prepare_timeout) is a failed attempt. Whether the second one is given time to end when the
    /// service is stopped depends on whether it [keeps the `Stopping`](Self::close_timeout).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn example(endpoint: endpoints::ClientEndpoint) {
    /// use endpoints::service::ClientService;
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    /// use tokio::sync::mpsc;
    ///
    /// let lines = ClientService::builder(endpoint).prepare(|mut connection, stopping| async move {
    ///     connection.write_all(b"login me\r\n").await?;
    ///     let mut answer = [0; 4];
    ///     connection.read_exact(&mut answer).await?;
    ///     let (sender, mut lines) = mpsc::channel::<String>(16);
    ///     let run = async move {
    ///         loop {
    ///             let line = tokio::select! {
    ///                 Some(line) = lines.recv() => line,
    ///                 () = stopping.wait() => return,
    ///             };
    ///             if connection.write_all(line.as_bytes()).await.is_err() {
    ///                 return;
    ///             }
    ///         }
    ///     };
    ///     Ok::<_, std::io::Error>((sender, run))
    /// });
    /// # let _: ClientService<mpsc::Sender<String>> = lines;
    /// # }
    /// ```
    pub fn prepare<P, F, C, D, E>(self, prepare: P) -> ClientService<C>
    where
        P: Fn(Connection, Stopping) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(C, D), E>> + Send + 'static,
        C: Clone + Send + 'static,
        D: Future<Output = ()> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.build(Arc::new(move |connection, stopping| {
            let prepared = prepare(connection, stopping);
            Box::pin(async move {
                let (client, run) = prepared.await.map_err(|error| rejected(error.into()))?;
                Ok((client, Box::pin(run) as BoxFuture<'static, ()>))
            })
        }))
    }

    fn build<C: Clone + Send + 'static>(self, user: User<C>) -> ClientService<C> {
        let name = self.name.unwrap_or_else(|| self.endpoints[0].to_string());
        let (commands, received) = mpsc::unbounded_channel();
        let (entered, state) = watch::channel(ClientState::Stopped);
        let settings = Settings {
            name: name.clone(),
            endpoints: self.endpoints,
            order: self.order,
            policy: self.policy,
            reset_after: self.reset_after,
            connect_timeout: self.connect_timeout,
            prepare_timeout: self.prepare_timeout,
            close_timeout: self.close_timeout,
            observer: self.observer,
            user,
        };
        let idle = Mutex::new(Some(Driver::new(settings, received, entered)));
        ClientService { shared: Arc::new(Shared { name, commands, state, idle }) }
    }
}

impl fmt::Debug for ClientServiceBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientServiceBuilder")
            .field("name", &self.name)
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}

/// The error of a preparation; one of this library's stays what it is.
fn rejected(error: Box<dyn std::error::Error + Send + Sync>) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => *error,
        Err(error) => {
            let message = format!("the connection could not be made ready for use: {error}");
            of_program(api::ErrorKind::HandshakeFailed, message)
        }
    }
}

/// An error that may not come again; what the program wrote is made one line, as what plugins write is.
fn of_program(kind: api::ErrorKind, message: String) -> Error {
    api::Error::new(kind, message).with_retryable(true).into()
}
