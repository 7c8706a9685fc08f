//! The plugin, called as a host calls it.

use std::sync::Arc;

use super::host::TestHost;
use super::services::Lent;
use super::socket;
use super::values::Values;
use crate::abi::host::{CLIENT, SERVER};
use crate::abi::instance::{Constructor, Instance};
use crate::connection::Connection;
use crate::error::Error;
use crate::facts::Facts;
use crate::listener::{Incoming, Listener};
use crate::plugin::{Client, ConnectContext, ListenContext, Plugin, Server};
use crate::reachable::Reachable;

/// An instance of a plugin; made by [`TestHost::plugin`].
#[derive(Debug)]
pub struct TestPlugin {
    host: TestHost,
    instance: Instance,
}

impl TestPlugin {
    pub(super) fn new<P: Plugin>(host: TestHost) -> Result<Self, Error> {
        let instance = Instance::create(Constructor::of::<P>(), Arc::new(Lent(host.clone())))?;
        Ok(Self { host, instance })
    }

    /// Has the plugin make a client endpoint.
    ///
    /// # Errors
    /// What [`Plugin::client`] says against it.
    pub fn client(&self, scheme: &str, values: &Values) -> Result<TestClient, Error> {
        let made = self.instance.endpoint(CLIENT, scheme, &mut values.lend(&self.host))?;
        Ok(TestClient { host: self.host.clone(), client: Client(made) })
    }

    /// Has the plugin make a server endpoint.
    ///
    /// # Errors
    /// What [`Plugin::server`] says against it.
    pub fn server(&self, scheme: &str, values: &Values) -> Result<TestServer, Error> {
        let made = self.instance.endpoint(SERVER, scheme, &mut values.lend(&self.host))?;
        Ok(TestServer { host: self.host.clone(), server: Server(made) })
    }
}

/// A client endpoint of the plugin.
#[derive(Debug)]
pub struct TestClient {
    host: TestHost,
    client: Client,
}

impl TestClient {
    /// Connects. The connection can be read and written, also where it is a socket.
    ///
    /// # Errors
    /// Why there is no connection.
    ///
    /// # Cancel safety
    /// Dropping the future cancels, as it does in a host.
    pub async fn connect(&self) -> Result<Connection, Error> {
        self.connect_with(ConnectContext::default()).await
    }

    /// As [`connect`](Self::connect), telling the plugin about the attempt. Its time is not enforced.
    ///
    /// # Errors
    /// Likewise.
    pub async fn connect_with(&self, context: ConnectContext) -> Result<Connection, Error> {
        socket::usable(&self.host, self.client.connect(context).await?)
    }

    /// What [`Connect::describe`](crate::Connect::describe) says.
    #[must_use]
    pub fn describe(&self) -> Facts {
        Facts::from_bytes(self.client.0.describe().as_slice().to_vec())
    }
}

/// A server endpoint of the plugin.
#[derive(Debug)]
pub struct TestServer {
    host: TestHost,
    server: Server,
}

impl TestServer {
    /// Starts to listen.
    ///
    /// # Errors
    /// Why it cannot.
    ///
    /// # Cancel safety
    /// Dropping the future cancels, as it does in a host.
    pub async fn listen(&self) -> Result<TestListener, Error> {
        let mut listener = self.server.listen(ListenContext::default()).await?;
        let socket = listener.0.take_socket();
        let socket = socket?.map(|socket| socket::listening(&self.host, socket)).transpose()?;
        Ok(TestListener { host: self.host.clone(), socket, listener })
    }

    /// What [`Listen::describe`](crate::Listen::describe) says.
    #[must_use]
    pub fn describe(&self) -> Facts {
        Facts::from_bytes(self.server.0.describe().as_slice().to_vec())
    }
}

/// A listener of the plugin. Dropping it stops listening.
#[derive(Debug)]
pub struct TestListener {
    host: TestHost,
    /// What the plugin has given up, to be closed before its listener.
    socket: Option<socket::Listening>,
    listener: Listener,
}

impl TestListener {
    /// Waits for the next connection, not for its handshake: await what it gives for the [`Connection`].
    ///
    /// # Errors
    /// Why accepting failed.
    ///
    /// # Cancel safety
    /// No connection is lost when the future is dropped.
    pub async fn accept(&mut self) -> Result<Incoming, Error> {
        let mut incoming = match &self.socket {
            Some(socket) => return Ok(Incoming::ready(socket.accept().await?)),
            None => self.listener.accept().await?,
        };
        let host = self.host.clone();
        let facts = incoming.facts();
        Ok(Incoming::handshake(facts, async move { socket::usable(&host, incoming.await?) }))
    }

    /// The addresses that the plugin says it listens on.
    pub fn addresses(&mut self) -> Facts {
        self.listener.addresses()
    }

    /// The client descriptions by which the plugin says it is reached.
    pub fn reachable(&mut self) -> Vec<Reachable> {
        self.listener.reachable()
    }

    /// Stops listening and waits until it has.
    ///
    /// # Errors
    /// What went wrong on the way; listening has ended all the same.
    pub async fn close(self) -> Result<(), Error> {
        drop(self.socket);
        self.listener.close().await
    }
}
