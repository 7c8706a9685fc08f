//! How connections are served: what [`Serve`](super::Serve) and [`ServerService`](crate::service::ServerService) share.

use std::time::Duration;

use super::event::Observer;
use super::workers::Workers;

/// As many acceptors as make sense: each is a task that waits for the same socket.
const MOST_ACCEPTORS: usize = 1024;

/// What is done with a connection beyond the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// It waits in the backlog until another connection ends.
    #[default]
    Wait,
    /// It is accepted and closed at once.
    Refuse,
}

/// The settings.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) max_connections: Option<usize>,
    pub(crate) when_full: WhenFull,
    pub(crate) max_per_peer: Option<usize>,
    pub(crate) max_handshakes: Option<usize>,
    pub(crate) handshake_timeout: Option<Duration>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) drain_timeout: Duration,
    pub(crate) acceptors: usize,
    /// Whether what waits when descriptors have run out is served by the one in reserve, and not closed.
    pub(super) from_reserve: bool,
    pub(crate) workers: Option<Workers>,
    pub(crate) observer: Observer,
}

impl Settings {
    pub(crate) fn new() -> Self {
        Self {
            max_connections: None,
            when_full: WhenFull::Wait,
            max_per_peer: None,
            max_handshakes: None,
            handshake_timeout: None,
            idle_timeout: None,
            drain_timeout: Duration::from_secs(30),
            acceptors: 1,
            from_reserve: false,
            workers: None,
            observer: Observer::none(),
        }
    }

    /// Whether connections beyond the limit wait.
    pub(super) fn waits(&self) -> bool {
        self.when_full == WhenFull::Wait
    }

    /// The same with numbers that can be served with: a limit of zero would let nobody in, and no one would see why.
    pub(super) fn within_bounds(mut self) -> Self {
        let limits = [&mut self.max_connections, &mut self.max_per_peer, &mut self.max_handshakes];
        for limit in limits.into_iter().flatten() {
            *limit = (*limit).max(1);
        }
        self.acceptors = self.acceptors.clamp(1, MOST_ACCEPTORS);
        self
    }
}
