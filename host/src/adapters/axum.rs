//! `axum::serve` on every server endpoint.

use std::future::pending;
use std::io;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener, TapIo};

use crate::address::Address;
use crate::connection::{Connection, ConnectionInfo};
use crate::listener::Established;

/// Connections that `axum::serve` serves. The address is the peer's, where a layer knows one.
///
/// When no more connections will come, as from `stdio` after its one, that is logged, and accepting waits for ever, since
/// there is no other answer in this trait: have the server stop by `with_graceful_shutdown`.
///
/// # Examples
///
/// ```no_run
/// use axum::serve::ListenerExt as _;
/// use endpoints::ConnectionInfo;
///
/// # async fn example(app: axum::Router) -> Result<(), Box<dyn std::error::Error>> {
/// let listener = endpoints::server("haproxy:unix:/run/app.sock")?.listen().await?;
/// let established = listener.into_established().tap_io(|connection| println!("{:?}", connection.info().layers()));
/// axum::serve(established, app.into_make_service_with_connect_info::<ConnectionInfo>()).await?;
/// # Ok(())
/// # }
/// ```
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

/// For `ConnectInfo<ConnectionInfo>`: the peer's address, and the facts of TLS and of a PROXY header. Which TLS that is,
/// [`ConnectionInfo::tls`] says: who authorises by certificates behind a scheme of others that tunnels asks the outermost
/// layer.
impl Connected<IncomingStream<'_, Established>> for ConnectionInfo {
    fn connect_info(stream: IncomingStream<'_, Established>) -> Self {
        stream.io().info()
    }
}

/// The same behind `ListenerExt::tap_io`.
impl<F> Connected<IncomingStream<'_, TapIo<Established, F>>> for ConnectionInfo
where
    F: FnMut(&mut Connection) + Send + 'static,
{
    fn connect_info(stream: IncomingStream<'_, TapIo<Established, F>>) -> Self {
        stream.io().info()
    }
}
