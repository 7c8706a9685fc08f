//! Connections by tokio-util's trait of listeners.

use std::io;
use std::task::{Context, Poll, ready};

use tokio_util::net::Listener;

use crate::address::Address;
use crate::connection::Connection;
use crate::listener::Established;

/// The connections, as [`Established::accept`] gives them, with the peer's address, where a layer knows one.
impl Listener for Established {
    type Io = Connection;
    type Addr = Option<Address>;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Connection, Option<Address>)>> {
        let connection = ready!(Self::poll_accept(self, cx))?;
        let peer = connection.info().peer_addr();
        Poll::Ready(Ok((connection, peer)))
    }

    fn local_addr(&self) -> io::Result<Option<Address>> {
        Ok(self.listener().addresses().first().cloned())
    }
}
