//! Listening, on every thread that can, until all is closed.

use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::event::{Event, Observer};
use super::stopping::Stopping;
use super::workers::Workers;
use crate::error::ErrorKind;
use crate::listener::Listener;

/// A listener, and those that listen on the same socket for workers.
pub(super) struct Listening {
    first: Arc<Listener>,
    others: Vec<Arc<Listener>>,
}

/// What workers are there.
pub(super) struct OnWorkers {
    pub(super) serving: Vec<Worker>,
    /// Told when they end, which is all at once.
    pub(super) ended: Stopping,
}

/// A worker, and what it accepts from; where that is nothing, it serves what others accept.
pub(super) struct Worker {
    pub(super) runtime: Handle,
    pub(super) listener: Option<Arc<Listener>>,
}

/// How long it may take the workers to listen too: there is nothing to wait for, which a plugin may see otherwise, or whatever
/// keeps a worker from answering.
const LISTENING_TOO: Duration = Duration::from_secs(2);

impl Default for OnWorkers {
    fn default() -> Self {
        Self { serving: Vec::new(), ended: Stopping::never() }
    }
}

impl OnWorkers {
    /// Whether one of them accepts.
    pub(super) fn accept(&self) -> bool {
        self.serving.iter().any(|worker| worker.listener.is_some())
    }
}

impl Listening {
    pub(super) fn new(first: Listener) -> Self {
        Self { first: Arc::new(first), others: Vec::new() }
    }

    pub(super) fn first(&self) -> &Arc<Listener> {
        &self.first
    }

    /// Has workers listen too where they can. All are asked at once, and those that do not listen when the time is over do
    /// without; one that has not even begun by then is blocked, and is done without.
    ///
    /// # Cancel safety
    /// What was not answered yet is given up.
    pub(super) async fn on_workers_too(&mut self, workers: &Workers) -> OnWorkers {
        let runtimes = workers.handles();
        let begun: Arc<[AtomicBool]> = runtimes.iter().map(|_| AtomicBool::new(false)).collect();
        let mut asked = JoinSet::new();
        for (number, runtime) in runtimes.iter().enumerate() {
            let (another, begun) = (self.first.another(), Arc::clone(&begun));
            // There, so that its events come there.
            let answer = async move {
                begun[number].store(true, Ordering::Relaxed);
                (number, another.await)
            };
            asked.spawn_on(answer, runtime);
        }
        let mut listeners: Vec<Option<Arc<Listener>>> = vec![None; runtimes.len()];
        let answers = async {
            while let Some(answer) = asked.join_next().await {
                match answer {
                    Ok((number, Ok(another))) => listeners[number] = Some(Arc::new(another)),
                    Ok((_, Err(error))) => {
                        tracing::debug!(%error, "a worker does not accept");
                        if error.kind() == ErrorKind::Unsupported {
                            // The others would say the same.
                            return;
                        }
                    }
                    Err(error) => tracing::debug!(%error, "a worker has ended"),
                }
            }
        };
        let is_late = timeout(LISTENING_TOO, answers).await.is_err();
        let ended = workers.ended();
        if ended.is_stopping() {
            return OnWorkers::default();
        }
        let mut serving = Vec::with_capacity(runtimes.len());
        for ((runtime, listener), begun) in runtimes.iter().zip(listeners).zip(&*begun) {
            if is_late && listener.is_none() {
                let is_blocked = !begun.load(Ordering::Relaxed);
                tracing::warn!(
                    is_blocked,
                    "a worker does not accept: it did not listen within {LISTENING_TOO:?}"
                );
                if is_blocked {
                    continue;
                }
            }
            self.others.extend(listener.clone());
            serving.push(Worker { runtime: runtime.clone(), listener });
        }
        OnWorkers { serving, ended }
    }

    /// Closes those of workers, and then the first one, who keeps what belongs to the address. That is free then, unless one
    /// is still in use, as by a worker that is blocked.
    pub(super) async fn close(self, observer: &Observer) {
        let mut is_free = true;
        for listener in self.others.into_iter().chain(iter::once(self.first)) {
            match Arc::into_inner(listener) {
                Some(listener) => {
                    if let Err(error) = listener.close().await {
                        observer.tell(&Event::error(None, &error));
                    }
                }
                None => is_free = false,
            }
        }
        if is_free {
            observer.tell(&Event::ListenerClosed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::sync::Mutex;
    use std::task::{Context, Poll};

    use endpoints_plugin_api as api;
    use endpoints_plugin_api::abi::conn::Taken;
    use endpoints_plugin_api::abi::future::{Foreign as ForeignFuture, RUnit};
    use endpoints_plugin_api::abi::listener::{Export, Foreign};

    use super::*;

    /// Closing fails, and says whose that was.
    struct FailsToClose(&'static str);

    impl Export for FailsToClose {
        fn poll_accept(&mut self, _: &mut Context<'_>) -> Poll<Result<Taken, api::Error>> {
            Poll::Pending
        }
        fn addresses(&self) -> Vec<u8> {
            Vec::new()
        }
        fn reachable(&self) -> Vec<u8> {
            Vec::new()
        }
        fn take_socket(&mut self) -> Option<OwnedFd> {
            None
        }
        fn close(&mut self) -> Option<ForeignFuture<RUnit>> {
            let error = api::Error::new(api::ErrorKind::Other, self.0);
            Some(ForeignFuture::of(std::future::ready(Err(error))))
        }
    }

    #[tokio::test]
    async fn all_are_closed_and_the_address_is_free_unless_one_is_in_use() {
        let endpoint = crate::server("tcp:0:interface=127.0.0.1").unwrap().0;
        let listener = |name| Listener::new(Foreign::of(FailsToClose(name)), Arc::clone(&endpoint), false);
        for expected in [["another", "the first", "closed"].as_slice(), &["the first"]] {
            let told = Arc::new(Mutex::new(Vec::new()));
            let observer = {
                let told = Arc::clone(&told);
                Observer::new(move |event| {
                    told.lock().unwrap().push(match event {
                        Event::Error { error, .. } => error.message().to_owned(),
                        Event::ListenerClosed => "closed".to_owned(),
                        other => format!("{other:?}"),
                    });
                })
            };
            let mut listening = Listening::new(listener("the first").unwrap());
            let another = Arc::new(listener("another").unwrap());
            listening.others.push(Arc::clone(&another));
            // Where that is so, as a worker does that is blocked.
            let used = (expected.len() == 1).then_some(another);
            listening.close(&observer).await;
            drop(used);
            assert_eq!(*told.lock().unwrap(), expected);
        }
    }
}
