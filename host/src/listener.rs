//! Listening and accepting.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use endpoints_plugin_api as api;
use endpoints_plugin_api::abi::conn::{Body, Taken};
use endpoints_plugin_api::abi::future::{Foreign as ForeignFuture, RUnit};
use endpoints_plugin_api::abi::listener::{Export, Foreign};
use endpoints_plugin_api::{Facts, Reachable};
use rustix::net::sockopt;
use tokio::sync::Mutex;

use crate::address::Address;
use crate::connection::Connection;
use crate::endpoint::Endpoint;
use crate::error::{Error, ErrorKind};
use crate::grammar::Description;
use crate::registry::Registry;
use crate::stream::{Carrier, Stream, prepare_socket};

mod established;
mod incoming;
mod opened;
mod socket;

pub use established::Established;
pub(crate) use incoming::Limit;
use incoming::State;
pub use incoming::{Establishing, Incoming};
use opened::Opened;
pub(crate) use opened::{noting, once_more};
use socket::Socket;

/// Something that listens; made by [`ServerEndpoint::listen`](crate::ServerEndpoint::listen).
///
/// Dropping it stops listening; [`close`](Self::close) also waits until that is done. Connections that were accepted live
/// on.
pub struct Listener {
    acceptor: Acceptor,
    /// What must be kept while a socket of the plugin's listens; declared after it, so dropped after it.
    keeper: Option<Foreign>,
    reachable: Vec<Reachable>,
    addresses: Vec<Address>,
    endpoint: Arc<Endpoint>,
    /// Whether peers are known by what somebody tells of them, as a proxy does in a header.
    peers_are_told: bool,
    /// Also by others on levels below.
    opened: Arc<Opened>,
}

enum Acceptor {
    Socket(Arc<Socket>),
    /// Its plugin accepts. The lock makes one call of it at a time.
    Plugin(Mutex<Foreign>),
}

impl Listener {
    pub(crate) fn new(
        mut foreign: Foreign,
        endpoint: Arc<Endpoint>,
        peers_are_told: bool,
    ) -> Result<Self, Error> {
        let told = Reachable::decode(&Facts::from_bytes(foreign.reachable().as_slice().to_vec()));
        let reachable: Vec<_> =
            told.into_iter().map(|told| without_secrets(&endpoint.registry, told)).collect();
        let Some(socket) = foreign.take_socket()? else {
            let facts = Facts::from_bytes(foreign.addresses().as_slice().to_vec());
            let addresses =
                facts.iter().filter_map(|(name, value)| Address::from_fact(name, value)).collect();
            let acceptor = Acceptor::Plugin(Mutex::new(foreign));
            let (keeper, opened) = (None, opened::current());
            return Ok(Self { acceptor, keeper, reachable, addresses, endpoint, peers_are_told, opened });
        };
        let (acceptor, address) = accepting(socket)?;
        let (addresses, keeper, opened) = (vec![address], Some(foreign), opened::current());
        opened.note(&endpoint, &acceptor, &reachable);
        Ok(Self { acceptor, keeper, reachable, addresses, endpoint, peers_are_told, opened })
    }

    /// Waits for the next connection. It never waits for a peer's bytes: a handshake is done when the [`Incoming`] is
    /// awaited, so a slow or hostile peer delays nobody else.
    ///
    /// May be called from several tasks at once.
    ///
    /// # Errors
    /// Why accepting failed. The listener stays usable; wait a little before the next call where
    /// [`ErrorKind::ResourceExhausted`] is the reason.
    ///
    /// # Cancel safety
    /// No connection is lost when the future is dropped.
    pub async fn accept(&self) -> Result<Incoming, Error> {
        let scheme = self.endpoint.scheme();
        match &self.acceptor {
            Acceptor::Socket(socket) => loop {
                if let Some(accepted) = accepted(scheme, socket.accept().await) {
                    return accepted;
                }
            },
            Acceptor::Plugin(foreign) => {
                let mut foreign = foreign.lock().await;
                let accepted = poll_fn(|cx| foreign.poll_accept(cx)).await;
                drop(foreign);
                taken(scheme, accepted)
            }
        }
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, Error>> {
        let scheme = self.endpoint.scheme();
        match &mut self.acceptor {
            Acceptor::Socket(socket) => loop {
                if let Some(accepted) = accepted(scheme, ready!(socket.poll_accept(cx))) {
                    return Poll::Ready(accepted);
                }
            },
            Acceptor::Plugin(foreign) => {
                Poll::Ready(taken(scheme, ready!(foreign.get_mut().poll_accept(cx))))
            }
        }
    }

    pub(crate) fn peers_are_told(&self) -> bool {
        self.peers_are_told
    }

    /// Whether its socket listens no more, as when others have it too, and one of them has shut it down.
    pub(crate) fn is_dead(&self) -> bool {
        let listens = match &self.acceptor {
            Acceptor::Socket(socket) => sockopt::socket_acceptconn(&**socket),
            Acceptor::Plugin(_) => return false,
        };
        listens == Ok(false)
    }

    /// The addresses that are listened on.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// The client descriptions by which the listener is reached, canonical.
    #[must_use]
    pub fn reachable(&self) -> Vec<Description> {
        self.reachable.iter().map(describe).collect()
    }

    /// Stops listening and waits until that is done; then the address is free and files are removed.
    ///
    /// # Errors
    /// What went wrong on the way; listening has ended all the same.
    ///
    /// # Cancel safety
    /// Listening ends also when the future is dropped.
    pub async fn close(self) -> Result<(), Error> {
        let Self { acceptor, keeper, endpoint, .. } = self;
        let foreign = match acceptor {
            Acceptor::Plugin(foreign) => Some(foreign.into_inner()),
            // The socket is closed before the plugin cleans up behind it.
            Acceptor::Socket(_) => {
                drop(acceptor);
                keeper
            }
        };
        match foreign {
            Some(foreign) => {
                foreign.close().await.map_err(|error| Error::from(error).with_scheme(endpoint.scheme()))
            }
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("scheme", self.endpoint.scheme())
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

/// What a socket has accepted; `None` where that went away again, and the next one is to be waited for.
fn accepted(scheme: &Arc<str>, accepted: io::Result<(Carrier, Address)>) -> Option<Result<Incoming, Error>> {
    match accepted {
        Ok((carrier, peer)) => {
            let connection = Connection::new(Stream::accepted(carrier), Some(peer));
            Some(Ok(Incoming::new(State::Ready(connection.with_layer(scheme)))))
        }
        Err(error) if is_about_the_peer(&error) => None,
        Err(error) => {
            let error = api::Error::from_io("cannot accept a connection", &error).with_retryable(true);
            Some(Err(Error::from(error).with_scheme(scheme)))
        }
    }
}

/// What a plugin has accepted.
fn taken(scheme: &Arc<str>, taken: Result<Taken, api::Error>) -> Result<Incoming, Error> {
    let taken = taken.map_err(|error| Error::from(error).with_scheme(scheme))?;
    match taken.body {
        Body::Handshake(handshake) => {
            let early = taken.facts;
            Ok(Incoming::new(State::Handshake { early, handshake, scheme: Arc::clone(scheme) }))
        }
        body => {
            let connection = Connection::from_taken(Taken { body, ..taken }, scheme)?;
            Ok(Incoming::new(State::Ready(connection)))
        }
    }
}

/// Errors of `accept` that are about one connection that went away again, as accept(2) says.
fn is_about_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
    )
}

fn accepting(socket: OwnedFd) -> Result<(Acceptor, Address), Error> {
    let io = |error: io::Error| {
        Error::from(api::Error::from_io("the plugin's socket cannot be listened on", &error))
    };
    prepare_socket(&socket)?;
    // Accepting from one that is connected, or nothing yet, would fail for ever.
    if !sockopt::socket_acceptconn(&socket).map_err(|error| io(error.into()))? {
        return Err(Error::new(ErrorKind::Internal, "a plugin handed over a socket that does not listen"));
    }
    let socket = Socket::new(socket).map_err(io)?;
    let address = socket.address().map_err(io)?;
    Ok((Acceptor::Socket(Arc::new(socket)), address))
}

/// Leaves out what is declared as a secret: how a listener is reached is printed. Whoever connects knows it.
fn without_secrets(registry: &Registry, told: Reachable) -> Reachable {
    let entry = registry.find(told.scheme.as_bytes()).ok();
    let declared = entry.as_ref().and_then(|entry| entry.scheme().client.as_ref());
    let is_secret = |name: &str| declared.and_then(|role| role.parameter(name)).is_some_and(|one| one.secret);
    let arguments = told.arguments.into_iter().filter(|(name, _)| !is_secret(name)).map(|(name, value)| {
        let value = match value {
            api::Argument::Nested(inner) => api::Argument::Nested(without_secrets(registry, inner)),
            value => value,
        };
        (name, value)
    });
    Reachable { arguments: arguments.collect(), scheme: told.scheme }
}

/// Prints the parts of a client description.
fn describe(reachable: &Reachable) -> Description {
    let mut builder = Description::builder(&reachable.scheme);
    for (name, value) in &reachable.arguments {
        let value = match value {
            api::Argument::Value(value) => value.clone(),
            api::Argument::Nested(inner) => describe(inner).into_text(),
        };
        // A name comes from a plugin; one that cannot be written is left out rather than trusted.
        if name.is_ascii() {
            builder = builder.keyword(name, value);
        }
    }
    builder.build().canonicalized()
}

/// A listener lent to a plugin that stands around it.
impl Export for Listener {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Taken, api::Error>> {
        let incoming = ready!(self.poll_accept(cx)).map_err(|error| error.to_api());
        Poll::Ready(incoming.map(Incoming::into_taken))
    }

    fn addresses(&self) -> Vec<u8> {
        let mut facts = Facts::new();
        for address in &self.addresses {
            address.tell(true, &mut facts);
        }
        facts.into_bytes()
    }

    fn reachable(&self) -> Vec<u8> {
        Reachable::encode(&self.reachable).into_bytes()
    }

    fn take_socket(&mut self) -> Option<OwnedFd> {
        None
    }

    fn close(&mut self) -> Option<ForeignFuture<RUnit>> {
        // What listens is dropped by whoever holds this; what is to be waited for is the plugin's own closing.
        let foreign = match &mut self.acceptor {
            Acceptor::Plugin(foreign) => Some(foreign.get_mut()),
            _ => None,
        };
        foreign.and_then(Foreign::begin_close)
    }
}
