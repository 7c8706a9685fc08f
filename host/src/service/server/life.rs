//! What a service is doing, and how it comes from one thing to the next. No lock is held while anything is awaited.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::ServerState;
use super::run::{Handler, Run};
use crate::address::Address;
use crate::error::{Error, ErrorKind};
use crate::grammar::Description;
use crate::listener::Listener;
use crate::serve::{Outcome, Serve, Settings};
use crate::service::BoxFuture;

pub(super) struct Life {
    settings: Settings,
    /// While it listens. Locked by itself, and with nothing told meanwhile, so that whoever holds a look at the state can
    /// ask for it.
    reached: Mutex<Reached>,
    now: Mutex<Now>,
    /// For whoever wants to know, and whoever waits for a change of `now`: each is sent here, also where the state is the
    /// same.
    state: watch::Sender<ServerState>,
}

struct Now {
    phase: Phase,
    /// How often it was told to stop: what was begun before must not start it any more.
    stops: u64,
}

/// How what listens is reached.
#[derive(Default)]
pub(super) struct Reached {
    pub(super) descriptions: Vec<Description>,
    pub(super) addresses: Vec<Address>,
}

enum Phase {
    Stopped,
    Binding(Attempt),
    Bound(Box<Serve>),
    Running(Run),
    Draining {
        run: Run,
        /// Whether it was told to stop; else it has failed.
        told: bool,
    },
    /// By itself.
    Ended(Result<(), Error>),
}

/// Listening that goes on. Whoever awaits it polls the future in its place, and whoever stops it drops it there.
#[derive(Clone)]
struct Attempt(Arc<Mutex<Option<Listening>>>);

pub(super) type Listening = BoxFuture<'static, Result<Listener, Error>>;

/// What whoever wants to bind has to do.
enum Turn {
    Nothing,
    Wait,
    Listen(Attempt),
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn given_up() -> Error {
    Error::new(ErrorKind::Cancelled, "the service was stopped before it had started")
}

impl Life {
    pub(super) fn new(settings: Settings) -> Self {
        let now = Mutex::new(Now { phase: Phase::Stopped, stops: 0 });
        Self { settings, reached: Mutex::default(), now, state: watch::channel(ServerState::Stopped).0 }
    }

    pub(super) fn watch(&self) -> watch::Receiver<ServerState> {
        self.state.subscribe()
    }

    pub(super) fn stops(&self) -> u64 {
        locked(&self.now).stops
    }

    pub(super) fn reached<T>(&self, of: impl FnOnce(&Reached) -> T) -> T {
        of(&locked(&self.reached))
    }

    /// Changes the phase; the lock is held, so that states are told in their order.
    fn enter(&self, now: &mut Now, phase: Phase) {
        now.phase = phase;
        if !matches!(now.phase, Phase::Bound(_) | Phase::Running(_)) {
            *locked(&self.reached) = Reached::default();
        }
        self.state.send_replace(match &now.phase {
            Phase::Stopped => ServerState::Stopped,
            Phase::Binding(_) => ServerState::Binding,
            Phase::Bound(_) => ServerState::Bound,
            Phase::Running(_) => ServerState::Running,
            Phase::Draining { .. } => ServerState::Draining,
            Phase::Ended(Ok(())) => ServerState::Finished,
            Phase::Ended(Err(_)) => ServerState::Failed,
        });
    }

    /// Listens, unless it is told to stop more often than `stops`; says whether there was anything to be done.
    pub(super) async fn bind(&self, stops: u64, listen: impl Fn() -> Listening) -> Result<bool, Error> {
        let mut changes = self.state.subscribe();
        loop {
            changes.mark_unchanged();
            match self.turn(stops, &listen)? {
                Turn::Nothing => return Ok(false),
                // The other end is this one's own.
                Turn::Wait => drop(changes.changed().await),
                Turn::Listen(attempt) => return self.listen(stops, attempt).await.map(|()| true),
            }
        }
    }

    fn turn(&self, stops: u64, listen: impl Fn() -> Listening) -> Result<Turn, Error> {
        let mut now = locked(&self.now);
        if now.stops != stops {
            return Err(given_up());
        }
        match now.phase {
            Phase::Bound(_) | Phase::Running(_) => Ok(Turn::Nothing),
            Phase::Binding(_) | Phase::Draining { .. } => Ok(Turn::Wait),
            Phase::Stopped | Phase::Ended(_) => {
                let attempt = Attempt(Arc::new(Mutex::new(Some(listen()))));
                self.enter(&mut now, Phase::Binding(attempt.clone()));
                Ok(Turn::Listen(attempt))
            }
        }
    }

    async fn listen(&self, stops: u64, attempt: Attempt) -> Result<(), Error> {
        // Also where this future is dropped.
        let _over = Over { life: self, attempt: &attempt };
        let listening = poll_fn(|cx| {
            let mut listening = locked(&attempt.0);
            let Some(future) = listening.as_mut() else { return Poll::Ready(Err(given_up())) };
            let Poll::Ready(listener) = future.as_mut().poll(cx) else { return Poll::Pending };
            // As long as this is locked, whoever stops it waits: it is bound by then, or closed.
            *listening = None;
            Poll::Ready(listener.and_then(|listener| self.bound(stops, listener)))
        });
        let mut changes = self.state.subscribe();
        let stopped = async {
            while self.stops() == stops {
                let _ = changes.changed().await;
            }
        };
        tokio::select! {
            bound = listening => bound,
            () = stopped => Err(given_up()),
        }
    }

    fn bound(&self, stops: u64, listener: Listener) -> Result<(), Error> {
        let reached =
            Reached { descriptions: listener.reachable(), addresses: listener.addresses().to_vec() };
        let serve = Box::new(Serve::new(listener).with(self.settings.clone()));
        let mut now = locked(&self.now);
        if now.stops != stops {
            return Err(given_up());
        }
        *locked(&self.reached) = reached;
        self.enter(&mut now, Phase::Bound(serve));
        Ok(())
    }

    /// Ends an attempt to listen: closes what it has opened, and tells then that it has stopped, unless it is bound.
    fn give_up(&self, attempt: &Attempt) {
        // What plugins do when they are dropped must not find `now` locked.
        *locked(&attempt.0) = None;
        let mut now = locked(&self.now);
        if matches!(&now.phase, Phase::Binding(current) if Arc::ptr_eq(&current.0, &attempt.0)) {
            self.enter(&mut now, Phase::Stopped);
        }
    }

    /// Serves what is bound, unless it was told to stop more often than `stops`; says whether it runs now.
    pub(super) fn start(self: &Arc<Self>, stops: u64, handler: &Handler, name: &str) -> Result<bool, Error> {
        if Handle::try_current().is_err() {
            return Err(Error::new(ErrorKind::Internal, "a service is started within a tokio runtime"));
        }
        let (serve, job) = {
            let mut now = locked(&self.now);
            if now.stops != stops {
                return Err(given_up());
            }
            match std::mem::replace(&mut now.phase, Phase::Stopped) {
                Phase::Bound(serve) => {
                    let (run, job) = Run::new(Arc::clone(self));
                    self.enter(&mut now, Phase::Running(run));
                    (serve, job)
                }
                phase => {
                    now.phase = phase;
                    return Ok(matches!(now.phase, Phase::Running(_)));
                }
            }
        };
        job.serve(*serve, handler.clone(), name.to_owned());
        Ok(true)
    }

    /// Stops it, and waits for the end of that.
    pub(super) async fn stop(self: &Arc<Self>) -> Result<(), Error> {
        let (mut attempt, mut closing) = (None, None);
        let ended = {
            let mut now = locked(&self.now);
            now.stops += 1;
            let phase = match std::mem::replace(&mut now.phase, Phase::Stopped) {
                Phase::Stopped | Phase::Ended(_) => Phase::Stopped,
                // It has not stopped before what it has opened is closed; but whoever listens hears of it.
                Phase::Binding(begun) => {
                    attempt = Some(begun.clone());
                    Phase::Binding(begun)
                }
                Phase::Bound(serve) => {
                    let (run, job) = Run::new(Arc::clone(self));
                    closing = Some((job, serve));
                    Phase::Draining { run, told: true }
                }
                Phase::Running(run) | Phase::Draining { run, .. } => {
                    run.stop();
                    Phase::Draining { run, told: true }
                }
            };
            self.enter(&mut now, phase);
            match &now.phase {
                Phase::Draining { run, .. } => Some(run.end(self.settings.drain_timeout)),
                _ => None,
            }
        };
        // What plugins do when they are dropped or closed must not find `now` locked.
        if let Some(attempt) = attempt {
            self.give_up(&attempt);
        }
        if let Some((job, serve)) = closing {
            match Handle::try_current() {
                Ok(_) => job.close(*serve),
                // Dropping it closes it too.
                Err(_) => {
                    drop(serve);
                    job.over();
                }
            }
        }
        match ended {
            Some(ended) => ended.await,
            None => Ok(()),
        }
    }

    /// It drains by itself, as it has failed, or was told to.
    pub(super) fn draining(&self) {
        let mut now = locked(&self.now);
        match std::mem::replace(&mut now.phase, Phase::Stopped) {
            Phase::Running(run) => self.enter(&mut now, Phase::Draining { run, told: false }),
            phase => now.phase = phase,
        }
    }

    /// A run has ended.
    pub(super) fn finish(&self, outcome: &Outcome) {
        let mut now = locked(&self.now);
        let phase = match (&now.phase, &outcome.error) {
            (Phase::Draining { told: true, .. }, _) => Phase::Stopped,
            (Phase::Running(_) | Phase::Draining { .. }, Some(error)) => Phase::Ended(Err(error.clone())),
            (Phase::Running(_) | Phase::Draining { .. }, None) => Phase::Ended(Ok(())),
            _ => return,
        };
        self.enter(&mut now, phase);
    }

    /// Waits until it ends by itself.
    pub(super) async fn ended(&self) -> Result<(), Error> {
        let mut changes = self.state.subscribe();
        loop {
            changes.mark_unchanged();
            if let Phase::Ended(result) = &locked(&self.now).phase {
                return result.clone();
            }
            let _ = changes.changed().await;
        }
    }

    /// Nobody has the service any more.
    pub(super) fn abandon(&self) {
        let mut now = locked(&self.now);
        match std::mem::replace(&mut now.phase, Phase::Stopped) {
            // Its end tells that it has stopped.
            Phase::Running(run) | Phase::Draining { run, .. } => {
                run.abandon();
                self.enter(&mut now, Phase::Draining { run, told: true });
            }
            Phase::Bound(serve) => {
                // Its listening ends, with nothing locked.
                drop(now);
                drop(serve);
                self.enter(&mut locked(&self.now), Phase::Stopped);
            }
            phase => now.phase = phase,
        }
    }
}

/// The end of an attempt to listen.
struct Over<'a> {
    life: &'a Life,
    attempt: &'a Attempt,
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.life.give_up(self.attempt);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::mpsc::{Sender, channel};
    use std::task::{Context, Waker};

    use super::*;

    /// What an attempt to listen has opened.
    struct Opened(Arc<Life>, Sender<ServerState>);

    impl Drop for Opened {
        fn drop(&mut self) {
            self.1.send(*self.0.watch().borrow()).unwrap();
        }
    }

    #[tokio::test]
    async fn it_has_not_stopped_before_what_it_opened_is_closed() {
        for stop in [true, false] {
            let life = Arc::new(Life::new(Settings::new()));
            let (closed, states) = channel();
            let listen = || {
                let opened = Opened(Arc::clone(&life), closed.clone());
                Box::pin(async move {
                    let _opened = opened;
                    pending().await
                }) as Listening
            };
            let mut binding = Box::pin(life.bind(0, listen));
            assert!(binding.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            if stop {
                life.stop().await.unwrap();
            } else {
                drop(binding);
            }
            assert_eq!(states.try_recv(), Ok(ServerState::Binding));
            assert_eq!(*life.watch().borrow(), ServerState::Stopped);
        }
    }
}
