//! Watching for a time in which nothing moves.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// When something has moved last, and for how long nothing may.
#[derive(Debug)]
pub(crate) struct Idle {
    limit: Duration,
    last: Instant,
}

/// Wakes the one task that polled it last. Whoever may be waited for by two tasks at a time needs two.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Idle {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, last: Instant::now() }
    }

    /// Something has moved.
    pub(crate) fn moved(&mut self) {
        self.last = Instant::now();
    }

    /// Ready with the error when the time is over. The timer is moved only when it fires, not with every byte.
    pub(crate) fn poll(&self, cx: &mut Context<'_>, alarm: &mut Alarm) -> Poll<io::Error> {
        // So far away that it never comes.
        let Some(over) = self.last.checked_add(self.limit) else { return Poll::Pending };
        let sleep = alarm.0.get_or_insert_with(|| Box::pin(sleep_until(over)));
        loop {
            ready!(sleep.as_mut().poll(cx));
            if over <= Instant::now() {
                let message = format!("nothing has moved for {:?}", self.limit);
                return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            sleep.as_mut().reset(over);
        }
    }
}
