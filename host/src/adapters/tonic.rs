//! Servers of tonic: `serve_with_incoming` takes an [`Established`](crate::Established). For a channel, see
//! [`Connector`](super::hyper_util::Connector).

use tonic::transport::server::Connected;

use crate::connection::{Connection, ConnectionInfo};

/// Requests have the [`ConnectionInfo`] among their extensions.
impl Connected for Connection {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        self.info()
    }
}
