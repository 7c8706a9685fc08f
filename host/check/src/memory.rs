//! `check-memory:`: connections in memory, for a wrapper to stand around. They behave as badly as they are told to.

use std::collections::HashMap;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use endpoints::BuiltIn;
use endpoints_plugin_api::{
    Accept, Arguments, Client, Connect, ConnectContext, Connection, Error, ErrorKind, Facts, Host, Incoming,
    Listen, ListenContext, Listener, Plugin, Reachable, Server,
};
use tokio::sync::mpsc;

mod stream;

pub(crate) use stream::Conduct;
use stream::MemoryStream;

/// The name of the scheme.
pub(crate) const SCHEME: &str = "check-memory";

/// The plugin; every registry of a check uses it.
pub(crate) static PLUGIN: BuiltIn = BuiltIn::new::<Memory>(|| MANIFEST);

/// How many streams of all registries are open.
pub(crate) fn open_streams() -> usize {
    OPEN.load(Ordering::SeqCst)
}

static OPEN: AtomicUsize = AtomicUsize::new(0);

const MANIFEST: &str = include_str!("memory/record.json");

type Waiting = mpsc::Sender<MemoryStream>;

/// The names that are listened on in one registry.
#[derive(Clone, Default)]
struct Network(Arc<Mutex<HashMap<String, Waiting>>>);

impl Network {
    fn names<R>(&self, f: impl FnOnce(&mut HashMap<String, Waiting>) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(crate) struct Memory {
    network: Network,
}

impl Plugin for Memory {
    fn new(_host: Host) -> Result<Self, Error> {
        Ok(Self { network: Network::default() })
    }

    fn client(&self, _scheme: &str, arguments: &mut Arguments<'_>) -> Result<Client, Error> {
        let name = arguments.text("name")?.to_owned();
        Ok(Client::new(MemoryClient {
            network: self.network.clone(),
            name,
            conduct: Conduct::read(arguments)?,
        }))
    }

    fn server(&self, _scheme: &str, arguments: &mut Arguments<'_>) -> Result<Server, Error> {
        let name = arguments.text("name")?.to_owned();
        Ok(Server::new(MemoryServer {
            network: self.network.clone(),
            name,
            conduct: Conduct::read(arguments)?,
        }))
    }
}

struct MemoryClient {
    network: Network,
    name: String,
    conduct: Conduct,
}

impl Connect for MemoryClient {
    async fn connect(&self, _context: ConnectContext) -> Result<Connection, Error> {
        match self.conduct.connect {
            stream::Connecting::Works => {}
            stream::Connecting::Hangs => pending().await,
            stream::Connecting::Panics => panic!("check-memory was told to panic in connect"),
        }
        let waiting = self.network.names(|names| names.get(&self.name).cloned());
        let waiting = waiting.ok_or_else(|| refused(&self.name))?;
        let (near, far) = tokio::io::duplex(self.conduct.capacity);
        // The listener's own conduct is for the streams that it gives.
        waiting.send(MemoryStream::new(far, Conduct::default())).await.map_err(|_| refused(&self.name))?;
        Ok(Connection::from_stream(MemoryStream::new(near, self.conduct.clone())))
    }
}

fn refused(name: &str) -> Error {
    Error::new(ErrorKind::ConnectionRefused, format!("nobody listens on {SCHEME}:{name}"))
}

struct MemoryServer {
    network: Network,
    name: String,
    conduct: Conduct,
}

impl Listen for MemoryServer {
    async fn listen(&self, _context: ListenContext) -> Result<Listener, Error> {
        // As many wait as in a short backlog of a socket.
        let (sender, incoming) = mpsc::channel(16);
        self.network.names(|names| {
            if names.get(&self.name).is_some_and(|other| !other.is_closed()) {
                let message = format!("somebody listens on {SCHEME}:{} already", self.name);
                return Err(Error::new(ErrorKind::AddressInUse, message));
            }
            names.insert(self.name.clone(), sender);
            Ok(())
        })?;
        Ok(Listener::new(MemoryListener {
            incoming: tokio::sync::Mutex::new(incoming),
            name: self.name.clone(),
            conduct: self.conduct.clone(),
        }))
    }
}

struct MemoryListener {
    incoming: tokio::sync::Mutex<mpsc::Receiver<MemoryStream>>,
    name: String,
    conduct: Conduct,
}

impl Accept for MemoryListener {
    async fn accept(&self) -> Result<Incoming, Error> {
        match self.incoming.lock().await.recv().await {
            Some(stream) => Ok(Incoming::ready(Connection::from_stream(stream.with(self.conduct.clone())))),
            None => Err(Error::new(ErrorKind::Closed, "another listener has taken the name")),
        }
    }

    fn addresses(&self) -> Facts {
        Facts::new().with("check-memory.name", &self.name)
    }

    fn reachable(&self) -> Vec<Reachable> {
        vec![Reachable::new(SCHEME).with("name", &self.name)]
    }
}
