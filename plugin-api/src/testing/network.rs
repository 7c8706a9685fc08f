//! Who listens under which name, and the plugin's endpoints there.

use std::collections::HashMap;
use std::future::{pending, poll_fn};
use std::sync::Mutex;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::host::{Open, TestHost, lock};
use super::link::{Connecting, Link};
use super::pipe::{End, Peer, Pipe};
use crate::abi::endpoint::Foreign;
use crate::connection::Connection;
use crate::error::{Error, ErrorKind};
use crate::listener::{Accept, Incoming, Listener};
use crate::plugin::{Client, Connect, ConnectContext, Listen, ListenContext, Server};
use crate::reachable::Reachable;

#[derive(Default)]
pub(super) struct Network {
    /// Where connections arrive; nobody listens any more where the other end is gone.
    listeners: Mutex<HashMap<String, UnboundedSender<End>>>,
    links: Mutex<HashMap<String, Link>>,
}

impl Network {
    pub(super) fn set_link(&self, name: &str, link: Link) {
        lock(&self.links).insert(name.to_owned(), link);
    }

    pub(super) fn link_of(&self, name: &str) -> Link {
        lock(&self.links).get(name).cloned().unwrap_or_default()
    }

    pub(super) fn listen(&self, name: &str) -> Result<UnboundedReceiver<End>, Error> {
        let mut listeners = lock(&self.listeners);
        if listeners.get(name).is_some_and(|arriving| !arriving.is_closed()) {
            let message = format!("somebody listens at {name} in memory already");
            return Err(Error::new(ErrorKind::AddressInUse, message));
        }
        let (arriving, arrived) = unbounded_channel();
        listeners.insert(name.to_owned(), arriving);
        Ok(arrived)
    }

    pub(super) fn connect(&self, name: &str, link: &Link) -> Result<End, Error> {
        let (near, far) = End::pair(link.capacity);
        match lock(&self.listeners).get(name).map(|arriving| arriving.send(far)) {
            Some(Ok(())) => Ok(near),
            _ => {
                let message = format!("nobody listens at {name} in memory");
                Err(Error::new(ErrorKind::ConnectionRefused, message))
            }
        }
    }
}

/// The test's listener under a name. Dropping it stops listening.
#[derive(Debug)]
pub struct PeerListener(pub(super) UnboundedReceiver<End>);

impl PeerListener {
    /// Waits until the plugin connects.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) if the host and all that it made are gone.
    pub async fn accept(&mut self) -> Result<Peer, Error> {
        let arrived = self.0.recv().await;
        arrived.map(Peer).ok_or_else(|| Error::new(ErrorKind::Closed, "the host in memory is gone"))
    }
}

/// An endpoint that the host gives the plugin.
pub(super) struct Named {
    pub(super) host: TestHost,
    pub(super) name: String,
}

impl Named {
    /// The endpoint that connects there.
    pub(super) fn client(self) -> Foreign {
        Client::new(self).0
    }

    /// The endpoint that listens there.
    pub(super) fn server(self) -> Foreign {
        Server::new(self).0
    }

    fn connection(host: &TestHost, name: &str, end: End, link: Link) -> Connection {
        let open = host.shared().opened.enter(format!("a connection of {name}"));
        Connection::from_stream(Pipe::new(end, &link, open)).with_facts(link.facts)
    }
}

impl Connect for Named {
    async fn connect(&self, _context: ConnectContext) -> Result<Connection, Error> {
        let network = &self.host.shared().network;
        let link = network.link_of(&self.name);
        match &link.connecting {
            Connecting::Works => {}
            Connecting::Fails(error) => return Err(error.clone()),
            Connecting::Hangs => pending().await,
        }
        let end = network.connect(&self.name, &link)?;
        Ok(Self::connection(&self.host, &self.name, end, link))
    }
}

impl Listen for Named {
    async fn listen(&self, _context: ListenContext) -> Result<Listener, Error> {
        let arrived = self.host.shared().network.listen(&self.name)?;
        let (host, name) = (self.host.clone(), self.name.clone());
        let open = host.shared().opened.enter(format!("a listener at {name}"));
        Ok(Listener::new(NamedListener { host, name, arrived: Mutex::new(arrived), _open: open }))
    }
}

struct NamedListener {
    host: TestHost,
    name: String,
    arrived: Mutex<UnboundedReceiver<End>>,
    _open: Open,
}

impl Accept for NamedListener {
    async fn accept(&self) -> Result<Incoming, Error> {
        let end = poll_fn(|cx| lock(&self.arrived).poll_recv(cx)).await;
        let end = end.ok_or_else(|| Error::new(ErrorKind::Closed, "the host in memory is gone"))?;
        let link = self.host.shared().network.link_of(&self.name);
        Ok(Incoming::ready(Named::connection(&self.host, &self.name, end, link)))
    }

    fn reachable(&self) -> Vec<Reachable> {
        vec![Reachable::new("memory").with("name", &self.name)]
    }
}
