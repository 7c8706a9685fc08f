//! Serving every connection of a listener, until told to stop.

use std::fmt;
use std::future::Future;
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout};

use crate::error::{Error, ErrorKind};
use crate::listener::{Incoming, Listener};

mod accept;
mod balance;
mod drain;
mod event;
mod handling;
mod limits;
mod listening;
mod occupancy;
mod pauses;
mod reserve;
mod settings;
mod stopping;
mod workers;

use accept::{Acceptor, Shared, accept_loop};
use balance::Balance;
use drain::{Open, TO_CUT, drain, until};
pub(crate) use event::Observer;
pub use event::{Event, Outcome};
pub(crate) use limits::Terms;
use listening::{Listening, OnWorkers};
pub(crate) use pauses::Failures;
use pauses::Pauses;
use reserve::{Reserve, is_about_descriptors};
pub(crate) use settings::Settings;
pub use settings::WhenFull;
pub use stopping::Stopping;
pub use workers::Workers;
pub(crate) use workers::is_worker;

/// Serves every connection of a listener: accepts, hands each to a task of its own, and drains when told to stop.
///
/// An error on one connection, or of one `accept`, never ends it, and neither does a panic while one is handled. Where
/// descriptors run out, what waits to be accepted is accepted and closed, so that its clients hear of it, and accepting
/// pauses for a time that grows to a second; for that a descriptor is kept in reserve.
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
    reserve: Reserve,
    pauses: Arc<Pauses>,
    settings: Settings,
}

impl Serve {
    /// Serves `listener`, without a limit, and with 30 s to drain.
    pub fn new(listener: Listener) -> Self {
        let (reserve, pauses) = (Reserve::new(), Arc::default());
        Self { listener, reserve, pauses, settings: Settings::new() }
    }

    /// With other settings, all of them.
    pub(crate) fn with(mut self, settings: Settings) -> Self {
        self.settings = settings;
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

    /// Serves at most so many connections of one peer at a time, at least one; more are accepted and closed at once, and
    /// told as an [`Event::Error`] of the kind [`ErrorKind::ResourceExhausted`].
    ///
    /// A peer is an IPv4 address, the first 64 bits of an IPv6 address, or the user at the other end of a Unix socket.
    /// Where a handshake tells who the peer is, as `haproxy` reads it from the proxy, the connection is counted as one of
    /// theirs when the handshake is done, which fails then; believe it as far as the proxy. Where nothing tells what is
    /// behind a proxy, all its connections are one peer's.
    pub fn max_per_peer(mut self, most: usize) -> Self {
        self.settings.max_per_peer = Some(most);
        self
    }

    /// Lets at most so many handshakes go on at a time, at least one; further connections wait in the backlog until one of
    /// them ends. A handshake goes on from accepting the connection until its [`Incoming`] has been awaited, or dropped.
    pub fn max_handshakes(mut self, most: usize) -> Self {
        self.settings.max_handshakes = Some(most);
        self
    }

    /// Gives a handshake at most so much time from accepting the connection on; awaiting its [`Incoming`] fails with
    /// [`ErrorKind::TimedOut`] then. Without it there is no limit but that of [`Incoming::establish`].
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.settings.handshake_timeout = Some(limit);
        self
    }

    /// Ends waiting on a connection, once its handshake is done, when nothing was read or written for so long; see
    /// [`Connection::set_idle_timeout`](crate::Connection::set_idle_timeout).
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.settings.idle_timeout = Some(limit);
        self
    }

    /// How long open connections may go on when it is told to stop; they are cut then. What blocks its thread by then is given
    /// two seconds more at most, and left behind.
    pub fn drain_timeout(mut self, limit: Duration) -> Self {
        self.settings.drain_timeout = limit;
        self
    }

    /// How many tasks accept at the same time on the thread, or the runtime, that runs it: from 1 to 1024; 1 unless said
    /// otherwise. Each of the [`workers`](Self::workers) adds one.
    pub fn acceptors(mut self, count: usize) -> Self {
        self.settings.acceptors = count;
        self
    }

    /// Has `workers` accept and serve too, where it is a socket that is listened on. Where it is not, connections are accepted
    /// here, and served by all. In either case whoever accepts a connection while it has many more open than another leaves it
    /// to that one; what is open stays where it is.
    ///
    /// A worker that is blocked when serving begins, for two seconds, is done without. When the workers end while it serves
    /// ([`Workers::shutdown_timeout`]), their connections are cut, and it goes on without them.
    pub fn workers(mut self, workers: &Workers) -> Self {
        self.settings.workers = Some(workers.clone());
        self
    }

    /// Where descriptors have run out, serves one connection after another by the one that is kept in reserve, and closes none
    /// that waits: for what is wanted most then, such as metrics. The handler must need no further descriptor.
    pub fn serve_from_reserve(mut self) -> Self {
        self.settings.from_reserve = true;
        self
    }

    /// Calls `observe` for every event, in the tasks where they happen: it must not block. A panic in it is logged, and ends
    /// nothing.
    pub fn on_event(mut self, observe: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        self.settings.observer = Observer::new(observe);
        self
    }

    /// For handlers that tell what they do with a connection: where that fails for want of descriptors, accepting pauses too.
    pub(crate) fn observer(&self) -> Observer {
        let (observer, pauses) = (self.settings.observer.clone(), Arc::clone(&self.pauses));
        Observer::new(move |event| {
            if matches!(event, Event::Error { error, .. } if is_about_descriptors(error)) {
                pauses.begin();
            }
            observer.tell(event);
        })
    }

    /// Stops listening without having served.
    ///
    /// # Cancel safety
    /// Dropping the future stops listening all the same.
    pub(crate) async fn close(self) {
        let deadline = Instant::now().checked_add(self.settings.drain_timeout);
        if let Some(Err(error)) = until(deadline, &Stopping::never(), self.listener.close()).await {
            self.settings.observer.tell(&Event::error(None, &error));
        }
    }

    /// Serves until `stop` ends: stops listening then, gives up handshakes that go on for two seconds more, lets the open
    /// connections end, and cuts those that do not within the drain timeout. A listener that has no more connections to
    /// give ([`ErrorKind::Closed`]), as that of `stdio`, ends it with the last of them.
    ///
    /// `handle` is called for each connection, with its number; it awaits the [`Incoming`] for the handshake.
    /// [`Incoming::stopping`] tells it when `stop` has ended. A panic in it ends that connection alone, and is told as an
    /// [`Event::Error`] of the kind [`ErrorKind::Internal`].
    ///
    /// # Cancel safety
    /// Dropping the future stops listening and cuts all connections.
    pub async fn run<H, F>(self, handle: H, stop: impl Future<Output = ()>) -> Outcome
    where
        H: Fn(u64, Incoming) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        self.run_until_cut(handle, stop, &Stopping::never()).await
    }

    /// The same, but the time to drain is over when `cut` says so, at the latest.
    pub(crate) async fn run_until_cut<H, F>(
        self,
        handle: H,
        stop: impl Future<Output = ()>,
        cut: &Stopping,
    ) -> Outcome
    where
        H: Fn(u64, Incoming) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (stopping, stopped) = watch::channel(false);
        let stopped = Stopping::new(stopped);
        let settings = self.settings.within_bounds();
        let Settings { drain_timeout, acceptors: count, ref observer, .. } = settings;
        let observer = observer.clone();
        let mut listening = Listening::new(self.listener);
        let mut acceptors = JoinSet::new();
        let mut served = Vec::new();
        let mut open = Vec::new();
        let mut error = None;
        let mut cut_already = 0;
        let serving = async {
            let workers = match &settings.workers {
                Some(workers) => listening.on_workers_too(workers).await,
                None => OnWorkers::default(),
            };
            let own = workers.accept() || workers.serving.is_empty();
            let runtimes = workers.serving.iter().map(|worker| &worker.runtime).cloned();
            let balance = Balance::new(iter::once(Handle::current()).chain(runtimes), workers.ended);
            let shared = Arc::new(Shared::new((self.reserve, self.pauses), settings, balance, own));
            // Not shared with the rest: connections that go on must not keep the listener.
            let handle = Arc::new(handle);
            let mut begin = |thread, listener: &Arc<Listener>, runtime: &Handle| {
                let (shared, listener, open) = (Arc::clone(&shared), Arc::clone(listener), Open::default());
                served.push(open.clone());
                let acceptor = Acceptor { shared, listener, thread, open };
                acceptors.spawn_on(accept_loop(acceptor, Arc::clone(&handle), stopped.clone()), runtime);
            };
            for _ in 0..count {
                begin(0, listening.first(), &Handle::current());
            }
            for (thread, worker) in (1..).zip(&workers.serving) {
                if let Some(listener) = &worker.listener {
                    begin(thread, listener, &worker.runtime);
                }
            }
            drop(workers.serving);
            // An acceptor ends by itself only when the listener is of no more use, or its worker has ended.
            let accepting = async {
                while let Some(ended) = acceptors.join_next().await {
                    take_over(ended, &mut error);
                    if error.is_some() {
                        return;
                    }
                }
            };
            match &shared.occupancy {
                Some(occupancy) => occupancy.told_while(accepting, &observer).await,
                None => accepting.await,
            }
            if error.is_some() {
                return;
            }
            // There was nothing wrong with it: it had no more connections to give. Those that it gave end by themselves.
            open.extend(served.iter().map(Open::take));
            cut_already = drain(&mut open, None, cut).await;
        };
        let ended_by_itself = tokio::select! {
            () = stop => false,
            () = serving => true,
        };
        let exhausted = ended_by_itself && error.is_none();
        let deadline = Instant::now().checked_add(drain_timeout);
        let _ = stopping.send(true);
        if !exhausted {
            observer.tell(&Event::Draining);
        }
        let ending = async {
            while let Some(ended) = acceptors.join_next().await {
                take_over(ended, &mut error);
            }
        };
        // They are told to, and need a moment for that also where there is no time to drain.
        if until(deadline, cut, ending).await.is_none() {
            acceptors.abort_all();
            let ending = async { while acceptors.join_next().await.is_some() {} };
            if timeout(TO_CUT, ending).await.is_err() {
                let left = acceptors.len();
                tracing::warn!(left, "workers are blocked: they accept no more, but keep the socket");
            }
        }
        open.extend(served.iter().map(Open::take));
        // A listener that is slow to close takes nothing from the connections' time, and has no more than they have.
        let closing = listening.close(&observer);
        let (_, cut) = tokio::join!(until(deadline, cut, closing), drain(&mut open, deadline, cut));
        observer.tell(&Event::Stopped);
        Outcome { cut: cut_already + cut, error, exhausted }
    }
}

/// Looks at how an acceptor has ended. Where it was cancelled its worker has ended, and the others go on.
fn take_over(ended: Result<Option<Error>, JoinError>, error: &mut Option<Error>) {
    let reason = match ended {
        Ok(reason) => reason,
        Err(failed) if failed.is_cancelled() => {
            tracing::debug!("a worker has ended, and accepts no more");
            None
        }
        Err(panic) => Some(Error::new(ErrorKind::Internal, format!("an acceptor failed: {panic}"))),
    };
    if error.is_none() {
        *error = reason;
    }
}

impl fmt::Debug for Serve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve").field("listener", &self.listener).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
