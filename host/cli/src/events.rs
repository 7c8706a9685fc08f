//! What happens while serving, told as JSON or in the log.

use std::fs::File;
use std::io::{self, Write, stdout};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use endpoints::serve::Event;
use endpoints::service::ClientState;
use endpoints::{Address, ConnectionInfo, Description, Error, Listener};
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::{self, Failure};
use crate::output::{address_bytes, bytes_json, error_json, harmless};
use crate::queue::{Purpose, Queue};
use crate::standard_error;

/// Where events go, and which of several services they are about.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    to: To,
    service: Option<Arc<str>>,
    numbers: Numbers,
    /// Whether a connection has failed.
    failed: Arc<AtomicBool>,
}

/// The numbers of a service's connections. They go on where another service of that name takes its place, so that no two
/// connections have the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Numbers {
    /// Of those before.
    before: u64,
    last: Arc<AtomicU64>,
}

impl Numbers {
    /// Of a service that takes the place of this one, and counts from 1.
    pub(crate) fn go_on(&self) -> Self {
        Self { before: self.last.load(Ordering::Relaxed), last: Arc::clone(&self.last) }
    }

    /// The number that is told of a connection.
    fn of(&self, id: u64) -> u64 {
        let number = self.before + id;
        self.last.fetch_max(number, Ordering::Relaxed);
        number
    }
}

#[derive(Clone, Debug)]
enum To {
    /// To the log.
    Log,
    /// As JSON to standard output.
    Output(Arc<Queue>),
    /// As JSON to standard error, since standard output carries a connection's bytes.
    Error,
}

const EVENTS: Purpose =
    Purpose { name: "events", most: 4096, patience: Duration::from_secs(1), note: dropped };

/// Says that so many events, or other lines beside them, were lost.
pub(crate) fn dropped(count: u64) -> String {
    format!("{}\n", json!({ "event": "dropped", "count": count }))
}

impl Events {
    pub(crate) fn new(context: &Context, output_is_taken: bool) -> Result<Self, Failure> {
        let to = if !context.json() {
            To::Log
        } else if output_is_taken {
            To::Error
        } else {
            let failed = |error: io::Error| Failure::system("cannot write events", &error);
            // Of its own, since who writes elsewhere to the same must not wait for a lock that is held while nobody reads.
            let mut output = File::from(stdout().as_fd().try_clone_to_owned().map_err(failed)?);
            // A service goes on also when nobody reads its events.
            let queue = Queue::new(EVENTS, move |event| _ = output.write_all(event.as_bytes()));
            To::Output(queue.map_err(failed)?)
        };
        Ok(Self::all(to))
    }

    fn all(to: To) -> Self {
        Self { to, service: None, numbers: Numbers::default(), failed: Arc::default() }
    }

    /// The same for one of several services.
    pub(crate) fn of(&self, service: &str, numbers: Numbers) -> Self {
        Self { service: Some(service.into()), numbers, ..Self::all(self.to.clone()) }
    }

    /// Says by which descriptions, or on which addresses, `listener` is reached.
    pub(crate) fn listening(&self, listener: &Listener) {
        self.reached_by(listener.reachable(), listener.addresses());
    }

    /// Says by which descriptions, or on which addresses, what listens is reached.
    pub(crate) fn reached_by(&self, descriptions: Vec<Description>, addresses: &[Address]) {
        self.reached("listening", descriptions, addresses);
    }

    /// Says by which descriptions, or on which addresses, the statistics are read.
    pub(crate) fn statistics(&self, listener: &Listener) {
        self.reached("statistics", listener.reachable(), listener.addresses());
    }

    /// The client description by which a listener is reached is for those of this machine; who else may come is what its
    /// address tells.
    fn reached(&self, what: &str, descriptions: Vec<Description>, addresses: &[Address]) {
        for (description, address) in reached(descriptions, addresses) {
            if !matches!(self.to, To::Error) {
                let whose = self.service.as_deref().map(|service| format!("{}: ", harmless(service)));
                let whose = whose.unwrap_or_default();
                tell(&format!("{whose}{what} on {}", harmless(&String::from_utf8_lossy(&description))));
                if let Some(everywhere) = address.and_then(everywhere) {
                    tell(&format!("{whose}bound to {everywhere}"));
                }
            }
            self.write(&json!({
                "event": what,
                "description": bytes_json(&description),
                "port": address.and_then(Address::port),
                "address": address.map(|address| bytes_json(&address_bytes(address))),
            }));
        }
    }

    pub(crate) fn tell(&self, event: &Event<'_>) {
        if matches!(event, Event::Error { id: Some(_), .. }) {
            self.failed.store(true, Ordering::Relaxed);
        }
        // Also where nobody looks: those to come go on from there.
        let id = id(event).map(|id| self.numbers.of(id));
        if matches!(self.to, To::Log) {
            log(event, self.service.as_deref(), id);
        } else if let Some(event) = as_json(event, id) {
            self.write(&event);
        }
    }

    /// Says that the other side of a connection is there, which is no connection itself.
    pub(crate) fn connected(&self, id: u64, info: &ConnectionInfo) {
        let id = self.numbers.of(id);
        if matches!(self.to, To::Log) {
            tracing::debug!(service = self.service.as_deref(), id, peer = peer(info), "connected");
        } else {
            self.write(&connected_json(Some(id), info));
        }
    }

    /// Whether it was told that a connection failed: of interest where there is one alone.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Says that something failed which is about no connection.
    pub(crate) fn error(&self, error: &Error) {
        self.tell(&Event::error(None, error));
    }

    /// Says why a file that was read anew changes nothing.
    pub(crate) fn refused(&self, error: &Error) {
        let error = error.clone().context("nothing is changed");
        if matches!(self.to, To::Log) {
            // Without colours: a line of the log may have its own.
            let message = failure::message(&error, false);
            tracing::warn!(kind = error.kind().name(), "{}", message.trim_end());
        } else {
            self.error(&error);
        }
    }

    /// Says what a file that was read anew has changed, in sorts.
    pub(crate) fn reloaded<'a>(
        &self,
        file: &Path,
        changes: impl Iterator<Item = (&'static str, &'a [String])>,
    ) {
        let changes: Vec<(&str, &[String])> = changes.collect();
        if !matches!(self.to, To::Error) {
            let each: Vec<String> =
                changes.iter().map(|(sort, names)| format!("{sort} {}", names.join(", "))).collect();
            let what = if each.is_empty() { "nothing has changed".to_owned() } else { each.join("; ") };
            tell(&harmless(&format!("reloaded {}: {what}", file.display())));
        }
        let mut event = json!({ "event": "reloaded" });
        for (sort, names) in changes {
            event[sort] = Value::from(names);
        }
        self.write(&event);
    }

    /// Says what a service that keeps a connection up does.
    pub(crate) fn client(&self, state: &ClientState) {
        match state {
            // Attempts that fail count too.
            ClientState::Connecting { attempt, .. } => _ = self.numbers.of(*attempt),
            ClientState::Connected { attempt, info, .. } => {
                self.write(&connected_json(Some(self.numbers.of(*attempt)), info));
            }
            ClientState::Waiting { failures, delay, error: Some(error), .. } => self.write(&json!({
                "event": "error",
                "id": null,
                "peer": null,
                "error": error_json(error),
                "failures": failures,
                "retry_in_seconds": delay.as_secs_f64(),
            })),
            ClientState::Closing => self.closing(),
            ClientState::Stopped => self.tell(&Event::Stopped),
            // The library tells the log itself.
            _ => {}
        }
    }

    /// Says that a connection that is kept up is closed.
    pub(crate) fn closing(&self) {
        self.write(&json!({ "event": "draining" }));
    }

    /// Waits until the reader of standard output has all that was told, but not for one that has stalled.
    pub(crate) fn flush(&self) {
        // With standard error that is done at the end of every command.
        if let To::Output(queue) = &self.to {
            queue.flush();
        }
    }

    fn write(&self, event: &Value) {
        if matches!(self.to, To::Log) {
            return;
        }
        let mut event = event.clone();
        if let (Some(service), Value::Object(event)) = (&self.service, &mut event) {
            event.insert("service".to_owned(), Value::from(&**service));
        }
        let line = format!("{event}\n");
        match &self.to {
            To::Output(queue) => queue.push(line),
            _ => standard_error::write(line),
        }
    }
}

/// Writes a line to standard error, if that is possible.
pub(crate) fn tell(line: &str) {
    standard_error::write(format!("{line}\n"));
}

/// The client descriptions by which a listener is reached, else its addresses; each with the address that is bound.
fn reached(descriptions: Vec<Description>, addresses: &[Address]) -> Vec<(Vec<u8>, Option<&Address>)> {
    if descriptions.is_empty() {
        return addresses.iter().map(|address| (address_bytes(address), Some(address))).collect();
    }
    let described = descriptions.into_iter().enumerate().map(|(place, description)| {
        (description.into_text(), addresses.get(place).or_else(|| addresses.first()))
    });
    described.collect()
}

/// What an address stands for that is that of no interface.
fn everywhere(address: &Address) -> Option<String> {
    let address = address.ip().filter(|address| address.ip().is_unspecified())?;
    let every =
        if address.is_ipv4() { "IPv4 address" } else { "address (of IPv4 too, unless v6only is set)" };
    Some(format!("{address}: every {every} of this machine"))
}

pub(crate) fn peer_and_local(info: &ConnectionInfo) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    (info.peer_addr().as_ref().map(address_bytes), info.local_addr().as_ref().map(address_bytes))
}

fn peer_and_local_json(info: &ConnectionInfo) -> [Option<Value>; 2] {
    let (peer, local) = peer_and_local(info);
    [peer, local].map(|address| address.as_deref().map(bytes_json))
}

/// Of the connection that it is about.
fn id(event: &Event<'_>) -> Option<u64> {
    match event {
        Event::Accepted { id, .. }
        | Event::Established { id, .. }
        | Event::Connected { id, .. }
        | Event::GivenUp { id, .. }
        | Event::Closed { id, .. } => Some(*id),
        Event::Error { id, .. } => *id,
        _ => None,
    }
}

fn connected_json(id: Option<u64>, info: &ConnectionInfo) -> Value {
    let [peer, local] = peer_and_local_json(info);
    json!({ "event": "connected", "id": id, "peer": peer, "local": local })
}

fn as_json(event: &Event<'_>, id: Option<u64>) -> Option<Value> {
    Some(match event {
        Event::Accepted { incoming, .. } => {
            let [peer, local] = peer_and_local_json(&incoming.info());
            json!({ "event": "accepted", "id": id, "peer": peer, "local": local })
        }
        Event::Connected { accepted: None, .. } => json!({ "event": "connected", "id": id }),
        Event::Connected { accepted: Some(accepted), .. } => connected_json(id, &accepted.info()),
        Event::Closed { bytes_in, bytes_out, duration, .. } => json!({
            "event": "closed",
            "id": id,
            "bytes_in": bytes_in,
            "bytes_out": bytes_out,
            "seconds": duration.as_secs_f64(),
        }),
        Event::Error { peer, error, .. } => {
            let peer = peer.map(|peer| bytes_json(&address_bytes(peer)));
            json!({ "event": "error", "id": id, "peer": peer, "error": error_json(error) })
        }
        Event::GivenUp { peer, .. } => {
            let peer = peer.map(|peer| bytes_json(&address_bytes(peer)));
            json!({ "event": "given-up", "id": id, "peer": peer })
        }
        Event::Full { most, .. } => json!({ "event": "full", "max_connections": most }),
        Event::HasRoom => json!({ "event": "has-room" }),
        Event::Draining => json!({ "event": "draining" }),
        Event::Stopped => json!({ "event": "stopped" }),
        _ => return None,
    })
}

fn log(event: &Event<'_>, service: Option<&str>, id: Option<u64>) {
    match event {
        Event::Accepted { incoming, .. } => {
            if tracing::enabled!(tracing::Level::DEBUG) {
                tracing::debug!(service, id, peer = peer(&incoming.info()), "accepted");
            }
        }
        Event::Established { duration, .. } => {
            tracing::debug!(service, id, seconds = duration.as_secs_f64(), "handshake done");
        }
        Event::Connected { accepted: None, .. } => {
            tracing::debug!(service, id, "connected");
        }
        Event::Connected { accepted: Some(accepted), .. } => {
            if tracing::enabled!(tracing::Level::DEBUG) {
                tracing::debug!(service, id, peer = peer(&accepted.info()), "connected");
            }
        }
        Event::Closed { bytes_in, bytes_out, duration, .. } => {
            let seconds = duration.as_secs_f64();
            tracing::debug!(service, id, bytes_in, bytes_out, seconds, "closed");
        }
        Event::Error { peer, error, .. } => {
            let (kind, peer) = (error.kind().name(), peer.map(ToString::to_string));
            tracing::warn!(service, id, peer, kind, "{}", harmless(error.message()));
        }
        Event::GivenUp { peer, .. } => {
            let peer = peer.map(ToString::to_string);
            tracing::debug!(service, id, peer, "closed by the client before it had sent anything");
        }
        Event::Full { most, .. } => tracing::warn!(
            service,
            "the limit of {most} open connections (max-connections) is reached: further ones wait until one ends"
        ),
        Event::HasRoom => tracing::info!(service, "there is room for further connections again"),
        // Whoever has sent a signal waits for it, and need not have asked for more of the log.
        Event::Draining => {
            let whose = service.map(|service| format!("{}: ", harmless(service))).unwrap_or_default();
            tell(&format!("{whose}draining: connections that are open may end until the drain timeout"));
        }
        Event::Stopped => tracing::info!(service, "stopped"),
        _ => {}
    }
}

fn peer(info: &ConnectionInfo) -> String {
    info.peer_addr().map(|address| address.to_string()).unwrap_or_default()
}
