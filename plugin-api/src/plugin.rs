//! What a plugin implements.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::abi::conn::Taken;
use crate::abi::endpoint::{Export, Foreign};
use crate::abi::listener::Foreign as ForeignListener;
use crate::arguments::Arguments;
use crate::connection::Connection;
use crate::error::{Error, ErrorKind};
use crate::facts::Facts;
use crate::listener::Listener;
use crate::services::Host;

/// A plugin: makes endpoints of the schemes that its manifest declares.
///
/// One instance is made for each registry that uses the plugin.
pub trait Plugin: Send + Sync + Sized + 'static {
    /// Sets the plugin up. `host` is what it may call from now on; clone it into whatever needs it.
    ///
    /// # Errors
    /// Whatever keeps the plugin from working at all; every endpoint of its schemes then fails with it.
    fn new(host: Host) -> Result<Self, Error>;

    /// Makes a client endpoint. May read files that arguments name; opens no socket.
    ///
    /// # Errors
    /// What the manifest cannot say about the arguments. [`Unsupported`](ErrorKind::Unsupported) unless implemented.
    fn client(&self, scheme: &str, arguments: &mut Arguments<'_>) -> Result<Client, Error> {
        let _ = arguments;
        Err(Error::new(ErrorKind::Unsupported, format!("{scheme} has no client side")))
    }

    /// Makes a server endpoint. May read files that arguments name; opens no socket.
    ///
    /// # Errors
    /// What the manifest cannot say about the arguments. [`Unsupported`](ErrorKind::Unsupported) unless implemented.
    fn server(&self, scheme: &str, arguments: &mut Arguments<'_>) -> Result<Server, Error> {
        let _ = arguments;
        Err(Error::new(ErrorKind::Unsupported, format!("{scheme} has no server side")))
    }
}

/// The way to connect.
pub trait Connect: Send + Sync + 'static {
    /// Connects, however often it is called.
    ///
    /// # Errors
    /// Why there is no connection.
    ///
    /// # Cancel safety
    /// The host drops the future to cancel: whatever was opened so far must be closed by that.
    fn connect(&self, context: ConnectContext) -> impl Future<Output = Result<Connection, Error>> + Send;

    /// Arguments whose final value only the plugin knows, and facts under other names, for people who ask what a
    /// description means.
    fn describe(&self) -> Facts {
        Facts::new()
    }
}

/// The way to listen.
pub trait Listen: Send + Sync + 'static {
    /// Starts to listen.
    ///
    /// # Errors
    /// Why it cannot.
    ///
    /// # Cancel safety
    /// The host drops the future to cancel: whatever was opened so far must be closed by that.
    fn listen(&self, context: ListenContext) -> impl Future<Output = Result<Listener, Error>> + Send;

    /// Arguments whose final value only the plugin knows, and facts under other names, for people who ask what a
    /// description means.
    fn describe(&self) -> Facts {
        Facts::new()
    }
}

/// What one attempt to connect is about.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ConnectContext {
    /// How much time the caller gives the attempt, where it sets a limit. The host enforces it.
    pub time_left: Option<Duration>,
    /// What is known about the connection that is being relayed, where one is.
    pub origin: Facts,
}

/// What one call of `listen` is about.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ListenContext {}

/// A client endpoint: one that a plugin makes, or a nested one that the host has made for it.
#[derive(Debug)]
pub struct Client(pub(crate) Foreign);

impl Client {
    /// An endpoint of the plugin's own.
    pub fn new(connect: impl Connect) -> Self {
        Self(foreign(ClientExport(connect)))
    }

    /// Connects.
    ///
    /// # Errors
    /// Why there is no connection.
    ///
    /// # Cancel safety
    /// Dropping the future cancels and leaves nothing open.
    pub async fn connect(&self, context: ConnectContext) -> Result<Connection, Error> {
        let origin = context.origin.into_bytes();
        let connecting = self.0.connect(context.time_left, &origin);
        Connection::from_taken(connecting.await?)
    }
}

/// A server endpoint: one that a plugin makes, or a nested one that the host has made for it.
#[derive(Debug)]
pub struct Server(pub(crate) Foreign);

impl Server {
    /// An endpoint of the plugin's own.
    pub fn new(listen: impl Listen) -> Self {
        Self(foreign(ServerExport(listen)))
    }

    /// Starts to listen.
    ///
    /// # Errors
    /// Why it cannot.
    ///
    /// # Cancel safety
    /// Dropping the future cancels and leaves nothing open.
    pub async fn listen(&self, _context: ListenContext) -> Result<Listener, Error> {
        Ok(Listener(self.0.listen().await?))
    }
}

fn foreign(endpoint: impl Export) -> Foreign {
    Foreign::of(Arc::new(endpoint))
}

struct ClientExport<C>(C);

impl<C: Connect> Export for ClientExport<C> {
    async fn connect(self: Arc<Self>, time_left: Option<Duration>, origin: Vec<u8>) -> Result<Taken, Error> {
        let context = ConnectContext { time_left, origin: Facts::from_bytes(origin) };
        self.0.connect(context).await.map(Connection::into_taken)
    }

    async fn listen(self: Arc<Self>) -> Result<ForeignListener, Error> {
        Err(Error::new(ErrorKind::Unsupported, "a client endpoint cannot listen"))
    }

    fn describe(&self) -> Vec<u8> {
        self.0.describe().into_bytes()
    }
}

struct ServerExport<L>(L);

impl<L: Listen> Export for ServerExport<L> {
    async fn connect(self: Arc<Self>, _: Option<Duration>, _: Vec<u8>) -> Result<Taken, Error> {
        Err(Error::new(ErrorKind::Unsupported, "a server endpoint cannot connect"))
    }

    async fn listen(self: Arc<Self>) -> Result<ForeignListener, Error> {
        Ok(self.0.listen(ListenContext {}).await?.0)
    }

    fn describe(&self) -> Vec<u8> {
        self.0.describe().into_bytes()
    }
}
