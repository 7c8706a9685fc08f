//! Spans for logs and traces of connections.

use tracing::field::{Empty, display};

use super::{ConnectionInfo, Layer};
use crate::address::Address;
use crate::endpoint::RoleKind;

impl ConnectionInfo {
    /// A span for what is done with the connection, of the level info and called `connection`, with the names of
    /// OpenTelemetry's semantic conventions for its fields; `role` says which side this process is.
    ///
    /// - `network.transport` (`tcp` or `unix`) and, for IP, `network.type` (`ipv4` or `ipv6`)
    /// - `network.peer.address`, `network.peer.port`, `network.local.address`, `network.local.port`: those of the socket, so
    ///   behind a proxy the proxy's
    /// - `client.address`, `client.port` of a server's connection: the peer that the outermost layer tells, so behind a proxy
    ///   that speaks the PROXY protocol its client
    /// - `server.address`, `server.port`: of a client's connection where it goes to, of a server's the name that the client
    ///   asked for (SNI)
    /// - `tls.protocol.name`, `tls.protocol.version` (`1.3`), `tls.cipher`, `tls.next_protocol`, `tls.resumed`
    /// - `endpoints.layers`, which is no name of theirs: the schemes, outermost first
    ///
    /// A field about which nothing is known is empty.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(incoming: endpoints::Incoming) -> Result<(), endpoints::Error> {
    /// use endpoints::RoleKind;
    /// use tracing::Instrument as _;
    ///
    /// let connection = incoming.await?;
    /// let span = connection.info().span(RoleKind::Server);
    /// async move { tracing::info!("served"); drop(connection) }.instrument(span).await;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn span(&self, role: RoleKind) -> tracing::Span {
        let span = tracing::info_span!(
            "connection",
            endpoints.layers = Empty,
            network.transport = Empty,
            network.type = Empty,
            network.peer.address = Empty,
            network.peer.port = Empty,
            network.local.address = Empty,
            network.local.port = Empty,
            client.address = Empty,
            client.port = Empty,
            server.address = Empty,
            server.port = Empty,
            tls.protocol.name = Empty,
            tls.protocol.version = Empty,
            tls.cipher = Empty,
            tls.next_protocol = Empty,
            tls.resumed = Empty,
        );
        if span.is_disabled() {
            return span;
        }
        let schemes: Vec<&str> = self.layers().iter().map(Layer::scheme).collect();
        span.record("endpoints.layers", schemes.join(","));
        let socket = self.layers().last();
        let socket_peer = socket.and_then(Layer::peer_addr);
        let socket_local = socket.and_then(Layer::local_addr);
        if let Some((transport, kind)) = socket_local.as_ref().or(socket_peer.as_ref()).and_then(transport) {
            span.record("network.transport", transport);
            if let Some(kind) = kind {
                span.record("network.type", kind);
            }
        }
        record(&span, ["network.peer.address", "network.peer.port"], socket_peer.as_ref());
        record(&span, ["network.local.address", "network.local.port"], socket_local.as_ref());
        let server = ["server.address", "server.port"];
        match role {
            RoleKind::Client => record(&span, server, self.peer_addr().as_ref()),
            RoleKind::Server => record(&span, ["client.address", "client.port"], self.peer_addr().as_ref()),
        }
        if let Some(tls) = self.tls() {
            span.record("tls.protocol.name", "tls");
            span.record("tls.protocol.version", tls.version.trim_start_matches("TLSv"));
            span.record("tls.resumed", tls.resumed);
            if let Some(cipher) = tls.cipher {
                span.record("tls.cipher", cipher);
            }
            if let Some(alpn) = tls.alpn {
                span.record("tls.next_protocol", &*String::from_utf8_lossy(alpn));
            }
            if let Some(name) = tls.sni.filter(|_| role == RoleKind::Server) {
                span.record("server.address", name);
            }
        }
        span
    }
}

/// The values of `network.transport` and `network.type`.
fn transport(address: &Address) -> Option<(&'static str, Option<&'static str>)> {
    match address {
        Address::Ip(ip) => Some(("tcp", Some(if ip.is_ipv4() { "ipv4" } else { "ipv6" }))),
        Address::UnixPath(_) | Address::UnixAbstract(_) | Address::UnixUnnamed => Some(("unix", None)),
        Address::Name(_) => None,
    }
}

fn record(span: &tracing::Span, [address_field, port_field]: [&'static str; 2], address: Option<&Address>) {
    let Some(address) = address else { return };
    match address {
        Address::Ip(ip) => span.record(address_field, display(ip.ip())),
        Address::Name(name) => {
            let host = address.port().and_then(|_| name.rsplit_once(':')).map_or(&**name, |(host, _)| host);
            span.record(address_field, host)
        }
        // It says nothing.
        Address::UnixUnnamed => return,
        _ => span.record(address_field, display(address)),
    };
    if let Some(port) = address.port() {
        span.record(port_field, port);
    }
}
