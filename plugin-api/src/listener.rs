//! Listening and accepting.

use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::abi;
use crate::abi::conn::{Body, Handshaking, Taken};
use crate::abi::future::{Foreign as ForeignFuture, RUnit};
use crate::abi::listener::{Export, Foreign};
use crate::connection::Connection;
use crate::error::{Error, ErrorKind};
use crate::facts::Facts;
use crate::reachable::Reachable;

/// Something that listens: of a plugin's own, or of a nested endpoint.
///
/// Dropping it stops listening.
#[derive(Debug)]
pub struct Listener(pub(crate) Foreign);

impl Listener {
    /// A listener over a listening stream socket, from which the host accepts by itself.
    ///
    /// `reachable` are the client descriptions by which it is reached; `guard` is dropped when listening has ended,
    /// after the socket was closed: a place for what must be cleaned up then.
    pub fn from_socket(
        socket: impl Into<OwnedFd>,
        reachable: Vec<Reachable>,
        guard: impl Send + 'static,
    ) -> Self {
        Self::export(SocketListener { socket: Some(socket.into()), reachable, _guard: guard })
    }

    /// A listener that accepts in a way of its own.
    pub fn new(accept: impl Accept) -> Self {
        Self::export(AcceptListener { accept: Arc::new(accept), accepting: None })
    }

    pub(crate) fn export(listener: impl Export) -> Self {
        Self(Foreign::of(listener))
    }

    /// Waits for the next connection, not for its handshake.
    ///
    /// # Errors
    /// Why accepting failed; the listener stays usable unless the kind is [`Closed`](ErrorKind::Closed).
    ///
    /// # Cancel safety
    /// No connection is lost when the future is dropped.
    pub async fn accept(&mut self) -> Result<Incoming, Error> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    pub(crate) fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, Error>> {
        Poll::Ready(ready!(self.0.poll_accept(cx)).and_then(Incoming::from_taken))
    }

    /// The addresses that are listened on.
    pub fn addresses(&mut self) -> Facts {
        Facts::from_bytes(self.0.addresses().as_slice().to_vec())
    }

    /// The client descriptions by which it is reached.
    pub fn reachable(&mut self) -> Vec<Reachable> {
        Reachable::decode(&Facts::from_bytes(self.0.reachable().as_slice().to_vec()))
    }

    /// Stops listening and waits until it has.
    ///
    /// # Errors
    /// What went wrong on the way; listening has ended all the same.
    pub async fn close(self) -> Result<(), Error> {
        self.0.close().await
    }
}

/// A way to accept.
pub trait Accept: Send + Sync + 'static {
    /// Waits for the next connection, never for a peer's bytes: what a handshake needs belongs into
    /// [`Incoming::handshake`].
    ///
    /// # Errors
    /// Why accepting failed; it will be called again unless the kind is [`Closed`](ErrorKind::Closed).
    ///
    /// # Cancel safety
    /// None is needed: the host keeps the future until it ends, or the listener is dropped.
    fn accept(&self) -> impl Future<Output = Result<Incoming, Error>> + Send;

    /// The addresses that are listened on; [`name::LOCAL_IP`](crate::name::LOCAL_IP) and its like.
    fn addresses(&self) -> Facts {
        Facts::new()
    }

    /// The client descriptions by which it is reached.
    fn reachable(&self) -> Vec<Reachable> {
        Vec::new()
    }
}

/// A connection that was accepted, its handshake perhaps not yet done: await it for the [`Connection`].
///
/// Dropping it closes the connection.
pub struct Incoming {
    facts: Facts,
    state: State,
}

enum State {
    Ready(Connection),
    Handshake(Handshaking),
}

impl Incoming {
    /// A connection that needs no handshake.
    #[must_use]
    pub fn ready(connection: Connection) -> Self {
        Self { facts: Facts::new(), state: State::Ready(connection) }
    }

    /// A connection whose handshake is done by `handshake`, when it is awaited. `facts` are what is known before, such as
    /// the peer's address.
    ///
    /// Where the peer closes the connection before it has sent anything, the handshake should end with
    /// [`ErrorKind::Cancelled`]: those who only look whether there is a server are told apart from failures by that.
    pub fn handshake(
        facts: Facts,
        handshake: impl Future<Output = Result<Connection, Error>> + Send + 'static,
    ) -> Self {
        Self { facts, state: State::Handshake(Handshaking::new(Handover { handshake })) }
    }

    /// What is known before the handshake.
    pub fn facts(&mut self) -> Facts {
        match &mut self.state {
            State::Ready(connection) if self.facts.is_empty() => connection.facts(),
            _ => self.facts.clone(),
        }
    }

    fn from_taken(taken: Taken) -> Result<Self, Error> {
        let facts = Facts::from_bytes(taken.facts.as_slice().to_vec());
        match taken.body {
            Body::Handshake(future) => Ok(Self { facts, state: State::Handshake(future) }),
            _ => Ok(Self::ready(Connection::from_taken(taken)?)),
        }
    }

    pub(crate) fn into_taken(self) -> Taken {
        match self.state {
            State::Ready(connection) => connection.into_taken(),
            State::Handshake(future) => Taken {
                body: Body::Handshake(future),
                facts: self.facts.into_bytes().into(),
                leftover: abi::bytes::RBytes::EMPTY,
            },
        }
    }
}

impl IntoFuture for Incoming {
    type Output = Result<Connection, Error>;
    type IntoFuture = Handshake;

    fn into_future(self) -> Handshake {
        Handshake(match self.state {
            State::Ready(connection) => Progress::Ready(Some(Box::new(connection))),
            State::Handshake(future) => Progress::Pending(future),
        })
    }
}

pin_project_lite::pin_project! {
    /// A handshake whose connection is handed over. An `async` block would hold the future twice, as it was given and as
    /// it is awaited, and one of TLS has some kilobytes.
    struct Handover<H> {
        #[pin]
        handshake: H,
    }
}

impl<H: Future<Output = Result<Connection, Error>>> Future for Handover<H> {
    type Output = Result<Taken, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().handshake.poll(cx).map_ok(Connection::into_taken)
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ready = matches!(self.state, State::Ready(_));
        f.debug_struct("Incoming").field("ready", &ready).finish_non_exhaustive()
    }
}

/// The handshake of an [`Incoming`].
#[derive(Debug)]
pub struct Handshake(Progress);

#[derive(Debug)]
enum Progress {
    Ready(Option<Box<Connection>>),
    Pending(Handshaking),
}

impl Future for Handshake {
    type Output = Result<Connection, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Progress::Ready(connection) => Poll::Ready(
                connection
                    .take()
                    .map(|connection| *connection)
                    .ok_or_else(|| Error::new(ErrorKind::Internal, "a handshake was awaited after its end")),
            ),
            Progress::Pending(future) => {
                Poll::Ready(ready!(Pin::new(future).poll(cx)).and_then(Connection::from_taken))
            }
        }
    }
}

struct SocketListener<G> {
    socket: Option<OwnedFd>,
    reachable: Vec<Reachable>,
    /// Declared last, so dropped last.
    _guard: G,
}

impl<G: Send + 'static> Export for SocketListener<G> {
    fn poll_accept(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Taken, Error>> {
        Poll::Ready(Err(Error::new(
            ErrorKind::Internal,
            "the host accepts from this listener's socket itself",
        )))
    }

    fn addresses(&self) -> Vec<u8> {
        Vec::new()
    }

    fn reachable(&self) -> Vec<u8> {
        Reachable::encode(&self.reachable).into_bytes()
    }

    fn take_socket(&mut self) -> Option<OwnedFd> {
        self.socket.take()
    }

    fn close(&mut self) -> Option<ForeignFuture<RUnit>> {
        None
    }
}

struct AcceptListener<A> {
    accept: Arc<A>,
    accepting: Option<Accepting>,
}

type Accepting = Pin<Box<dyn Future<Output = Result<Incoming, Error>> + Send>>;

impl<A: Accept> Export for AcceptListener<A> {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Taken, Error>> {
        let accept = &self.accept;
        let accepting = self.accepting.get_or_insert_with(|| {
            let accept = Arc::clone(accept);
            Box::pin(async move { accept.accept().await })
        });
        let accepted = ready!(accepting.as_mut().poll(cx));
        self.accepting = None;
        Poll::Ready(accepted.map(Incoming::into_taken))
    }

    fn addresses(&self) -> Vec<u8> {
        self.accept.addresses().into_bytes()
    }

    fn reachable(&self) -> Vec<u8> {
        Reachable::encode(&self.accept.reachable()).into_bytes()
    }

    fn take_socket(&mut self) -> Option<OwnedFd> {
        None
    }

    fn close(&mut self) -> Option<ForeignFuture<RUnit>> {
        None
    }
}
