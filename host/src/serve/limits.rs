//! Limits on connections: how many from one peer, and what each is held to.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::event::{Event, Observer};
use super::stopping::Stopping;
use crate::address::Address;
use crate::connection::{Connection, ConnectionInfo};
use crate::error::{Error, ErrorKind};
use crate::listener::Limit;

/// What an accepted connection is held to. It lives until the handshake is done, or given up.
pub(crate) struct Terms {
    pub(crate) stopping: Stopping,
    /// When its handshake is given up.
    pub(crate) limit: Option<Limit>,
    pub(super) idle_timeout: Option<Duration>,
    /// Its place among those of its peer, where the handshake may tell more of that.
    pub(super) place: Option<Arc<Place>>,
    /// Its handshake, where it has one.
    pub(super) handshake: Option<Handshake>,
}

/// A handshake that goes on.
pub(super) struct Handshake {
    /// Of the connection.
    id: u64,
    begun: Instant,
    observer: Observer,
    /// Its place among those that go on.
    _place: Option<OwnedSemaphorePermit>,
}

impl Handshake {
    /// The connection was accepted just now.
    pub(super) fn begin(id: u64, observer: Observer, place: Option<OwnedSemaphorePermit>) -> Self {
        Self { id, begun: Instant::now(), observer, _place: place }
    }
}

impl Terms {
    /// Looks at what the handshake has told.
    pub(crate) fn admit(&self, connection: &Connection) -> Result<(), Error> {
        match &self.place {
            Some(place) => place.change(Peer::of(&connection.info())),
            None => Ok(()),
        }
    }

    /// Sets an established connection up, and tells of its handshake.
    pub(crate) fn begin(&self, mut connection: Connection) -> Connection {
        if self.idle_timeout.is_some() {
            connection.set_idle_timeout(self.idle_timeout);
        }
        if let Some(Handshake { id, begun, observer, .. }) = &self.handshake {
            observer.tell(&Event::established(*id, &connection, begun.elapsed()));
        }
        connection
    }
}

/// Whose connections are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Peer {
    V4(Ipv4Addr),
    /// The first 64 bits: nobody who has an address has fewer than all of those that begin so (RFC 6177).
    V6(Ipv6Addr),
    /// Of a Unix socket.
    User(u32),
}

impl Peer {
    /// `None` where nobody knows who it is.
    pub(super) fn of(info: &ConnectionInfo) -> Option<Self> {
        match info.peer_addr() {
            Some(Address::Ip(address)) => Some(match address.ip() {
                IpAddr::V4(address) => Self::V4(address),
                IpAddr::V6(address) => Self::of_v6(address),
            }),
            _ => info.peer_credentials().map(|credentials| Self::User(credentials.uid)),
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        let [a, b, c, d, ..] = address.segments();
        // All of the internet's old part has the same 64 bits where it is translated (RFC 6052).
        if let [0x64, 0xff9b, 0, 0, 0, 0, ..] = address.segments() {
            let [.., w, x, y, z] = address.octets();
            return Self::V4([w, x, y, z].into());
        }
        Self::V6([a, b, c, d, 0, 0, 0, 0].into())
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => address.fmt(f),
            Self::V6(prefix) => write!(f, "{prefix}/64"),
            Self::User(uid) => write!(f, "user {uid}"),
        }
    }
}

/// How many connections are open from each peer.
pub(super) struct Peers {
    most: usize,
    open: Mutex<HashMap<Peer, usize>>,
}

impl Peers {
    pub(super) fn new(most: usize) -> Self {
        Self { most, open: Mutex::default() }
    }

    /// A place for a connection of that peer, if there is one.
    pub(super) fn place(self: &Arc<Self>, peer: Option<Peer>) -> Result<Arc<Place>, Error> {
        self.enter(peer)?;
        Ok(Arc::new(Place { peers: Arc::clone(self), peer: Mutex::new(peer) }))
    }

    fn enter(&self, peer: Option<Peer>) -> Result<(), Error> {
        let Some(peer) = peer else { return Ok(()) };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.get(&peer).copied().unwrap_or_default();
        if count >= self.most {
            let message = format!(
                "a connection from {peer} is refused: {count} are open from there, which is the limit"
            );
            return Err(Error::new(ErrorKind::ResourceExhausted, message).retryable(true));
        }
        open.insert(peer, count + 1);
        Ok(())
    }

    fn leave(&self, peer: Option<Peer>) {
        let Some(peer) = peer else { return };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = open.entry(peer) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// A connection's place among those of its peer, given back when it is dropped.
pub(super) struct Place {
    peers: Arc<Peers>,
    peer: Mutex<Option<Peer>>,
}

impl Place {
    /// It turned out who the peer is.
    fn change(&self, now: Option<Peer>) -> Result<(), Error> {
        let mut peer = self.peer.lock().unwrap_or_else(PoisonError::into_inner);
        if *peer != now {
            self.peers.enter(now)?;
            self.peers.leave(std::mem::replace(&mut peer, now));
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let peer = *self.peer.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.peers.leave(peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v6(text: &str) -> String {
        Peer::of_v6(text.parse().unwrap()).to_string()
    }

    #[test]
    fn peers_are_told_apart_by_what_one_user_has() {
        assert_eq!(v6("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
        assert_eq!(v6("2001:db8:1:2:ffff::1"), "2001:db8:1:2::/64");
        assert_eq!(v6("2001:db8:1:3::1"), "2001:db8:1:3::/64");
        assert_eq!(v6("64:ff9b::192.0.2.7"), "192.0.2.7");
        assert_eq!(v6("64:ff9b:1::192.0.2.7"), "64:ff9b:1::/64");
    }

    #[test]
    fn places_are_given_back_and_nothing_is_kept_of_peers_that_are_gone() {
        let peers = Arc::new(Peers::new(1));
        let (proxy, client) = (Some(Peer::User(1)), Some(Peer::User(2)));
        let place = peers.place(proxy).unwrap();
        let refused = peers.place(proxy).map(drop).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ResourceExhausted);
        assert!(refused.message().contains("user 1"), "{refused}");
        place.change(client).unwrap();
        let other = peers.place(proxy).unwrap();
        // It stays where it is.
        other.change(client).unwrap_err();
        peers.place(proxy).map(drop).unwrap_err();
        drop(place);
        other.change(client).unwrap();
        other.change(client).unwrap();
        drop(other);
        assert!(peers.open.lock().unwrap().is_empty());
        // Whoever is not known is not limited.
        let _unknown = [peers.place(None).unwrap(), peers.place(None).unwrap()];
    }
}
