//! Services that start and stop together.

use std::fmt;
use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinError;

use crate::error::{Error, ErrorKind};
use crate::service::signal::{Signal, Signals};
use crate::service::{BoxFuture, Service};

mod member;
#[cfg(test)]
mod tests;

use member::{Begin, Member};

/// Services that are started in the order in which they were added, and stopped in the opposite one.
///
/// Each is started when the start of the one before it has returned: a server listens then, while a
/// [`ClientService`](crate::service::ClientService) has begun to connect.
///
/// It is a service itself, so groups nest. A service that is added to a group that runs is started at once.
///
/// Cheap to clone; all clones are the same group. It stops nothing when the last one is dropped, but its services are dropped
/// then, and what nobody else has a handle of ends, without a drain: stop it before.
///
/// # Examples
///
/// A program that runs until SIGTERM or SIGINT:
///
/// ```no_run
/// # async fn example(database: endpoints::service::ClientService) -> Result<(), endpoints::Error> {
/// # let web = database.clone();
/// use endpoints::service::ServiceGroup;
///
/// // What `web` needs is there before it is started, and until it has stopped.
/// let program = ServiceGroup::new("program").with(database).with(web);
/// program.run_until_signal().await
/// # }
/// ```
#[derive(Clone)]
#[must_use = "nothing is started until it is"]
pub struct ServiceGroup {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    members: Mutex<Members>,
    /// Starting and stopping happen one after the other.
    turn: tokio::sync::Mutex<()>,
    /// How often it was told to stop: what is being started then is given up.
    stops: watch::Sender<u64>,
    /// The members are other ones than before.
    changed: Notify,
}

#[derive(Default)]
struct Members {
    services: Vec<Arc<Member>>,
    together: bool,
    running: bool,
}

impl ServiceGroup {
    /// A group without services.
    pub fn new(name: impl Into<String>) -> Self {
        let members = Mutex::default();
        let turn = tokio::sync::Mutex::new(());
        let (stops, changed) = (watch::Sender::new(0), Notify::new());
        Self { shared: Arc::new(Shared { name: name.into(), members, turn, stops, changed }) }
    }

    /// The same with one more service. To one that may be running already, [`add`](Self::add) it: this starts nothing.
    pub fn with(self, service: impl Service + 'static) -> Self {
        self.members().services.push(Member::new(service));
        self
    }

    /// Makes it stop all services at the same time, for those that do not need each other: the longest drain is what
    /// stopping takes then, and not the sum of all.
    pub fn stop_together(self) -> Self {
        self.members().together = true;
        self
    }

    /// Adds a service, and starts it if the group runs.
    ///
    /// # Errors
    /// Why it cannot be started; [`ErrorKind::Cancelled`] if the group is stopped meanwhile, or the service removed. It is
    /// not in the group then, and stopped.
    ///
    /// # Cancel safety
    /// When the future is dropped, the service is either in the group, or was not started.
    pub async fn add(&self, service: impl Service + 'static) -> Result<(), Error> {
        let member = Member::new(service);
        let added = self.unless_stopped(self.add_member(&member)).await;
        // It was added first, so that it is stopped with the others, also if this future is dropped.
        if added.is_err() && self.has(&member) {
            if let Err(also) = stop(&member.service).await {
                tracing::warn!(service = self.shared.name, error = %also, "stopping what was to be added");
            }
            self.forget(&member);
        }
        added
    }

    async fn add_member(&self, member: &Arc<Member>) -> Result<(), Error> {
        let _turn = self.shared.turn.lock().await;
        self.members().services.push(Arc::clone(member));
        if self.members().running {
            match member.begin(Service::start).await {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    self.forget(member);
                    return Err(about(&*member.service, error));
                }
                None => {
                    let message = format!("{} was removed before it had started", member.service.name());
                    return Err(Error::new(ErrorKind::Cancelled, message));
                }
            }
        }
        self.shared.changed.notify_waiters();
        Ok(())
    }

    /// Stops a service and takes it out of the group: the first one with that name. `false` if there is none. Where it is
    /// being started, that is given up, and the others are started all the same.
    ///
    /// # Errors
    /// What went wrong when it stopped; it is out all the same.
    ///
    /// # Cancel safety
    /// As [`Service::stop`]; it is out when the future is first polled.
    pub async fn remove(&self, name: &str) -> Result<bool, Error> {
        let members = self.members().services.clone();
        let Some(member) = members.into_iter().find(|member| member.service.name() == name) else {
            return Ok(false);
        };
        self.forget(&member);
        // First, so that nothing starts it after it has stopped.
        member.remove();
        self.shared.changed.notify_waiters();
        stop(&member.service).await.map_err(|error| about(&*member.service, error))?;
        Ok(true)
    }

    /// What logs and errors call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The names of the services, in order.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.services().iter().map(Service::name).collect()
    }

    /// Starts all, waits until `stop` ends or one of them [cannot go on](Service::ended), and stops all. Also when `stop`
    /// ends while they start.
    ///
    /// # Errors
    /// Why one could not be started, or could not go on; else what went wrong when they stopped.
    ///
    /// # Cancel safety
    /// Dropping the future leaves what was started running; [`stop`](Service::stop) stops it.
    pub async fn run(&self, stop: impl Future<Output = ()>) -> Result<(), Error> {
        let ended = {
            let run = async {
                self.start().await?;
                self.ended().await
            };
            tokio::select! {
                ended = run => ended,
                () = stop => Ok(()),
            }
        };
        let stopped = self.stop().await;
        ended.and(stopped)
    }

    /// Runs until the process is sent SIGTERM or SIGINT: [starts](Self::run) all, and stops all then. A second signal ends
    /// the waiting for them to stop. Also when this has returned, these signals no longer end the process by themselves.
    ///
    /// # Errors
    /// As [`run`](Self::run); [`ErrorKind::Cancelled`] after a second signal; and if signals cannot be waited for.
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    pub async fn run_until_signal(&self) -> Result<(), Error> {
        let mut signals = Signals::new()?;
        let (first, mut came) = watch::channel(false);
        let second = async {
            let signal = signals.next().await;
            tracing::info!(service = self.shared.name, %signal, "stopping");
            first.send_replace(true);
            signals.next().await
        };
        let stop = async {
            // The sender lives as long as this.
            let _ = came.wait_for(|came| *came).await;
        };
        tokio::select! {
            ended = self.run(stop) => ended,
            signal = second => Err(self.hurried(signal)),
        }
    }

    fn hurried(&self, signal: Signal) -> Error {
        let message = format!("{signal} came as a second signal before {} had stopped", self.shared.name);
        Error::new(ErrorKind::Cancelled, message)
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.shared.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn services(&self) -> Vec<Arc<dyn Service>> {
        self.members().services.iter().map(|member| Arc::clone(&member.service)).collect()
    }

    fn has(&self, member: &Arc<Member>) -> bool {
        self.members().services.iter().any(|other| Arc::ptr_eq(other, member))
    }

    fn forget(&self, member: &Arc<Member>) {
        self.members().services.retain(|other| !Arc::ptr_eq(other, member));
    }

    /// Does what takes part in starting, until the group is told to stop.
    async fn unless_stopped(&self, work: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
        let mut stops = self.shared.stops.subscribe();
        tokio::select! {
            done = work => done,
            _ = stops.changed() => {
                let message = format!("{} was stopped before it had started", self.shared.name);
                Err(Error::new(ErrorKind::Cancelled, message))
            }
        }
    }

    /// Binds or starts each, but for those that are removed meanwhile.
    async fn begin_all(&self, begin: Begin) -> Result<(), Error> {
        let members = self.members().services.clone();
        for member in members {
            if let Some(Err(error)) = member.begin(begin).await {
                return Err(self.undo(about(&*member.service, error)).await);
            }
        }
        Ok(())
    }

    /// Stops what was begun; the error is why.
    async fn undo(&self, error: Error) -> Error {
        self.members().running = false;
        if let Err(also) = self.stop_all().await {
            tracing::warn!(service = self.shared.name, error = %also, "stopping what was started");
        }
        error
    }

    /// Stops all, whatever happens to the others.
    async fn stop_all(&self) -> Result<(), Error> {
        let services: Vec<Arc<dyn Service>> = self.services().into_iter().rev().collect();
        let outcomes = if self.members().together {
            together(services.iter().map(stop).collect()).await
        } else {
            let mut outcomes = Vec::new();
            for service in &services {
                outcomes.push(stop(service).await);
            }
            outcomes
        };
        let failed = services
            .iter()
            .zip(outcomes)
            .filter_map(|(service, outcome)| outcome.err().map(|error| about(&**service, error)));
        collected(failed.collect())
    }
}

impl Service for ServiceGroup {
    fn name(&self) -> String {
        self.shared.name.clone()
    }

    /// Binds each in order. If one cannot be bound, those before are stopped. Does nothing where the group runs.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the one that is being bound, and leaves those before it bound; stopping the group stops
    /// them.
    fn bind(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.unless_stopped(async {
            let _turn = self.shared.turn.lock().await;
            if self.members().running { Ok(()) } else { self.begin_all(Service::bind).await }
        }))
    }

    /// Binds each in order, then starts each in order. If one cannot be started, those before are stopped.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the one that is being started, and leaves those before it running; stopping the group
    /// stops them.
    fn start(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.unless_stopped(async {
            let _turn = self.shared.turn.lock().await;
            self.begin_all(Service::bind).await?;
            self.members().running = true;
            self.begin_all(Service::start).await
        }))
    }

    /// Stops each, the last one first; gives up what is being started. Errors are collected into one.
    fn stop(&self) -> BoxFuture<'_, Result<(), Error>> {
        let group = self.clone();
        Box::pin(async move {
            group.shared.stops.send_modify(|stops| *stops += 1);
            let stopping = async move {
                let _turn = group.shared.turn.lock().await;
                group.members().running = false;
                group.stop_all().await
            };
            // In a task of its own: those to come are told, even if nobody waits any more.
            match Handle::try_current() {
                Ok(runtime) => runtime.spawn(stopping).await.unwrap_or_else(|error| Err(broken(&error))),
                Err(_) => stopping.await,
            }
        })
    }

    /// Waits until one cannot go on, or all have nothing more to do.
    fn ended(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            loop {
                let changed = self.shared.changed.notified();
                let services = self.services();
                tokio::select! {
                    ended = all_ended(&services) => return ended,
                    () = changed => {}
                }
            }
        })
    }
}

/// Waits for an error of one, or for all of at least one to end.
async fn all_ended(services: &[Arc<dyn Service>]) -> Result<(), Error> {
    let mut ending: Vec<_> = services.iter().map(|service| (service, service.ended())).collect();
    poll_fn(|cx| {
        let mut failed = None;
        ending.retain_mut(|(service, ended)| match ended.as_mut().poll(cx) {
            Poll::Pending => true,
            Poll::Ready(outcome) => {
                if let Err(error) = outcome {
                    failed.get_or_insert_with(|| about(&***service, error));
                }
                false
            }
        });
        match failed {
            Some(error) => Poll::Ready(Err(error)),
            None if ending.is_empty() && !services.is_empty() => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    })
    .await
}

/// Stops a service, in a task of its own where there is a runtime: one that panics must not keep others from being stopped.
fn stop(service: &Arc<dyn Service>) -> BoxFuture<'static, Result<(), Error>> {
    let service = Arc::clone(service);
    let stopping = async move { service.stop().await };
    match Handle::try_current() {
        Ok(runtime) => {
            let stopping = runtime.spawn(stopping);
            Box::pin(async move { stopping.await.unwrap_or_else(|error| Err(broken(&error))) })
        }
        Err(_) => Box::pin(stopping),
    }
}

fn broken(error: &JoinError) -> Error {
    Error::new(ErrorKind::Internal, format!("stopping failed: {error}"))
}

/// Drives all, and gives what came of each.
async fn together<T>(mut futures: Vec<BoxFuture<'static, T>>) -> Vec<T> {
    let mut outcomes: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (future, outcome) in futures.iter_mut().zip(&mut outcomes) {
            if outcome.is_none()
                && let Poll::Ready(done) = future.as_mut().poll(cx)
            {
                *outcome = Some(done);
            }
        }
        if outcomes.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outcomes.into_iter().flatten().collect()
}

fn about(service: &dyn Service, error: Error) -> Error {
    error.context(service.name())
}

/// One error for all.
fn collected(mut failed: Vec<Error>) -> Result<(), Error> {
    if failed.len() < 2 {
        return failed.pop().map_or(Ok(()), Err);
    }
    let each: Vec<String> = failed.iter().map(Error::to_string).collect();
    let message = format!("{} services did not stop as they should: {}", failed.len(), each.join("; "));
    Err(Error::new(failed[0].kind(), message))
}

impl fmt::Debug for ServiceGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceGroup")
            .field("name", &self.shared.name)
            .field("services", &self.names())
            .finish()
    }
}
