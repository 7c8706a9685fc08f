//! `axum::serve` on every server endpoint.

use std::future::pending;
use std::io;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};

use crate::address::Address;
use crate::connection::{Connection, ConnectionInfo};
use crate::listener::Established;

/// Connections that `axum::serve` serves. The address is the peer's, where a layer knows one.
///
/// When no more connections will come, as from `stdio` after its one, that is logged, and accepting waits for ever, since
/// there is no other answer in this trait: have the server stop by `with_graceful_shutdown`.
impl Listener for Established {
    type Io = Connection;
    type Addr = Option<Address>;

    async fn accept(&mut self) -> (Connection, Option<Address>) {
        match Self::accept(self).await {
            Ok(connection) => {
                let peer = connection.info().peer_addr();
                (connection, peer)
            }
            Err(error) => {
                tracing::warn!(%error, "no more connections are accepted");
                pending().await
            }
        }
    }

    fn local_addr(&self) -> io::Result<Option<Address>> {
        Ok(self.listener().addresses().first().cloned())
    }
}

/// For `ConnectInfo<ConnectionInfo>`: the peer's address, and the facts of TLS and of a PROXY header.
impl Connected<IncomingStream<'_, Established>> for ConnectionInfo {
    fn connect_info(stream: IncomingStream<'_, Established>) -> Self {
        stream.io().info()
    }
}
