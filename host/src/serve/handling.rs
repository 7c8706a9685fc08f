//! Handling one connection, whatever becomes of it.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use endpoints_plugin_api as api;
use pin_project_lite::pin_project;

use super::event::{Event, Observer};
use crate::error::Error;
use crate::listener::Incoming;

pin_project! {
    /// Handles a connection, in a task of its own, and keeps `K` for as long. A panic ends this connection alone, and is told as
    /// an error of it: also one of `handle` itself, before there is a future, which the acceptor would not survive.
    ///
    /// It is no async block, which would keep room for the future several times.
    pub(super) struct Handling<H, F, K>
    where
        H: Fn(u64, Incoming) -> F,
    {
        id: u64,
        observer: Observer,
        // It was accepted on another thread.
        moves: bool,
        #[pin]
        stage: Stage<H, F>,
        // Given back before the end is told by a handler that tells it when it is dropped, as that of a relay; one that tells it
        // within its future does so while it still has its places.
        kept: Option<K>,
    }

    impl<H, F, K> PinnedDrop for Handling<H, F, K>
    where
        H: Fn(u64, Incoming) -> F,
    {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            *this.kept = None;
            // Its thread has ended before its turn came. Who accounts for connections has to see also those.
            if let StageProjection::Begun { begun } = this.stage.project()
                && let Some((handle, incoming)) = begun.take().map(|begun| *begun)
            {
                let _ = catch_unwind(AssertUnwindSafe(|| drop(handle(*this.id, incoming))));
            }
        }
    }
}

pin_project! {
    #[project = StageProjection]
    enum Stage<H, F> {
        // Taken out when it is handled: the handler is not kept for as long as there are connections, nor room for all this.
        Begun { begun: Option<Box<(Arc<H>, Incoming)>> },
        Handled { #[pin] handling: F },
    }
}

impl<H, F, K> Handling<H, F, K>
where
    H: Fn(u64, Incoming) -> F,
{
    pub(super) fn new(handle: Arc<H>, id: u64, incoming: Incoming, observer: Observer, kept: K) -> Self {
        let stage = Stage::Begun { begun: Some(Box::new((handle, incoming))) };
        Self { id, observer, moves: false, stage, kept: Some(kept) }
    }

    /// The same on another thread than that which has accepted the connection.
    pub(super) fn moving(mut self, moves: bool) -> Self {
        self.moves = moves;
        self
    }
}

impl<H, F, K> Future for Handling<H, F, K>
where
    H: Fn(u64, Incoming) -> F,
    F: Future<Output = ()>,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        // It is not polled again after a panic, and whatever else its handler holds is the handler's to keep sound.
        let polled = catch_unwind(AssertUnwindSafe(|| {
            loop {
                match this.stage.as_mut().project() {
                    StageProjection::Begun { begun } => {
                        let Some(begun) = begun.take() else { return Poll::Ready(()) };
                        let (handle, mut incoming) = *begun;
                        if *this.moves {
                            incoming.watch_here();
                        }
                        let handling = handle(*this.id, incoming);
                        this.stage.set(Stage::Handled { handling });
                    }
                    StageProjection::Handled { handling } => return handling.poll(cx),
                }
            }
        }));
        if !matches!(polled, Ok(Poll::Pending)) {
            *this.kept = None;
        }
        polled.unwrap_or_else(|panic| {
            let message = format!("handling the connection panicked: {}", message_of(&*panic));
            // Made one line.
            let error: Error = api::Error::new(api::ErrorKind::Internal, message).into();
            this.observer.tell(&Event::error(Some(*this.id), &error));
            Poll::Ready(())
        })
    }
}

/// What a panic says.
pub(super) fn message_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn one_whose_turn_never_comes_is_handed_over_all_the_same() {
        let listener = crate::server("tcp:0:interface=127.0.0.1").unwrap().listen().await.unwrap();
        let client = crate::client(listener.reachable()[0].text()).unwrap();
        let (_connection, incoming) = tokio::join!(client.connect(), listener.accept());
        let (handed_over, places) = (Arc::new(AtomicUsize::new(0)), Arc::new(()));
        let handle = {
            let (handed_over, places) = (Arc::clone(&handed_over), Arc::clone(&places));
            move |_, incoming| {
                assert_eq!(Arc::strong_count(&places), 2, "its place is free by then");
                handed_over.fetch_add(1, Ordering::Relaxed);
                async { drop(incoming) }
            }
        };
        let kept = Arc::clone(&places);
        drop(Handling::new(Arc::new(handle), 1, incoming.unwrap(), Observer::none(), kept));
        assert_eq!((handed_over.load(Ordering::Relaxed), Arc::strong_count(&places)), (1, 1));
    }
}
