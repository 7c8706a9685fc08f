//! Serving every connection of a listener, until told to stop.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout_at};

use crate::connection::Connection;
use crate::error::{Error, ErrorKind};
use crate::listener::{Incoming, Listener};

/// Serves every connection of a listener: accepts, hands each to a task of its own, and drains when told to stop.
///
/// An error on one connection, or of one `accept`, never ends it.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> Result<(), endpoints::Error> {
/// use endpoints::serve::Serve;
///
/// let listener = endpoints::server("tcp:port=8080")?.listen().await?;
/// let stop = async { tokio::time::sleep(std::time::Duration::from_secs(60)).await };
/// let outcome = Serve::new(listener)
///     .max_connections(100)
///     .run(|_id, incoming| async move { drop(incoming.await) }, stop)
///     .await;
/// assert_eq!(outcome.cut, 0);
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is served until it runs"]
pub struct Serve {
    listener: Listener,
    max_connections: Option<usize>,
    when_full: WhenFull,
    drain_timeout: Duration,
    acceptors: usize,
    observer: Observer,
}

/// What is done with a connection beyond the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// It waits in the backlog until another connection ends.
    #[default]
    Wait,
    /// It is accepted and closed at once.
    Refuse,
}

/// Something that happened while serving.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A connection was accepted; its handshake may still be to come.
    Accepted {
        /// Its number, counted from 1.
        id: u64,
        /// The connection; [`Incoming::info`] tells what is known about it.
        incoming: &'a Incoming,
    },
    /// The other side of a relayed connection is connected.
    Connected {
        /// The number of the accepted connection.
        id: u64,
        /// The accepted connection, its handshake done: what it knows may be more than before, such as the address that a
        /// proxy has told. `None` where nothing was accepted.
        accepted: Option<&'a Connection>,
        /// The other side.
        connected: &'a Connection,
    },
    /// A connection ended.
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
    Error {
        /// The connection's number, where it is about one.
        id: Option<u64>,
        /// What failed.
        error: &'a Error,
    },
    /// No more connections are accepted; the open ones may end.
    Draining,
    /// It is over.
    Stopped,
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

    pub(crate) fn tell(&self, event: &Event<'_>) {
        (self.0)(event);
    }
}

impl Serve {
    /// Serves `listener`, without a limit, and with 30 s to drain.
    pub fn new(listener: Listener) -> Self {
        Self {
            listener,
            max_connections: None,
            when_full: WhenFull::Wait,
            drain_timeout: Duration::from_secs(30),
            acceptors: 1,
            observer: Observer::none(),
        }
    }

    /// Serves at most so many connections at a time.
    pub fn max_connections(mut self, most: usize) -> Self {
        self.max_connections = Some(most);
        self
    }

    /// What to do with more connections than that.
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// How long open connections may go on when it is told to stop; they are cut then.
    pub fn drain_timeout(mut self, limit: Duration) -> Self {
        self.drain_timeout = limit;
        self
    }

    /// How many tasks accept at the same time.
    pub fn acceptors(mut self, count: usize) -> Self {
        self.acceptors = count.max(1);
        self
    }

    /// Calls `observe` for every event, in the tasks where they happen: it must not block.
    pub fn on_event(mut self, observe: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        self.observer = Observer::new(observe);
        self
    }

    pub(crate) fn observer(&self) -> Observer {
        self.observer.clone()
    }

    /// Serves until `stop` ends: stops listening then, gives up handshakes that go on for two seconds more
    /// ([`Incoming::establish`]), lets the open connections end, and cuts those that do not within the drain timeout. A listener that has no more connections to give ([`ErrorKind::Closed`]), as that of `stdio`,
    /// ends it with the last of them.
    ///
    /// `handle` is called for each connection, with its number; it awaits the [`Incoming`] for the handshake.
    ///
    /// # Cancel safety
    /// Dropping the future stops listening and cuts all connections.
    pub async fn run<H, F>(self, handle: H, stop: impl Future<Output = ()>) -> Outcome
    where
        H: Fn(u64, Incoming) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (stopping, stopped) = watch::channel(false);
        let observer = self.observer.clone();
        let shared = Arc::new(Shared {
            listener: self.listener,
            handle,
            slots: self
                .max_connections
                .map(|most| Slots { free: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))), most }),
            when_full: self.when_full,
            observer: self.observer,
            next_id: AtomicU64::new(1),
        });
        let mut acceptors = JoinSet::new();
        for _ in 0..self.acceptors {
            acceptors.spawn(accept_loop(Arc::clone(&shared), stopped.clone()));
        }
        let mut open = Vec::new();
        let mut error = None;
        let exhausted = async {
            // An acceptor ends by itself only when the listener is of no more use.
            while let Some(ended) = acceptors.join_next().await {
                take_over(ended, &mut open, &mut error);
                if error.is_some() {
                    return;
                }
            }
            // There was nothing wrong with it: it had no more connections to give. Those that it gave end by themselves.
            drain(&mut open, None).await;
        };
        let ended_by_itself = tokio::select! {
            () = stop => false,
            () = exhausted => true,
        };
        let exhausted = ended_by_itself && error.is_none();
        let _ = stopping.send(true);
        if !exhausted {
            observer.tell(&Event::Draining);
        }
        while let Some(ended) = acceptors.join_next().await {
            take_over(ended, &mut open, &mut error);
        }
        let deadline = Instant::now().checked_add(self.drain_timeout);
        // A listener that is slow to close takes nothing from the connections' time, and has no more than they have.
        let closing = async {
            if let Some(shared) = Arc::into_inner(shared)
                && let Err(error) = shared.listener.close().await
            {
                observer.tell(&Event::Error { id: None, error: &error });
            }
        };
        let (_, cut) = tokio::join!(until(deadline, closing), drain(&mut open, deadline));
        observer.tell(&Event::Stopped);
        Outcome { cut, error, exhausted }
    }
}

/// Waits for `future`, no longer than to the deadline.
async fn until<T>(deadline: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => timeout_at(deadline, future).await.ok(),
        None => Some(future.await),
    }
}

/// Waits for connections to end; cuts those that are open at the deadline, and counts them.
async fn drain(open: &mut [JoinSet<()>], deadline: Option<Instant>) -> usize {
    let mut cut = 0;
    for connections in open {
        loop {
            let ended = until(deadline, connections.join_next()).await;
            if !matches!(ended, Some(Some(_))) {
                break;
            }
        }
        cut += connections.len();
        connections.shutdown().await;
    }
    cut
}

/// The connections of an acceptor that ended, and why it did unless it was told to.
type Ended = (JoinSet<()>, Option<Error>);

fn take_over(ended: Result<Ended, JoinError>, open: &mut Vec<JoinSet<()>>, error: &mut Option<Error>) {
    match ended {
        Ok((connections, reason)) => {
            open.push(connections);
            if error.is_none() {
                *error = reason;
            }
        }
        Err(panic) => *error = Some(Error::new(ErrorKind::Internal, format!("an acceptor failed: {panic}"))),
    }
}

struct Shared<H> {
    listener: Listener,
    handle: H,
    slots: Option<Slots>,
    when_full: WhenFull,
    observer: Observer,
    next_id: AtomicU64,
}

/// The places for connections, where they are limited.
struct Slots {
    free: Arc<Semaphore>,
    most: usize,
}

/// A connection's place among the limited number, given back when it ends.
type Slot = Option<OwnedSemaphorePermit>;

impl<H> Shared<H> {
    async fn accept(&self) -> Result<Option<(Slot, Incoming)>, Error> {
        let Some(slots) = &self.slots else {
            return Ok(Some((None, self.listener.accept().await?)));
        };
        let free = Arc::clone(&slots.free);
        match self.when_full {
            WhenFull::Wait => {
                // Never closed, so there always comes one.
                let slot = free.acquire_owned().await.ok();
                Ok(Some((slot, self.listener.accept().await?)))
            }
            WhenFull::Refuse => {
                let incoming = self.listener.accept().await?;
                if let Ok(slot) = free.try_acquire_owned() {
                    return Ok(Some((Some(slot), incoming)));
                }
                let message = format!("a connection is refused: {} are open, which is the limit", slots.most);
                let error = Error::new(ErrorKind::ResourceExhausted, message).retryable(true);
                self.observer.tell(&Event::Error { id: None, error: &error });
                Ok(None)
            }
        }
    }
}

async fn accept_loop<H, F>(shared: Arc<Shared<H>>, mut stopped: watch::Receiver<bool>) -> Ended
where
    H: Fn(u64, Incoming) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let mut open = JoinSet::new();
    let mut failures = Failures::default();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => return (open, None),
            // Those that ended are forgotten, so that the set is as large as what is open.
            Some(_) = open.join_next() => continue,
            accepted = shared.accept() => accepted,
        };
        match accepted {
            Ok(None) => {}
            Ok(Some((slot, mut incoming))) => {
                incoming.until(&stopped);
                failures = Failures::default();
                let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
                shared.observer.tell(&Event::Accepted { id, incoming: &incoming });
                let handled = (shared.handle)(id, incoming);
                open.spawn(async move {
                    handled.await;
                    drop(slot);
                });
            }
            Err(error) if error.kind() == ErrorKind::Closed => return (open, None),
            Err(error) => {
                shared.observer.tell(&Event::Error { id: None, error: &error });
                if error.kind() == ErrorKind::PluginPanicked {
                    return (open, Some(error));
                }
                tokio::select! {
                    _ = stopped.wait_for(|stopped| *stopped) => return (open, None),
                    () = sleep(failures.pause()) => {}
                }
            }
        }
    }
}

/// How often accepting has failed in a row: the pauses grow from 10 ms to 1 s, so that neither the log nor the processor
/// is flooded while descriptors are short.
#[derive(Default)]
struct Failures(u32);

impl Failures {
    fn pause(&mut self) -> Duration {
        let pause = Duration::from_millis(10 << self.0.min(7)).min(Duration::from_secs(1));
        self.0 += 1;
        pause
    }
}

impl fmt::Debug for Serve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve").field("listener", &self.listener).finish_non_exhaustive()
    }
}
