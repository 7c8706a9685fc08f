//! One run: the task that serves, from when it is started until everything has ended.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::life::Life;
use crate::connection::Connection;
use crate::error::{Error, ErrorKind};
use crate::listener::Incoming;
use crate::serve::{Event, Observer, Outcome, Serve, Stopping};
use crate::service::BoxFuture;

/// What is done with connections.
#[derive(Clone)]
pub(super) enum Handler {
    Connection(Arc<dyn Fn(Connection, Stopping) -> BoxFuture<'static, ()> + Send + Sync>),
    Incoming(Arc<dyn Fn(u64, Incoming) -> BoxFuture<'static, ()> + Send + Sync>),
}

impl Handler {
    pub(super) fn of_connections<H, F>(handle: H) -> Self
    where
        H: Fn(Connection, Stopping) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Self::Connection(Arc::new(move |connection, stopping| Box::pin(handle(connection, stopping))))
    }

    pub(super) fn of_incoming<H, F>(handle: H) -> Self
    where
        H: Fn(u64, Incoming) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Self::Incoming(Arc::new(move |id, incoming| Box::pin(handle(id, incoming))))
    }

    fn handle(&self, id: u64, mut incoming: Incoming, observer: &Observer) -> BoxFuture<'static, ()> {
        match self {
            Self::Incoming(handle) => handle(id, incoming),
            Self::Connection(handle) => {
                let (handle, observer) = (Arc::clone(handle), observer.clone());
                Box::pin(async move {
                    let stopping = incoming.stopping();
                    let early = incoming.take_early();
                    match incoming.await {
                        Ok(connection) => handle(connection, stopping).await,
                        Err(error) => {
                            let peer = early.peer_addr();
                            observer.tell(&Event::handshake_error(id, peer.as_ref(), &error));
                        }
                    }
                })
            }
        }
    }
}

/// A run that goes on.
pub(super) struct Run {
    stop: watch::Sender<bool>,
    cut: watch::Sender<bool>,
    /// How it ended, once it has.
    outcome: watch::Receiver<Option<Outcome>>,
}

/// The other side of a run: what its task does.
pub(super) struct Job {
    /// When it is to stop.
    stop: Stopping,
    /// When it is to end at once.
    cut: Stopping,
    ending: Ending,
}

impl Job {
    /// Begins to serve. Within a runtime, and with nothing locked: one that shuts down ends the run at once.
    pub(super) fn serve(self, serve: Serve, handler: Handler, name: String) {
        let Self { stop, cut, mut ending } = self;
        let noted = Arc::clone(&ending.life);
        let observer = serve.observer();
        let told = observer.clone();
        let serve = serve.on_event(move |event| {
            if let Event::Draining = event {
                noted.draining();
            }
            told.tell(event);
        });
        let handle = move |id, incoming| handler.handle(id, incoming, &observer);
        tokio::spawn(async move {
            tracing::info!(service = name, "serving");
            let outcome = serve.run_until_cut(handle, stop.wait(), &cut).await;
            let Outcome { cut, ref error, exhausted } = outcome;
            match error {
                Some(error) => tracing::error!(service = name, cut, %error, "serving failed"),
                None => tracing::info!(service = name, cut, exhausted, "stopped"),
            }
            ending.with(outcome);
        });
    }

    /// Ends what has not served: stops listening. As for [`serve`](Self::serve).
    pub(super) fn close(self, serve: Serve) {
        let Self { cut, mut ending, .. } = self;
        tokio::spawn(async move {
            tokio::select! {
                () = serve.close() => {}
                () = cut.wait() => {}
            }
            ending.with(Outcome::nothing_cut());
        });
    }

    /// There is nothing to be done.
    pub(super) fn over(mut self) {
        self.ending.with(Outcome::nothing_cut());
    }
}

impl Run {
    pub(super) fn new(life: Arc<Life>) -> (Self, Job) {
        let (stop, to_stop) = watch::channel(false);
        let (cut, to_cut) = watch::channel(false);
        let (done, outcome) = watch::channel(None);
        let ending = Ending { life, done, outcome: None };
        let job = Job { stop: Stopping::new(to_stop), cut: Stopping::new(to_cut), ending };
        (Self { stop, cut, outcome }, job)
    }

    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Ends it at once.
    pub(super) fn abandon(&self) {
        self.cut.send_replace(true);
        self.stop();
    }

    /// Waits for its end.
    pub(super) fn end(&self, drain_timeout: Duration) -> impl Future<Output = Result<(), Error>> + use<> {
        let mut outcome = self.outcome.clone();
        async move {
            let ended = outcome.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
            match ended {
                Some(Outcome { error: Some(error), .. }) => Err(error),
                Some(Outcome { cut: 0, .. }) | None => Ok(()),
                Some(Outcome { cut, .. }) => {
                    let what = if cut == 1 { "1 connection was" } else { &format!("{cut} connections were") };
                    let message = format!("{what} still open after {drain_timeout:?}, and cut");
                    Err(Error::new(ErrorKind::TimedOut, message))
                }
            }
        }
    }
}

/// Says how a run has ended when it is dropped: also where the runtime shuts down.
struct Ending {
    life: Arc<Life>,
    done: watch::Sender<Option<Outcome>>,
    outcome: Option<Outcome>,
}

impl Ending {
    fn with(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or_else(|| {
            let error = Error::new(ErrorKind::Internal, "serving has ended early: the runtime shut down");
            Outcome { cut: 0, error: Some(error), exhausted: false }
        });
        self.life.finish(&outcome);
        self.done.send_replace(Some(outcome));
    }
}
