//! The server side of `tcp` and `tcp6`.

use endpoints_plugin_api::{Error, Facts, Host, Listen, ListenContext, Listener, Reachable};

use crate::interface::Interface;
use crate::options::Options;
use crate::socket;

/// A way to listen.
#[derive(Debug)]
pub(crate) struct TcpServer {
    pub(crate) host: Host,
    pub(crate) interface: Interface,
    pub(crate) port: u16,
    pub(crate) backlog: i32,
    pub(crate) options: Options,
}

impl Listen for TcpServer {
    async fn listen(&self, _context: ListenContext) -> Result<Listener, Error> {
        let address = self.interface.resolve(&self.host, self.port).await?;
        let socket = socket::listen(address, self.backlog, &self.options)?;
        let reachable = Reachable::of_socket(&socket);
        Ok(Listener::from_socket(socket, reachable, ()))
    }

    fn describe(&self) -> Facts {
        match &self.interface {
            // An empty interface stands for one of these.
            Interface::Address(ip) if ip.is_unspecified() => Facts::new().with("interface", ip.to_string()),
            _ => Facts::new(),
        }
    }
}
