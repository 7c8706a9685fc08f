//! Clients of hyper-util, and channels of tonic, that connect through an endpoint.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use http::uri::Scheme;
use hyper_util::client::legacy::connect::{Connected, Connection as Describe};
use hyper_util::rt::TokioIo;
use tower_service::Service;

use crate::connection::{Connection, ConnectionInfo, Layer, TlsFacts};
use crate::endpoint::ClientEndpoint;
use crate::error::{Error, ErrorKind};
use crate::service::BoxFuture;

/// Connects for `hyper_util::client::legacy::Client`, and for `Endpoint::connect_with_connector` of tonic.
///
/// What a URI says about the host is for the request's headers; where the connection goes, the endpoint says. A URI with
/// `https` wants a connection that this process encrypts all the way: one without TLS is refused, and nothing is sent over
/// it. TLS is the endpoint's, as in `tls:example.com:443:alpn=h2,http/1.1`; where ALPN settles on `h2`, that is what is
/// spoken.
///
/// TLS has to be the outermost layer of the connection. Further in, as that of a proxy with `socks5:` around it, it ends
/// before the target: it does not do for `https`, and its ALPN is not the target's. Write `tls:` around the proxy's
/// endpoint. A PROXY header around TLS (`haproxy:tls:…`) stands beneath it in truth, and takes nothing from it.
///
/// Responses have the [`ConnectionInfo`] among their extensions.
///
/// # Examples
///
/// ```
/// use endpoints::adapters::hyper_util::Connector;
///
/// // Everything goes to one server.
/// let to_app = Connector::new(endpoints::client("unix:/run/app.sock")?);
///
/// // Everything goes where its URI says, through a SOCKS proxy.
/// let through_proxy = Connector::by_uri(|uri| {
///     let proxy = endpoints::client("tcp:127.0.0.1:1080")?;
///     let client = endpoints::ClientEndpoint::builder("socks5").argument("host", uri.host().unwrap_or_default());
///     client.argument("port", uri.port_u16().unwrap_or(80)).argument("proxy", proxy).build()
/// });
/// # Ok::<(), endpoints::Error>(())
/// ```
#[derive(Clone)]
pub struct Connector(Arc<Choose>);

type Choose = dyn Fn(&Uri) -> Result<ClientEndpoint, Error> + Send + Sync;

impl Connector {
    /// Connects by `endpoint`, whatever the URI says.
    #[must_use]
    pub fn new(endpoint: ClientEndpoint) -> Self {
        Self::by_uri(move |_| Ok(endpoint.clone()))
    }

    /// Connects by the endpoint that `choose` makes of the URI. It is called for each connection, not for each request.
    #[must_use]
    pub fn by_uri(choose: impl Fn(&Uri) -> Result<ClientEndpoint, Error> + Send + Sync + 'static) -> Self {
        Self(Arc::new(choose))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Connection>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<TokioIo<Connection>, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let endpoint = (self.0)(&uri);
        Box::pin(async move {
            let endpoint = endpoint?;
            let connection = endpoint.connect().await?;
            if uri.scheme() == Some(&Scheme::HTTPS) && tls_to_peer(&connection.info()).is_none() {
                let message = format!(
                    "a URI with https wants TLS with the target itself, and {} has none; put tls: around it, or write http",
                    endpoint.scheme()
                );
                return Err(Error::new(ErrorKind::InvalidArgument, message).with_scheme(endpoint.scheme()));
            }
            Ok(TokioIo::new(connection))
        })
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

/// What is known of TLS that ends where the connection does.
///
/// Whether a scheme speaks with somebody beyond those inside it, its layer does not tell, so that nothing may stand outside.
/// Preambles do not: the host puts them beneath what encrypts.
fn tls_to_peer(info: &ConnectionInfo) -> Option<TlsFacts<'_>> {
    info.layers().first().and_then(Layer::tls)
}

impl Describe for Connection {
    fn connected(&self) -> Connected {
        let info = self.info();
        let connected = Connected::new();
        let connected = match tls_to_peer(&info) {
            Some(tls) if tls.alpn == Some(b"h2") => connected.negotiated_h2(),
            _ => connected,
        };
        connected.extra(info)
    }
}

#[cfg(test)]
mod tests {
    use endpoints_plugin_api::abi::bytes::RBytes;
    use endpoints_plugin_api::abi::conn::{Body, Taken};
    use endpoints_plugin_api::{Facts, name};

    use super::*;

    /// A connection with those layers, outermost first; TLS settled on HTTP/2.
    fn layered(schemes: &[&str]) -> Connection {
        let (near, _far) = std::os::unix::net::UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let told = |scheme: &str| match scheme {
            "tls" => Facts::new().with(name::TLS_VERSION, "TLSv1.3").with(name::TLS_ALPN, "h2"),
            _ => Facts::new(),
        };
        let mut facts = told(schemes[0]);
        for scheme in &schemes[1..] {
            facts.push(name::LAYER, scheme);
            facts.append(&told(scheme));
        }
        let taken =
            Taken { body: Body::Fd(near.into()), facts: facts.into_bytes().into(), leftover: RBytes::EMPTY };
        Connection::from_taken(taken, &schemes[0].into()).unwrap()
    }

    #[tokio::test]
    async fn http2_with_a_proxy_is_not_http2_with_the_target() {
        for (schemes, is_h2) in [
            (&["tls", "tcp"][..], true),
            (&["tls", "haproxy", "tcp"], true),
            (&["tls", "socks5", "tls", "tcp"], true),
            (&["socks5", "tls", "tcp"], false),
            (&["haproxy", "socks5", "tls", "tcp"], false),
            (&["tcp"], false),
        ] {
            let connection = layered(schemes);
            let told: Vec<String> =
                connection.info().layers().iter().map(|layer| layer.scheme().to_owned()).collect();
            assert_eq!(told, schemes);
            assert_eq!(connection.connected().is_negotiated_h2(), is_h2, "{schemes:?}");
        }
    }
}
