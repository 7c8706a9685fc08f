//! The task that runs a client service: does what the [machine](super::machine) says, and tells it what happens.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use endpoints_plugin_api as api;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Sleep, sleep, timeout};

use super::attempt::{Order, connect};
use super::machine::{Action, Machine, Reason};
use super::{ClientState, Observer, of_program};
use crate::connection::{Connection, ConnectionInfo};
use crate::endpoint::ClientEndpoint;
use crate::error::{Error, ErrorKind};
use crate::serve::Stopping;
use crate::service::{Backoff, BoxFuture, RetryPolicy};

/// What a service is asked to do.
pub(super) enum Command<C> {
    Start,
    Stop(Stopper),
    When(Waiter<C>, Option<u64>),
}

/// Whom to tell that it has stopped.
type Stopper = oneshot::Sender<Result<(), Error>>;

type Waiter<C> = oneshot::Sender<Result<C, Error>>;

/// What the program does with a connection: makes it ready, and runs it.
pub(super) type User<C> =
    Arc<dyn Fn(Connection, Stopping) -> BoxFuture<'static, Result<Prepared<C>, Error>> + Send + Sync>;

/// What others use, and what runs the connection.
type Prepared<C> = (C, BoxFuture<'static, ()>);

pub(super) struct Settings<C> {
    pub(super) name: String,
    pub(super) endpoints: Vec<ClientEndpoint>,
    pub(super) order: Order,
    pub(super) policy: Arc<dyn RetryPolicy>,
    pub(super) reset_after: Duration,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) prepare_timeout: Duration,
    pub(super) close_timeout: Duration,
    pub(super) observer: Option<Observer>,
    pub(super) user: User<C>,
}

pub(super) struct Driver<C> {
    settings: Settings<C>,
    commands: mpsc::UnboundedReceiver<Command<C>>,
    state: watch::Sender<ClientState>,
    machine: Machine<Waiter<C>, Stopper>,
    work: Work<C>,
    /// Why the last attempt failed.
    error: Option<Error>,
    /// Whether the last connection had to be cut.
    cut: bool,
    /// The endpoint whose connection could not be prepared.
    last: Option<usize>,
}

/// What goes on.
enum Work<C> {
    Nothing,
    Connecting(BoxFuture<'static, Result<(usize, Connection), Error>>),
    /// Just connected.
    Connected(Connection, Established),
    Preparing(JoinSet<Done<C>>, Established),
    Up {
        client: C,
        task: JoinSet<Done<C>>,
        established: Established,
        /// Until it counts as a success.
        steady: Option<Pin<Box<Sleep>>>,
    },
    Waiting(Pin<Box<Sleep>>),
    Closing {
        task: JoinSet<Done<C>>,
        /// Until it is cut; `None` when it has been.
        patience: Option<Pin<Box<Sleep>>>,
        cut: bool,
        attempt: u64,
    },
}

/// A connection that is being made ready, or used.
struct Established {
    endpoint: usize,
    info: Arc<ConnectionInfo>,
    stopping: watch::Sender<bool>,
}

/// What a task has come to.
enum Done<C> {
    Prepared(Result<Prepared<C>, Error>),
    Ended,
}

/// Something that has happened.
enum Happened<C> {
    Command(Command<C>),
    /// Nobody has the service any more.
    Abandoned,
    Attempted(Result<(usize, Connection), Error>),
    Prepared(Result<Prepared<C>, Error>),
    Steady,
    /// The connection; with an error where what used it panicked.
    Ended(Option<Error>),
    Closed {
        attempt: u64,
        /// Whether it was cut since it took too long.
        cut: bool,
    },
    Retry,
}

impl<C: Clone + Send + 'static> Driver<C> {
    pub(super) fn new(
        settings: Settings<C>,
        commands: mpsc::UnboundedReceiver<Command<C>>,
        state: watch::Sender<ClientState>,
    ) -> Self {
        let machine = Machine::new();
        Self { settings, commands, state, machine, work: Work::Nothing, error: None, cut: false, last: None }
    }

    /// Runs until nobody has the service any more.
    pub(super) async fn run(mut self) {
        loop {
            // In no order: many who ask for a connection over and over must not keep its end from being seen, nor attempts
            // without a delay between them keep a stop from being heard.
            let happened = tokio::select! {
                command = self.commands.recv() => command.map_or(Happened::Abandoned, Happened::Command),
                happened = self.work.next() => happened,
            };
            match happened {
                Happened::Command(command) => self.command(command),
                // It is told to have stopped when what it has cut is closed.
                Happened::Abandoned => return self.work.cut().await,
                Happened::Attempted(outcome) => self.attempted(outcome),
                Happened::Prepared(outcome) => self.prepared(outcome),
                Happened::Steady => self.machine.steady(),
                Happened::Ended(error) => {
                    self.work = Work::Nothing;
                    if error.is_none() {
                        tracing::info!(service = self.settings.name, "the connection has ended");
                    }
                    self.error = error;
                    self.machine.lost(self.machine.attempt());
                }
                Happened::Closed { attempt, cut } => {
                    self.work = Work::Nothing;
                    self.cut = cut;
                    self.machine.lost(attempt);
                }
                Happened::Retry => self.machine.retry(),
            }
            self.act();
        }
    }

    fn command(&mut self, command: Command<C>) {
        match command {
            Command::Start => self.machine.start(),
            Command::Stop(whom) => self.machine.stop(whom),
            Command::When(whom, patience) => {
                self.machine.when_up(whom, patience, oneshot::Sender::is_closed);
            }
        }
    }

    fn attempted(&mut self, outcome: Result<(usize, Connection), Error>) {
        match outcome {
            Ok((endpoint, connection)) => {
                let info = Arc::new(connection.info());
                let (stopping, _) = watch::channel(false);
                self.work = Work::Connected(connection, Established { endpoint, info, stopping });
                self.machine.connected();
            }
            Err(error) => {
                self.work = Work::Nothing;
                self.error = Some(error);
                self.machine.failed();
            }
        }
    }

    fn prepared(&mut self, outcome: Result<Prepared<C>, Error>) {
        let Work::Preparing(mut task, established) = std::mem::replace(&mut self.work, Work::Nothing) else {
            return;
        };
        match outcome {
            Ok((client, run)) => {
                self.last = None;
                task.spawn(async move {
                    run.await;
                    Done::Ended
                });
                let steady = (!self.settings.reset_after.is_zero())
                    .then(|| Box::pin(sleep(self.settings.reset_after)));
                if steady.is_none() {
                    self.machine.steady();
                }
                let (attempt, info) = (self.machine.attempt(), Arc::clone(&established.info));
                let endpoint = self.settings.endpoints[established.endpoint].clone();
                tracing::info!(service = self.settings.name, attempt, %endpoint, "connected");
                self.work = Work::Up { client, task, established, steady };
                self.enter(ClientState::Connected { attempt, endpoint, info });
                self.machine.prepared();
            }
            Err(error) => {
                self.last = Some(established.endpoint);
                self.error = Some(error);
                self.machine.rejected();
            }
        }
    }

    /// Does what the machine wants.
    fn act(&mut self) {
        while !self.machine.actions.is_empty() {
            for action in std::mem::take(&mut self.machine.actions) {
                self.perform(action);
            }
        }
    }

    fn perform(&mut self, action: Action<Waiter<C>, Stopper>) {
        match action {
            Action::Attempt(attempt) => {
                tracing::debug!(service = self.settings.name, attempt, "connecting");
                self.enter(ClientState::Connecting { attempt });
                let order = self.settings.order.of(self.settings.endpoints.len(), self.last);
                let endpoints = order.iter().map(|index| (*index, self.settings.endpoints[*index].clone()));
                let connecting = connect(endpoints.collect(), self.settings.connect_timeout);
                self.work = Work::Connecting(Box::pin(connecting));
            }
            Action::CancelAttempt(_) => self.work = Work::Nothing,
            Action::Prepare(attempt) => self.prepare(attempt),
            Action::CancelPreparing(_) => {
                if let Work::Preparing(task, _) = &mut self.work {
                    task.abort_all();
                }
            }
            Action::Up(_, whom) => {
                let Work::Up { client, .. } = &self.work else { return };
                for whom in whom {
                    let cloned = self.guarded("cloning what was prepared", || client.clone());
                    let panicked = || Error::new(ErrorKind::Internal, "cloning what was prepared panicked");
                    // Whoever no longer waits needs none.
                    let _ = whom.send(cloned.ok_or_else(panicked));
                }
            }
            Action::Close(attempt) => self.close(attempt),
            Action::Wait(failures) => self.wait(failures),
            Action::GiveUp(whom, reason) => {
                let error = self.reason(reason);
                for whom in whom {
                    let _ = whom.send(Err(error.clone()));
                }
            }
            Action::Stopped(whom) => {
                if self.machine.is_stopped() {
                    self.work = Work::Nothing;
                    if !matches!(*self.state.borrow(), ClientState::Stopped) {
                        tracing::debug!(service = self.settings.name, "stopped");
                        self.enter(ClientState::Stopped);
                    }
                }
                let outcome = match std::mem::take(&mut self.cut) {
                    true => Err(self.was_cut()),
                    false => Ok(()),
                };
                for whom in whom {
                    let _ = whom.send(outcome.clone());
                }
            }
        }
    }

    fn prepare(&mut self, attempt: u64) {
        let Work::Connected(connection, established) = std::mem::replace(&mut self.work, Work::Nothing)
        else {
            return;
        };
        self.enter(ClientState::Preparing { attempt });
        let (user, limit) = (Arc::clone(&self.settings.user), self.settings.prepare_timeout);
        let stopping = Stopping::new(established.stopping.subscribe());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let prepared = timeout(limit, user(connection, stopping)).await.unwrap_or_else(|_| {
                let message = format!("the connection was not ready for use within {limit:?}");
                Err(Error::new(ErrorKind::TimedOut, message).retryable(true))
            });
            Done::Prepared(prepared)
        });
        self.work = Work::Preparing(task, established);
    }

    fn close(&mut self, attempt: u64) {
        let (mut task, established) = match std::mem::replace(&mut self.work, Work::Nothing) {
            Work::Preparing(task, established) | Work::Up { task, established, .. } => (task, established),
            // One that could not be prepared is closed already.
            other => {
                self.work = other;
                return;
            }
        };
        self.enter(ClientState::Closing);
        let patience = if established.stopping.receiver_count() == 0 {
            task.abort_all();
            None
        } else {
            established.stopping.send_replace(true);
            Some(Box::pin(sleep(self.settings.close_timeout)))
        };
        self.work = Work::Closing { task, patience, cut: false, attempt };
    }

    fn wait(&mut self, failures: u64) {
        let policy = &self.settings.policy;
        let delay = self.guarded("the retry policy", || policy.delay(failures));
        let delay = delay.unwrap_or_else(|| Backoff::new().delay(failures));
        let error = self.error.clone();
        if let Some(error) = &error {
            tracing::warn!(service = self.settings.name, failures, ?delay, %error, "not connected");
        }
        self.work = Work::Waiting(Box::pin(sleep(delay)));
        self.enter(ClientState::Waiting { failures, delay, error });
    }

    fn reason(&self, reason: Reason) -> Error {
        match (reason, &self.error) {
            (Reason::Failed, Some(error)) => error.clone(),
            _ => Error::new(ErrorKind::Cancelled, format!("{} was stopped", self.settings.name)),
        }
    }

    fn was_cut(&self) -> Error {
        let limit = self.settings.close_timeout;
        Error::new(ErrorKind::TimedOut, format!("the connection was still open after {limit:?}, and cut"))
    }
}

impl<C> Driver<C> {
    fn enter(&self, state: ClientState) {
        if let Some(observer) = &self.settings.observer {
            self.guarded("the observer of states", || observer(&state));
        }
        self.state.send_replace(state);
    }

    /// Calls what the program gave us: a panic in it must not end the service.
    fn guarded<T>(&self, what: &str, f: impl FnOnce() -> T) -> Option<T> {
        let done = catch_unwind(AssertUnwindSafe(f));
        if done.is_err() {
            tracing::error!(service = self.settings.name, "{what} panicked");
        }
        done.ok()
    }
}

/// Also where nobody has the service any more, or its runtime has ended.
impl<C> Drop for Driver<C> {
    fn drop(&mut self) {
        if !matches!(*self.state.borrow(), ClientState::Stopped) {
            self.work = Work::Nothing;
            self.enter(ClientState::Stopped);
        }
    }
}

impl<C: Send + 'static> Work<C> {
    /// Ends the use of a connection, and waits until that is done.
    async fn cut(&mut self) {
        match self {
            Self::Preparing(task, _) | Self::Up { task, .. } | Self::Closing { task, .. } => {
                task.shutdown().await;
            }
            Self::Nothing | Self::Connecting(_) | Self::Connected(..) | Self::Waiting(_) => {}
        }
    }

    /// What comes of it; nothing is lost when the future is dropped.
    async fn next(&mut self) -> Happened<C> {
        match self {
            Self::Nothing | Self::Connected(..) => std::future::pending().await,
            Self::Connecting(connecting) => Happened::Attempted(connecting.await),
            Self::Preparing(task, _) => match task.join_next().await {
                Some(Ok(Done::Prepared(outcome))) => Happened::Prepared(outcome),
                Some(Err(error)) => {
                    Happened::Prepared(Err(panicked("making the connection ready for use", &error)))
                }
                _ => std::future::pending().await,
            },
            Self::Up { task, steady, .. } => tokio::select! {
                ended = task.join_next() => {
                    let panic = ended.and_then(Result::err);
                    Happened::Ended(panic.map(|error| panicked("using the connection", &error)))
                }
                () = until(steady) => Happened::Steady,
            },
            Self::Waiting(sleep) => {
                sleep.await;
                Happened::Retry
            }
            Self::Closing { task, patience, cut, attempt } => loop {
                tokio::select! {
                    ended = task.join_next() => if ended.is_none() {
                        return Happened::Closed { attempt: *attempt, cut: *cut };
                    },
                    () = until(patience) => {
                        *cut = true;
                        task.abort_all();
                    }
                }
            },
        }
    }
}

/// Waits for the time to be over, once.
async fn until(time: &mut Option<Pin<Box<Sleep>>>) {
    match time {
        Some(sleep) => {
            sleep.await;
            *time = None;
        }
        None => std::future::pending().await,
    }
}

fn panicked(doing: &str, error: &JoinError) -> Error {
    of_program(api::ErrorKind::Internal, format!("{doing} failed: {error}"))
}
