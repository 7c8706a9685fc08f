//! Servers of tonic: `serve_with_incoming` takes an [`Established`](crate::Established). For a channel, see
//! [`Connector`](super::hyper_util::Connector).

use tonic::transport::server::Connected;

use crate::connection::{Connection, ConnectionInfo};

/// Requests have the [`ConnectionInfo`] among their extensions. Which TLS it tells of, [`ConnectionInfo::tls`] says: who
/// authorises by certificates behind a scheme of others that tunnels asks the outermost layer.
impl Connected for Connection {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        self.info()
    }
}
