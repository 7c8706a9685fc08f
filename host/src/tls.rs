//! TLS around endpoints that there are: what the scheme `tls` does with `endpoint=`, without a description.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::builder::{ClientBuilder, ServerBuilder, Value};
use crate::endpoint::{ClientEndpoint, Endpoint, ServerEndpoint};
use crate::error::Error;

impl ClientEndpoint {
    /// TLS over the connections of this endpoint: the server must prove to be `host`, a name or an IP address.
    ///
    /// A connection is handed out once the handshake and the verification are done; whom the system trusts is trusted
    /// unless others are named. This is `tls:host=…:endpoint=…`, with this very endpoint inside.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), endpoints::Error> {
    /// let tunnel = endpoints::client("unix:/run/tunnel.sock")?;
    /// let client = tunnel.wrap_tls("db.example.com").trust_roots("/etc/ssl/ours.pem").build()?;
    /// let connection = client.connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn wrap_tls(&self, host: impl Into<String>) -> TlsClientBuilder {
        let builder = ClientBuilder::new(&self.0.registry, "tls")
            .argument("host", host.into())
            .argument("port", port(&self.0))
            .argument("endpoint", self);
        TlsClientBuilder(builder)
    }
}

impl ServerEndpoint {
    /// TLS over the connections that this endpoint accepts, with the certificates of a PEM file, or of a folder whose
    /// files that end in `.pem` are read; each is shown to whoever asks for one of its names.
    ///
    /// The handshake is done when an [`Incoming`](crate::Incoming) is awaited. Files are read anew when they change. This
    /// is `tls:path=…:endpoint=…`, with this very endpoint inside.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), endpoints::Error> {
    /// let socket = endpoints::server("systemd:INET6:name=https")?;
    /// let server = socket.wrap_tls("/etc/ssl/sites").alpn(["h2", "http/1.1"]).build()?;
    /// let listener = server.listen().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn wrap_tls(&self, certificates: impl Into<PathBuf>) -> TlsServerBuilder {
        let builder = ServerBuilder::new(&self.0.registry, "tls").argument("endpoint", self);
        TlsServerBuilder { builder, certificates: certificates.into(), private_key: None }
    }
}

/// The port that an endpoint connects to, for the sake of a description; TLS does not look at it.
fn port(endpoint: &Endpoint) -> Value {
    let argument = endpoint.arguments().into_iter().find(|argument| argument.parameter.name == "port");
    argument.map_or(443.into(), |port| Value::bytes(port.value.into_owned()))
}

/// Sets TLS around a client endpoint up; [`ClientEndpoint::wrap_tls`] begins one.
#[derive(Clone, Debug)]
#[must_use = "nothing is made until `build` is called"]
pub struct TlsClientBuilder(ClientBuilder);

impl TlsClientBuilder {
    /// Trusts the certificates of this PEM file, or of the files that end in `.pem` of this folder, and nobody else.
    pub fn trust_roots(self, path: impl AsRef<Path>) -> Self {
        self.with("trustRoots", path.as_ref())
    }

    /// Shows the server the first certificate of this PEM file, with those that follow it. The key is in the same file
    /// unless [`private_key`](Self::private_key) names another one.
    pub fn certificate(self, path: impl AsRef<Path>) -> Self {
        self.with("certificate", path.as_ref())
    }

    /// Where the key of the certificate is.
    pub fn private_key(self, path: impl AsRef<Path>) -> Self {
        self.with("privateKey", path.as_ref())
    }

    /// Offers these protocols by ALPN (RFC 7301), the preferred one first.
    pub fn alpn(self, protocols: impl IntoIterator<Item = impl Into<Value>>) -> Self {
        self.with("alpn", Value::from_iter(protocols))
    }

    /// Uses these cipher suites alone, the preferred one first, by their names in the registry of IANA.
    pub fn ciphers(self, names: impl IntoIterator<Item = impl Into<Value>>) -> Self {
        self.with("ciphers", Value::from_iter(names))
    }

    /// How long connecting and the handshake may take together; 30 seconds unless said otherwise.
    pub fn timeout(self, limit: Duration) -> Self {
        self.with("timeout", limit)
    }

    /// Makes the endpoint; files are read, nothing is opened.
    ///
    /// # Errors
    /// What cannot be read or does not belong together; or if nobody provides the scheme `tls`.
    pub fn build(self) -> Result<ClientEndpoint, Error> {
        self.0.build()
    }

    fn with(self, name: &str, value: impl Into<Value>) -> Self {
        Self(self.0.argument(name, value))
    }
}

/// Sets TLS around a server endpoint up; [`ServerEndpoint::wrap_tls`] begins one.
#[derive(Clone, Debug)]
#[must_use = "nothing is made until `build` is called"]
pub struct TlsServerBuilder {
    builder: ServerBuilder,
    certificates: PathBuf,
    private_key: Option<PathBuf>,
}

impl TlsServerBuilder {
    /// Where the key is of the one certificate that is shown then: the first of the file, with those that follow it.
    pub fn private_key(mut self, path: impl Into<PathBuf>) -> Self {
        self.private_key = Some(path.into());
        self
    }

    /// Chooses from these protocols by ALPN (RFC 7301), the preferred one first.
    pub fn alpn(self, protocols: impl IntoIterator<Item = impl Into<Value>>) -> Self {
        self.with("alpn", Value::from_iter(protocols))
    }

    /// Uses these cipher suites alone, the preferred one first, by their names in the registry of IANA.
    pub fn ciphers(self, names: impl IntoIterator<Item = impl Into<Value>>) -> Self {
        self.with("ciphers", Value::from_iter(names))
    }

    /// Wants a certificate of clients that one of this PEM file has signed, or of the files that end in `.pem` of this
    /// folder.
    pub fn client_ca(self, path: impl AsRef<Path>) -> Self {
        self.with("clientCA", path.as_ref())
    }

    /// Takes clients without a certificate too, beside [`client_ca`](Self::client_ca); one with a bad one is still
    /// refused.
    pub fn optional_client_certificate(self) -> Self {
        self.with("clientAuth", "optional")
    }

    /// How long a client may take for its handshake; 30 seconds unless said otherwise.
    pub fn timeout(self, limit: Duration) -> Self {
        self.with("timeout", limit)
    }

    /// Makes the endpoint; files are read, nothing is opened.
    ///
    /// # Errors
    /// What cannot be read or does not belong together; or if nobody provides the scheme `tls`.
    pub fn build(self) -> Result<ServerEndpoint, Error> {
        let Self { builder, certificates, private_key } = self;
        match private_key {
            Some(key) => builder.argument("certificate", certificates).argument("privateKey", key),
            None => builder.argument("path", certificates),
        }
        .build()
    }

    fn with(self, name: &str, value: impl Into<Value>) -> Self {
        Self { builder: self.builder.argument(name, value), ..self }
    }
}
