//! Accepting: places are taken, connections are handed out, and what accepting fails for is waited out.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep_until;

use super::balance::Balance;
use super::drain::Open;
use super::event::{Event, Observer};
use super::handling::Handling;
use super::limits::{Handshake, Peer, Peers, Place, Terms};
use super::occupancy::{Occupancy, Occupied};
use super::pauses::Pauses;
use super::reserve::{Lent, Loan, Reserve, is_about_descriptors};
use super::settings::Settings;
use super::stopping::Stopping;
use crate::error::{Error, ErrorKind};
use crate::listener::{Incoming, Limit, Listener};

/// One that accepts.
pub(super) struct Acceptor {
    pub(super) shared: Arc<Shared>,
    pub(super) listener: Arc<Listener>,
    /// Where it does, in the balance.
    pub(super) thread: usize,
    pub(super) open: Open,
}

/// What all acceptors share.
pub(super) struct Shared {
    observer: Observer,
    slots: Option<Arc<Semaphore>>,
    /// Where there is a limit, and connections wait.
    pub(super) occupancy: Option<Arc<Occupancy>>,
    handshakes: Option<Arc<Semaphore>>,
    peers: Option<Arc<Peers>>,
    settings: Settings,
    reserve: Reserve,
    next_id: AtomicU64,
    balance: Arc<Balance>,
    pauses: Arc<Pauses>,
    /// Whether what an acceptor has accepted is its own to serve, as there is one on each thread.
    own: bool,
}

/// A connection's places among the limited numbers, given back when it ends.
#[derive(Default)]
struct Places {
    // Before its place is free for another one.
    _occupied: Option<Occupied>,
    _slot: Option<OwnedSemaphorePermit>,
    _of_peer: Option<Arc<Place>>,
    _lent: Option<Lent>,
}

impl Shared {
    pub(super) fn new(
        (reserve, pauses): (Reserve, Arc<Pauses>),
        settings: Settings,
        balance: Arc<Balance>,
        own: bool,
    ) -> Self {
        let semaphore = |most: usize| Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        Self {
            observer: settings.observer.clone(),
            slots: settings.max_connections.map(semaphore),
            occupancy: settings
                .max_connections
                .filter(|_| settings.waits())
                .map(Occupancy::new)
                .map(Arc::new),
            handshakes: settings.max_handshakes.map(semaphore),
            peers: settings.max_per_peer.map(Peers::new).map(Arc::new),
            settings,
            reserve,
            next_id: AtomicU64::new(1),
            balance,
            pauses,
            own,
        }
    }

    /// Tells that accepting has failed, and closes what waits where descriptors have run out and the reserve is not for that.
    fn failed(&self, listener: &Listener, error: Error, pause: Duration) {
        let refused =
            if self.settings.from_reserve { 0 } else { self.reserve.refuse_waiting(listener, &error) };
        let error = match refused {
            0 => error,
            1 => error.meaning("the connection that waited is closed"),
            _ => error.meaning(format_args!("the {refused} connections that waited are closed")),
        };
        tracing::warn!(%error, refused, ?pause, "accepting pauses");
        self.observer.tell(&Event::error(None, &error));
    }
}

impl Acceptor {
    /// The next connection that there is a place for; `None` where one was refused.
    async fn accept(&self, stopping: &Stopping) -> Result<Option<(u64, Places, Incoming)>, Error> {
        let shared = &*self.shared;
        let slot = if shared.settings.waits() { taken(shared.slots.as_ref()).await } else { None };
        let handshake = taken(shared.handshakes.as_ref()).await;
        // What is refused is closed before its descriptor is given back.
        let (lent, mut incoming) = self.next().await?;
        match self.admit(slot, handshake, &mut incoming, stopping) {
            Ok((id, places)) => Ok(Some((id, Places { _lent: lent, ..places }, incoming))),
            Err(error) => {
                let peer = incoming.info().peer_addr();
                shared.observer.tell(&Event::Error { id: None, peer: peer.as_ref(), error: &error });
                Ok(None)
            }
        }
    }

    /// The next connection, by the descriptor in reserve where that is for it and there is no other.
    async fn next(&self) -> Result<(Option<Lent>, Incoming), Error> {
        let Shared { reserve, settings, .. } = &*self.shared;
        loop {
            let error = match self.next_by_itself().await {
                Ok(incoming) => return Ok((None, incoming)),
                Err(error) if !settings.from_reserve || !is_about_descriptors(&error) => return Err(error),
                Err(error) => error,
            };
            match reserve.lend(&self.listener) {
                Loan::Given(incoming, lent) => return Ok((Some(lent), incoming)),
                Loan::Unneeded => {}
                Loan::Lent => reserve.returned().await,
                Loan::Lost => return Err(error),
            }
        }
    }

    /// The next connection. While accepting fails, not at the same time as another acceptor refuses some: this one would take the
    /// descriptor by which it does that.
    async fn next_by_itself(&self) -> Result<Incoming, Error> {
        let Shared { reserve, pauses, .. } = &*self.shared;
        let mut accepting = pin!(self.listener.accept());
        poll_fn(|cx| {
            let _held = pauses.are_made().then(|| reserve.hold());
            accepting.as_mut().poll(cx)
        })
        .await
    }

    fn admit(
        &self,
        mut slot: Option<OwnedSemaphorePermit>,
        handshake: Option<OwnedSemaphorePermit>,
        incoming: &mut Incoming,
        stopping: &Stopping,
    ) -> Result<(u64, Places), Error> {
        let shared = &*self.shared;
        if let (None, Some(slots)) = (&slot, &shared.slots) {
            let Ok(free) = Arc::clone(slots).try_acquire_owned() else {
                let most = shared.settings.max_connections.unwrap_or_default();
                let message = format!("a connection is refused: {most} are open, which is the limit");
                return Err(Error::new(ErrorKind::ResourceExhausted, message).retryable(true));
            };
            slot = Some(free);
        }
        let begins = !incoming.is_ready();
        let of_peer = match &shared.peers {
            // The proxy's connections are those of its clients, who are known after the handshake.
            Some(peers) if begins && self.listener.peers_are_told() => Some(peers.place(None)?),
            Some(peers) => Some(peers.place(Peer::of(&incoming.info()))?),
            None => None,
        };
        let occupied = shared.occupancy.as_ref().map(Occupancy::occupy);
        let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
        incoming.on_terms(Terms {
            stopping: stopping.clone(),
            limit: shared.settings.handshake_timeout.filter(|_| begins).and_then(Limit::from_now),
            idle_timeout: shared.settings.idle_timeout,
            place: of_peer.clone().filter(|_| begins),
            handshake: begins.then(|| Handshake::begin(id, shared.observer.clone(), handshake)),
        });
        Ok((id, Places { _slot: slot, _occupied: occupied, _of_peer: of_peer, _lent: None }))
    }
}

/// A place, once there is one; `None` where there is no limit.
async fn taken(free: Option<&Arc<Semaphore>>) -> Option<OwnedSemaphorePermit> {
    // It is never closed, so there always comes one.
    Arc::clone(free?).acquire_owned().await.ok()
}

/// Accepts until it is told to stop, or the listener is of no more use; says why where something is wrong with it.
pub(super) async fn accept_loop<H, F>(acceptor: Acceptor, handle: Arc<H>, stopping: Stopping) -> Option<Error>
where
    H: Fn(u64, Incoming) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let shared = Arc::clone(&acceptor.shared);
    let mut stopped = pin!(stopping.wait());
    loop {
        if let Some(until) = shared.pauses.until() {
            tokio::select! {
                () = &mut stopped => return None,
                () = sleep_until(until) => {}
            }
        }
        let accepted = tokio::select! {
            biased;
            () = &mut stopped => return None,
            // Those that ended are forgotten, so that the set is as large as what is open.
            Some(_) = acceptor.open.join_next() => continue,
            accepted = acceptor.accept(&stopping) => accepted,
        };
        match accepted {
            Ok(None) => {}
            Ok(Some((id, places, incoming))) => {
                shared.pauses.succeeded();
                shared.reserve.restore();
                shared.observer.tell(&Event::Accepted { id, incoming: &incoming });
                let observer = shared.observer.clone();
                let part = shared.balance.part(shared.own.then_some(acceptor.thread));
                let worker = part.runtime_beside(acceptor.thread).cloned();
                let moves = worker.is_some();
                let handling =
                    Handling::new(Arc::clone(&handle), id, incoming, observer, (places, part)).moving(moves);
                acceptor.open.spawn(handling, worker.as_ref());
            }
            Err(error) if error.kind() == ErrorKind::Closed => return None,
            Err(error) if error.kind() == ErrorKind::PluginPanicked || acceptor.listener.is_dead() => {
                shared.observer.tell(&Event::error(None, &error));
                return Some(error);
            }
            Err(error) => {
                if let Some(pause) = shared.pauses.begin() {
                    shared.failed(&acceptor.listener, error, pause);
                }
            }
        }
    }
}
