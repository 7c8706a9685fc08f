//! Services that keep a connection up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use endpoints::ClientEndpoint;
use endpoints::service::{Backoff, ClientService, ClientState, Order};

use super::file;
use super::made::value;
use super::set::{Current, now};
use crate::events::Events;

/// A service that keeps up one of the connections that the clients make; there is at least one.
pub(super) fn kept_up(
    clients: Vec<ClientEndpoint>,
    written: &file::Service,
    work: &Current,
    events: &Events,
) -> ClientService {
    let mut clients = clients.into_iter();
    let first = clients.next().expect("a file with at least one was read");
    let mut builder = ClientService::builder(first).named(written.name.as_ref());
    for client in clients {
        builder = builder.or(client);
    }
    if let Some(file::Order::Random) = value(written.order.as_ref()) {
        builder = builder.order(Order::Random);
    }
    if let Some(retry) = value(written.retry.as_ref()) {
        builder = builder.retry_policy(backoff(&retry));
    }
    if let Some(time) = value(written.reset_after.as_ref()) {
        builder = builder.reset_after(time.0);
    }
    if let Some(limit) = value(written.connect_timeout.as_ref()) {
        builder = builder.connect_timeout(limit.0.0);
    }
    let (attempt, is_closing) = (Arc::new(AtomicU64::new(0)), AtomicBool::new(false));
    let (told, noted) = (events.clone(), Arc::clone(&attempt));
    let observe = move |state: &ClientState| {
        match state {
            ClientState::Preparing { attempt, .. } => noted.store(*attempt, Ordering::Relaxed),
            ClientState::Closing => is_closing.store(true, Ordering::Relaxed),
            // There was no connection to close.
            ClientState::Stopped if !is_closing.swap(false, Ordering::Relaxed) => {
                told.closing();
            }
            _ => {}
        }
        told.client(state);
    };
    let (current, events) = (Arc::clone(work), events.clone());
    builder.on_state(observe).handle(move |connection, _stopping| {
        // The attempt that led to the connection is its number.
        let (work, events, id) = (now(&current), events.clone(), attempt.load(Ordering::Relaxed));
        async move { work.serve_established(id, connection, &events).await }
    })
}

fn backoff(retry: &file::Retry) -> Backoff {
    let mut backoff = Backoff::new();
    if let Some(delay) = retry.initial_delay {
        backoff = backoff.initial_delay(delay.0.0);
    }
    if let Some(delay) = retry.max_delay {
        backoff = backoff.max_delay(delay.0.0);
    }
    if let Some(most) = retry.jitter {
        backoff = backoff.jitter(most.0);
    }
    match retry.factor {
        // It was read as one.
        Some(factor) => backoff.factor(factor.0).unwrap_or(backoff),
        None => backoff,
    }
}
