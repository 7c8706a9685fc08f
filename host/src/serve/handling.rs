//! Handling one connection, whatever becomes of it.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use endpoints_plugin_api as api;

use super::event::{Event, Observer};
use crate::error::Error;
use crate::listener::Incoming;

/// Handles a connection, in a task of its own. A panic ends this connection alone, and is told as an error of it: also one
/// of `handle` itself, before there is a future, which the acceptor would not survive.
pub(super) async fn handle_one<H, F>(handle: Arc<H>, id: u64, incoming: Incoming, observer: Observer)
where
    H: Fn(u64, Incoming) -> F,
    F: Future<Output = ()>,
{
    let mut handling = pin!(async move {
        let handling = handle(id, incoming);
        // What it holds is not kept for as long as there are connections.
        drop(handle);
        handling.await;
    });
    let ended = poll_fn(|cx| {
        // It is not polled again after a panic, and whatever else its handler holds is the handler's to keep sound.
        match catch_unwind(AssertUnwindSafe(|| handling.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => Poll::Ready(Ok(())),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    });
    if let Err(panic) = ended.await {
        let message = format!("handling the connection panicked: {}", message_of(&*panic));
        // Made one line.
        let error: Error = api::Error::new(api::ErrorKind::Internal, message).into();
        observer.tell(&Event::Error { id: Some(id), error: &error });
    }
}

/// What a panic says.
pub(super) fn message_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
