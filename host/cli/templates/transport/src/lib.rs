//! `{{name}}:`: Unix sockets in the abstract namespace of Linux, to begin with.
//!
//! What the scheme accepts is declared in `plugin.json`. To make something else of it, change the
//! parameters there, [`Address`], and what `connect` and `listen` do.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

use endpoints_plugin_api::{
    Arguments, Client, Connect, ConnectContext, Connection, Error, Host, Listen, ListenContext,
    Listener, Plugin, Reachable, Server,
};

const SCHEME: &str = "{{name}}";

/// The plugin. It keeps the host's services for its endpoints.
#[derive(Debug)]
pub struct Transport {
    host: Host,
}

impl Plugin for Transport {
    fn new(host: Host) -> Result<Self, Error> {
        Ok(Self { host })
    }

    // Making an endpoint opens nothing: users learn what is wrong with a description before
    // anything happens.
    fn client(&self, _scheme: &str, arguments: &mut Arguments<'_>) -> Result<Client, Error> {
        Ok(Client::new(TransportClient {
            host: self.host.clone(),
            address: Address::new(arguments.text("name")?)?,
            timeout: arguments.duration("timeout")?,
        }))
    }

    fn server(&self, _scheme: &str, arguments: &mut Arguments<'_>) -> Result<Server, Error> {
        let address = Address::new(arguments.text("name")?)?;
        Ok(Server::new(TransportServer { address }))
    }
}

/// Where to connect to, or to listen.
struct Address {
    name: String,
    socket: SocketAddr,
}

impl Address {
    fn new(name: &str) -> Result<Self, Error> {
        // The manifest says that the name is text and required. What else must hold is checked
        // here.
        let socket = SocketAddr::from_abstract_name(format!("{SCHEME}/{name}"))
            .map_err(|error| Error::invalid_argument("name", format!("name: {error}")))?;
        Ok(Self {
            name: name.to_owned(),
            socket,
        })
    }
}

struct TransportClient {
    host: Host,
    address: Address,
    timeout: Duration,
}

impl Connect for TransportClient {
    async fn connect(&self, _context: ConnectContext) -> Result<Connection, Error> {
        let socket = self.address.socket.clone();
        let connect = move || UnixStream::connect_addr(&socket);
        // This blocks while the server is busy, so it is done on a thread where that is allowed.
        let connecting = self.host.blocking(connect);
        let connected = self.host.timeout(self.timeout, connecting).await??;
        let connected = connected.map_err(|error| {
            let name = &self.address.name;
            Error::from_io(format_args!("cannot connect to {SCHEME}:{name}"), &error)
        })?;
        // From here on the host serves the socket by itself, with nothing of the plugin in
        // between.
        self.host.adopt(connected)
    }
}

struct TransportServer {
    address: Address,
}

impl Listen for TransportServer {
    async fn listen(&self, _context: ListenContext) -> Result<Listener, Error> {
        let name = &self.address.name;
        let socket = UnixListener::bind_addr(&self.address.socket).map_err(|error| {
            Error::from_io(format_args!("cannot listen on {SCHEME}:{name}"), &error)
        })?;
        // How a client reaches this listener: it is printed, and tests connect by it.
        let reachable = Reachable::new(SCHEME).with("name", name);
        // The host accepts from the socket by itself. The last argument is dropped when listening
        // has ended: a place for what must be cleaned up then.
        Ok(Listener::from_socket(socket, vec![reachable], ()))
    }
}

endpoints_plugin_api::export!(Transport, "plugin.json");
