//! Metrics of what is served, by the facade `metrics`.
//!
//! Every metric has the label `service`:
//!
//! | Name | Kind | What |
//! |---|---|---|
//! | `endpoints_connections_accepted_total` | counter | connections that were accepted, handshakes still to come |
//! | `endpoints_handshake_duration_seconds` | histogram | from accepting to the end of the handshake, of connections that have one |
//! | `endpoints_connections_open` | gauge | connections that are relayed, or that [`Recorder::open`] is held for |
//! | `endpoints_connection_duration_seconds` | histogram | how long those were open |
//! | `endpoints_received_bytes_total` | counter | bytes that came from accepted connections that are relayed |
//! | `endpoints_sent_bytes_total` | counter | bytes that were sent to them |
//! | `endpoints_errors_total` | counter | errors, by the label `kind`, an [`ErrorKind::name`](crate::ErrorKind::name); failed handshakes are `handshake-failed`, or `timed-out`; each kind is there from the beginning, with 0 |
//!
//! And of a connection that is kept up:
//!
//! | Name | Kind | What |
//! |---|---|---|
//! | `endpoints_client_attempts_total` | counter | attempts to connect |
//! | `endpoints_client_failures_total` | counter | attempts that failed, by the label `kind`, likewise |
//! | `endpoints_client_connected` | gauge | 1 while the connection is up, else 0 |
//!
//! The program installs an exporter (a recorder, as that crate calls it) **before** it makes a [`Recorder`] of this module.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, Histogram, SharedString, Unit};

use crate::error::ErrorKind;
use crate::serve::Event;
use crate::service::ClientState;

/// Records events for a service of that name: for [`Forward::on_event`](crate::forward::Forward::on_event), whose relay tells
/// the same observer.
///
/// Each call makes a [`Recorder`] of its own. Where a service and its [`Relay`](crate::forward::Relay) have an observer each,
/// make one [`Recorder`] and have both observe by a clone of it: it knows of the end of the service then, at which nothing is open.
///
/// What is still open when the observer is dropped, as with a future of [`Forward::run`](crate::forward::Forward::run), is
/// recorded as closed.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> Result<(), endpoints::Error> {
/// use endpoints::adapters::metrics::record;
/// use endpoints::forward::Forward;
///
/// let listener = endpoints::server("tcp:8080")?.listen().await?;
/// let upstream = endpoints::client("unix:/run/app.sock")?;
/// let forward = Forward::new(listener, upstream).on_event(record("web"));
/// # Ok(())
/// # }
/// ```
pub fn record(service: impl Into<SharedString>) -> impl Fn(&Event<'_>) + Send + Sync + 'static {
    let recorder = Recorder::new(service);
    move |event| recorder.observe(event)
}

/// Records the states of a [`ClientService`](crate::service::ClientService) under that name: for
/// [`on_state`](crate::service::ClientServiceBuilder::on_state).
///
/// When it is dropped, with the service, the connection is recorded as down.
///
/// # Examples
///
/// ```no_run
/// # fn example() -> Result<(), endpoints::Error> {
/// use endpoints::adapters::metrics::record_client;
/// use endpoints::service::ClientService;
///
/// let service = ClientService::builder(endpoints::client("tls:host=example.com:port=6697")?)
///     .on_state(record_client("uplink"))
///     .handle(|connection, _stopping| async move { drop(connection) });
/// # Ok(())
/// # }
/// ```
pub fn record_client(service: impl Into<SharedString>) -> impl Fn(&ClientState) + Send + Sync + 'static {
    let service = service.into();
    describe();
    let attempts = metrics::counter!(ATTEMPTS, "service" => service.clone());
    let connected = Connected(metrics::gauge!(CONNECTED, "service" => service.clone()));
    let failures = ByKind::new(FAILURES, &service);
    move |state| {
        connected.set(matches!(state, ClientState::Connected { .. }));
        match state {
            ClientState::Connecting { .. } => attempts.increment(1),
            ClientState::Waiting { error: Some(error), .. } => failures.count(error.kind()),
            _ => {}
        }
    }
}

/// A counter for each kind of error, all of them there from the beginning: one that begins with its first error shows no
/// increase by that.
struct ByKind(HashMap<ErrorKind, Counter>);

impl ByKind {
    fn new(name: &'static str, service: &SharedString) -> Self {
        let counter =
            |kind: ErrorKind| metrics::counter!(name, "service" => service.clone(), "kind" => kind.name());
        Self(ErrorKind::ALL.iter().map(|kind| (*kind, counter(*kind))).collect())
    }

    fn count(&self, kind: ErrorKind) {
        if let Some(counter) = self.0.get(&kind) {
            counter.increment(1);
        }
    }
}

/// Whether a connection that is kept up is up; no more once this is dropped.
struct Connected(Gauge);

impl Connected {
    fn set(&self, connected: bool) {
        self.0.set(if connected { 1.0 } else { 0.0 });
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.set(false);
    }
}

/// Records what happens to the connections of a service. Cheap to clone.
///
/// One is for one service: connections are told apart by their numbers, which each service counts from 1. Several services
/// under one name have a recorder each.
///
/// A relayed connection that nobody has told the end of is recorded as closed when the service stops, and where the service
/// is dropped instead, when the last clone of the recorder is. So keep no clone longer than the service.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> Result<(), endpoints::Error> {
/// use endpoints::adapters::metrics::Recorder;
/// use endpoints::serve::Serve;
///
/// let listener = endpoints::server("tcp:8080")?.listen().await?;
/// let recorder = Recorder::new("web");
/// let observer = recorder.clone();
/// let handle = move |_id, incoming: endpoints::Incoming| {
///     let recorder = recorder.clone();
///     async move {
///         let Ok(connection) = incoming.await else { return };
///         let _open = recorder.open();
///         drop(connection);
///     }
/// };
/// Serve::new(listener).on_event(move |event| observer.observe(event)).run(handle, std::future::pending()).await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Recorder(Arc<Inner>);

struct Inner {
    service: SharedString,
    accepted: Counter,
    handshake: Histogram,
    open: Gauge,
    duration: Histogram,
    received: Counter,
    sent: Counter,
    errors: ByKind,
    /// When each connection that is relayed was, by its number.
    relayed: Mutex<HashMap<u64, Instant>>,
}

/// Counts a connection as open until it is dropped; [`Recorder::open`] gives it.
#[must_use = "the connection counts as closed when this is dropped"]
pub struct Open {
    recorder: Recorder,
    since: Instant,
}

impl Recorder {
    /// Records for a service of that name.
    pub fn new(service: impl Into<SharedString>) -> Self {
        let service = service.into();
        describe();
        let label = || service.clone();
        Self(Arc::new(Inner {
            accepted: metrics::counter!(ACCEPTED, "service" => label()),
            handshake: metrics::histogram!(HANDSHAKE, "service" => label()),
            open: metrics::gauge!(OPEN, "service" => label()),
            duration: metrics::histogram!(DURATION, "service" => label()),
            received: metrics::counter!(RECEIVED, "service" => label()),
            sent: metrics::counter!(SENT, "service" => label()),
            errors: ByKind::new(ERRORS, &service),
            relayed: Mutex::default(),
            service,
        }))
    }

    /// Records an event.
    pub fn observe(&self, event: &Event<'_>) {
        let Inner { relayed, .. } = &*self.0;
        let relayed = || relayed.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Accepted { .. } => self.0.accepted.increment(1),
            Event::Established { duration, .. } => self.0.handshake.record(*duration),
            Event::Connected { id, .. } => {
                self.0.open.increment(1);
                relayed().insert(*id, Instant::now());
            }
            Event::Closed { id, bytes_in, bytes_out, .. } => {
                self.0.received.increment(*bytes_in);
                self.0.sent.increment(*bytes_out);
                // Those that came to nothing were never open.
                let since = relayed().remove(id);
                if let Some(since) = since {
                    self.0.closed(since.elapsed());
                }
            }
            Event::Error { error, .. } => self.0.errors.count(error.kind()),
            Event::Stopped => {
                // A handler may have been cut without a word.
                let cut = std::mem::take(&mut *relayed());
                self.0.closed_all(cut);
            }
            _ => {}
        }
    }

    /// Counts a connection as open until what this gives is dropped: for whoever handles connections of
    /// [`Serve`](crate::serve::Serve) or another server, which relays nothing.
    pub fn open(&self) -> Open {
        self.0.open.increment(1);
        Open { recorder: self.clone(), since: Instant::now() }
    }
}

impl Inner {
    fn closed(&self, after: Duration) {
        self.open.decrement(1);
        self.duration.record(after);
    }

    fn closed_all(&self, relayed: HashMap<u64, Instant>) {
        relayed.into_values().for_each(|since| self.closed(since.elapsed()));
    }
}

/// Whoever was dropped while it served tells of nothing, not even that it has stopped.
impl Drop for Inner {
    fn drop(&mut self) {
        let relayed = std::mem::take(self.relayed.get_mut().unwrap_or_else(PoisonError::into_inner));
        self.closed_all(relayed);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.recorder.0.closed(self.since.elapsed());
    }
}

const ACCEPTED: &str = "endpoints_connections_accepted_total";
const HANDSHAKE: &str = "endpoints_handshake_duration_seconds";
const OPEN: &str = "endpoints_connections_open";
const DURATION: &str = "endpoints_connection_duration_seconds";
const RECEIVED: &str = "endpoints_received_bytes_total";
const SENT: &str = "endpoints_sent_bytes_total";
const ERRORS: &str = "endpoints_errors_total";
const ATTEMPTS: &str = "endpoints_client_attempts_total";
const FAILURES: &str = "endpoints_client_failures_total";
const CONNECTED: &str = "endpoints_client_connected";

fn describe() {
    metrics::describe_counter!(ACCEPTED, Unit::Count, "Connections that were accepted");
    metrics::describe_histogram!(HANDSHAKE, Unit::Seconds, "From accepting to the end of the handshake");
    metrics::describe_gauge!(OPEN, Unit::Count, "Connections that are open");
    metrics::describe_histogram!(DURATION, Unit::Seconds, "How long connections were open");
    metrics::describe_counter!(RECEIVED, Unit::Bytes, "Bytes that came from accepted connections");
    metrics::describe_counter!(SENT, Unit::Bytes, "Bytes that were sent to accepted connections");
    metrics::describe_counter!(ERRORS, Unit::Count, "Errors, by kind");
    metrics::describe_counter!(ATTEMPTS, Unit::Count, "Attempts to connect");
    metrics::describe_counter!(FAILURES, Unit::Count, "Attempts to connect that failed, by kind");
    metrics::describe_gauge!(CONNECTED, Unit::Count, "Whether the connection is up");
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("service", &self.0.service).finish_non_exhaustive()
    }
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open").field("recorder", &self.recorder).finish_non_exhaustive()
    }
}
