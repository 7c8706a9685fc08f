//! A service of a group, which may be removed while it is being bound or started.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use tokio::sync::watch;

use crate::error::Error;
use crate::service::{BoxFuture, Service};

pub(super) struct Member {
    pub(super) service: Arc<dyn Service>,
    /// What goes on of binding or starting it. Whoever awaits that polls it here, and whoever removes the service drops it
    /// here, also while nobody polls it.
    beginning: Mutex<Option<BoxFuture<'static, Result<(), Error>>>>,
    removed: watch::Sender<bool>,
}

/// How a service is begun: [`Service::bind`] or [`Service::start`].
pub(super) type Begin = for<'a> fn(&'a (dyn Service + 'static)) -> BoxFuture<'a, Result<(), Error>>;

impl Member {
    pub(super) fn new(service: impl Service + 'static) -> Arc<Self> {
        let (beginning, removed) = (Mutex::default(), watch::Sender::new(false));
        Arc::new(Self { service: Arc::new(service), beginning, removed })
    }

    /// Binds or starts it, one of them at a time; `None` where it was removed before that was done.
    pub(super) async fn begin(&self, begin: Begin) -> Option<Result<(), Error>> {
        let mut removed = self.removed.subscribe();
        let service = Arc::clone(&self.service);
        *self.beginning() = Some(Box::pin(async move { begin(&*service).await }));
        // Also where this future is dropped.
        let _over = Over(self);
        let begun = poll_fn(|cx| match self.beginning().as_mut() {
            Some(beginning) => beginning.as_mut().poll(cx).map(Some),
            None => Poll::Ready(None),
        });
        tokio::select! {
            // First: it may have been removed before.
            biased;
            _ = removed.wait_for(|removed| *removed) => None,
            begun = begun => begun,
        }
    }

    /// Gives up what has been begun, and lets nothing more be begun.
    pub(super) fn remove(&self) {
        self.removed.send_replace(true);
        self.give_up();
    }

    fn give_up(&self) {
        let beginning = self.beginning().take();
        // What it does when it is dropped is done while nothing is locked.
        drop(beginning);
    }

    fn beginning(&self) -> MutexGuard<'_, Option<BoxFuture<'static, Result<(), Error>>>> {
        self.beginning.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Over<'a>(&'a Member);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.give_up();
    }
}
