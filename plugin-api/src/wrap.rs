//! Wrappers: a handshake around a nested endpoint.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::abi::conn::Taken;
use crate::abi::future::{Foreign as ForeignFuture, RUnit};
use crate::abi::listener::Export;
use crate::connection::Connection;
use crate::error::Error;
use crate::listener::{Incoming, Listener};
use crate::plugin::{Client, Connect, ConnectContext, Listen, ListenContext, Server};
use crate::reachable::Reachable;

impl Client {
    /// Stands around `inner`: connects it, then lets `handshake` make of the connection what it will.
    ///
    /// A handshake that gives the connection back as it was costs nothing from then on.
    pub fn wrap<F, H>(inner: Self, handshake: F) -> Self
    where
        F: Fn(Connection) -> H + Send + Sync + 'static,
        H: Future<Output = Result<Connection, Error>> + Send + 'static,
    {
        Self::new(WrappedClient { inner, handshake })
    }
}

struct WrappedClient<F> {
    inner: Client,
    handshake: F,
}

impl<F, H> Connect for WrappedClient<F>
where
    F: Fn(Connection) -> H + Send + Sync + 'static,
    H: Future<Output = Result<Connection, Error>> + Send + 'static,
{
    async fn connect(&self, context: ConnectContext) -> Result<Connection, Error> {
        let connection = self.inner.connect(context).await?;
        (self.handshake)(connection).await
    }
}

impl Server {
    /// Stands around `inner`: listens on it, and lets `handshake` make of each accepted connection what it will when the
    /// [`Incoming`] is awaited. A slow peer delays nobody else.
    ///
    /// The listener tells that it is reached by the client descriptions of `inner`; where a client needs a wrapper of
    /// its own, use [`Server::wrap_reachable`].
    pub fn wrap<F, H>(inner: Self, handshake: F) -> Self
    where
        F: Fn(Connection) -> H + Send + Sync + 'static,
        H: Future<Output = Result<Connection, Error>> + Send + 'static,
    {
        Self::wrap_reachable(inner, handshake, |inner| inner)
    }

    /// As [`Server::wrap`], where a client reaches the listener by what `reachable` makes of a description of `inner`.
    pub fn wrap_reachable<F, H, R>(inner: Self, handshake: F, reachable: R) -> Self
    where
        F: Fn(Connection) -> H + Send + Sync + 'static,
        H: Future<Output = Result<Connection, Error>> + Send + 'static,
        R: Fn(Reachable) -> Reachable + Send + Sync + 'static,
    {
        let handshake = Arc::new(handshake);
        Self::new(WrappedServer { inner, handshake, reachable })
    }
}

struct WrappedServer<F, R> {
    inner: Server,
    handshake: Arc<F>,
    reachable: R,
}

impl<F, H, R> Listen for WrappedServer<F, R>
where
    F: Fn(Connection) -> H + Send + Sync + 'static,
    H: Future<Output = Result<Connection, Error>> + Send + 'static,
    R: Fn(Reachable) -> Reachable + Send + Sync + 'static,
{
    async fn listen(&self, context: ListenContext) -> Result<Listener, Error> {
        let mut inner = self.inner.listen(context).await?;
        let addresses = inner.addresses().into_bytes();
        let reachable: Vec<Reachable> = inner.reachable().into_iter().map(&self.reachable).collect();
        let reachable = Reachable::encode(&reachable).into_bytes();
        let handshake = Arc::clone(&self.handshake);
        Ok(Listener::export(WrappedListener { inner: Some(inner), handshake, addresses, reachable }))
    }
}

struct WrappedListener<F> {
    /// Gone once it is being closed.
    inner: Option<Listener>,
    handshake: Arc<F>,
    addresses: Vec<u8>,
    reachable: Vec<u8>,
}

impl<F, H> Export for WrappedListener<F>
where
    F: Fn(Connection) -> H + Send + Sync + 'static,
    H: Future<Output = Result<Connection, Error>> + Send + 'static,
{
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Taken, Error>> {
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(Err(Error::new(crate::ErrorKind::Closed, "the listener is closed")));
        };
        let mut incoming = match ready!(inner.poll_accept(cx)) {
            Ok(incoming) => incoming,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let facts = incoming.facts();
        let handshake = Arc::clone(&self.handshake);
        let done = async move { handshake(incoming.await?).await };
        Poll::Ready(Ok(Incoming::handshake(facts, done).into_taken()))
    }

    fn addresses(&self) -> Vec<u8> {
        self.addresses.clone()
    }

    fn reachable(&self) -> Vec<u8> {
        self.reachable.clone()
    }

    fn take_socket(&mut self) -> Option<std::os::fd::OwnedFd> {
        None
    }

    fn close(&mut self) -> Option<ForeignFuture<RUnit>> {
        self.inner.take().map(|inner| ForeignFuture::of(inner.close()))
    }
}
