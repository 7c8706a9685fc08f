//! What happens while serving, told as JSON or in the log.

use std::io::{self, Write, stderr, stdout};
use std::os::fd::AsFd;
use std::sync::Arc;

use endpoints::serve::Event;
use endpoints::{Address, ConnectionInfo, Listener};
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{address_bytes, bytes_json, error_json, harmless};
use crate::queue::Queue;

/// Where events go.
#[derive(Clone, Debug)]
pub(crate) enum Events {
    /// To the log.
    Log,
    /// As JSON to standard output.
    Output(Arc<Queue>),
    /// As JSON to standard error, since standard output carries a connection's bytes.
    Error(Arc<Queue>),
}

impl Events {
    pub(crate) fn new(context: &Context, output_is_taken: bool) -> Result<Self, Failure> {
        if !context.json() {
            return Ok(Self::Log);
        }
        let failed = |error: io::Error| Failure::system("cannot write events", &error);
        // Of its own, since who writes elsewhere to the same must not wait for a lock that is held while nobody reads.
        if output_is_taken {
            let output = stderr().as_fd().try_clone_to_owned().map_err(failed)?;
            Ok(Self::Error(Queue::new(output).map_err(failed)?))
        } else {
            let output = stdout().as_fd().try_clone_to_owned().map_err(failed)?;
            Ok(Self::Output(Queue::new(output).map_err(failed)?))
        }
    }

    /// Says by which descriptions, or on which addresses, `listener` is reached.
    pub(crate) fn listening(&self, listener: &Listener) {
        for (description, port) in reached(listener) {
            if !matches!(self, Self::Error(_)) {
                tell(&format!("listening on {}", harmless(&String::from_utf8_lossy(&description))));
            }
            self.write(
                &json!({ "event": "listening", "description": bytes_json(&description), "port": port }),
            );
        }
    }

    /// Says by which descriptions, or on which addresses, the statistics are read.
    pub(crate) fn statistics(&self, listener: &Listener) {
        for (description, port) in reached(listener) {
            tell(&format!("statistics on {}", harmless(&String::from_utf8_lossy(&description))));
            self.write(
                &json!({ "event": "statistics", "description": bytes_json(&description), "port": port }),
            );
        }
    }

    pub(crate) fn tell(&self, event: &Event<'_>) {
        if matches!(self, Self::Log) {
            log(event);
        } else if let Some(event) = as_json(event) {
            self.write(&event);
        }
    }

    /// Waits until the reader has all that was told, but not for a reader that has stalled.
    pub(crate) fn flush(&self) {
        match self {
            Self::Log => {}
            Self::Output(queue) | Self::Error(queue) => queue.flush(),
        }
    }

    fn write(&self, event: &Value) {
        match self {
            Self::Log => {}
            Self::Output(queue) | Self::Error(queue) => queue.push(format!("{event}\n")),
        }
    }
}

/// Writes a line to standard error, if that is possible.
pub(crate) fn tell(line: &str) {
    let _ = stderr().lock().write_all(format!("{line}\n").as_bytes());
}

/// The client descriptions by which a listener is reached, else its addresses; each with its port.
fn reached(listener: &Listener) -> Vec<(Vec<u8>, Option<u16>)> {
    let addresses = listener.addresses();
    let descriptions = listener.reachable();
    if descriptions.is_empty() {
        return addresses.iter().map(|address| (address_bytes(address), address.port())).collect();
    }
    let described = descriptions.into_iter().enumerate().map(|(place, description)| {
        let address = addresses.get(place).or_else(|| addresses.first());
        (description.into_text(), address.and_then(Address::port))
    });
    described.collect()
}

pub(crate) fn peer_and_local(info: &ConnectionInfo) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    (info.peer_addr().as_ref().map(address_bytes), info.local_addr().as_ref().map(address_bytes))
}

fn peer_and_local_json(info: &ConnectionInfo) -> [Option<Value>; 2] {
    let (peer, local) = peer_and_local(info);
    [peer, local].map(|address| address.as_deref().map(bytes_json))
}

fn as_json(event: &Event<'_>) -> Option<Value> {
    Some(match event {
        Event::Accepted { id, incoming } => {
            let [peer, local] = peer_and_local_json(&incoming.info());
            json!({ "event": "accepted", "id": id, "peer": peer, "local": local })
        }
        Event::Connected { id, accepted: None, .. } => json!({ "event": "connected", "id": id }),
        Event::Connected { id, accepted: Some(accepted), .. } => {
            let [peer, local] = peer_and_local_json(&accepted.info());
            json!({ "event": "connected", "id": id, "peer": peer, "local": local })
        }
        Event::Closed { id, bytes_in, bytes_out, duration } => json!({
            "event": "closed",
            "id": id,
            "bytes_in": bytes_in,
            "bytes_out": bytes_out,
            "seconds": duration.as_secs_f64(),
        }),
        Event::Error { id, error } => json!({ "event": "error", "id": id, "error": error_json(error) }),
        Event::Draining => json!({ "event": "draining" }),
        Event::Stopped => json!({ "event": "stopped" }),
        _ => return None,
    })
}

fn log(event: &Event<'_>) {
    match event {
        Event::Accepted { id, incoming } => {
            if tracing::enabled!(tracing::Level::DEBUG) {
                tracing::debug!(id, peer = peer(&incoming.info()), "accepted");
            }
        }
        Event::Connected { id, accepted: None, .. } => tracing::debug!(id, "connected"),
        Event::Connected { id, accepted: Some(accepted), .. } => {
            if tracing::enabled!(tracing::Level::DEBUG) {
                tracing::debug!(id, peer = peer(&accepted.info()), "connected");
            }
        }
        Event::Closed { id, bytes_in, bytes_out, duration } => {
            tracing::debug!(id, bytes_in, bytes_out, seconds = duration.as_secs_f64(), "closed");
        }
        Event::Error { id, error } => {
            let kind = error.kind().name();
            match id {
                Some(id) => tracing::warn!(id, kind, "{}", harmless(error.message())),
                None => tracing::warn!(kind, "{}", harmless(error.message())),
            }
        }
        Event::Draining => tracing::info!("draining"),
        Event::Stopped => tracing::info!("stopped"),
        _ => {}
    }
}

fn peer(info: &ConnectionInfo) -> String {
    info.peer_addr().map(|address| address.to_string()).unwrap_or_default()
}
