//! The client sides of `tls` and `ssl`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use endpoints_plugin_api::{
    Arguments, Client, Connect, ConnectContext, Connection, Error, ErrorKind, Facts, Host, LogLevel,
};
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{UnbufferedClientConnection, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;

use crate::advice;
use crate::certificate::Certificate;
use crate::describe::Description;
use crate::handshake;
use crate::hostname::Hostname;
use crate::identity::{Identity, Named, Source, trusted};
use crate::settings::{self, VERSIONS};
use crate::stream::TlsStream;

/// What a client is made of.
struct Parts {
    hostname: Hostname,
    /// None: what the system trusts.
    trust: Option<Vec<Certificate>>,
    identity: Option<Identity>,
    inner: Client,
    timeout: Duration,
}

/// Makes a client of `tls`.
pub(crate) fn tls(host: &Host, arguments: &mut Arguments<'_>) -> Result<Client, Error> {
    let provider = settings::provider(arguments)?;
    let hostname = Hostname::parse("host", arguments.text("host")?)?;
    let timeout = arguments.duration("timeout")?;
    let inner = match arguments.opt_client("endpoint")? {
        Some(inner) => {
            if arguments.is_given("bindAddress") {
                let ignored = "bindAddress has no effect beside endpoint; give it to the endpoint inside";
                host.log(LogLevel::Warn, ignored);
            }
            inner
        }
        None => host.client(tcp(arguments, Some(&hostname))?.text())?,
    };
    let identity = identity(arguments, ["certificate", "privateKey"])?;
    let trust = trust(arguments, "trustRoots")?;
    make(host, arguments, provider, Parts { hostname, trust, identity, inner, timeout })
}

/// Makes a client of `ssl`.
pub(crate) fn ssl(host: &Host, arguments: &mut Arguments<'_>) -> Result<Client, Error> {
    let provider = settings::provider(arguments)?;
    // Twisted verifies no name here unless there is a hostname, and trusts everybody without caCertsDir.
    let hostname = match arguments.opt_text("hostname")? {
        Some(hostname) => Hostname::parse("hostname", hostname)?,
        None => Hostname::parse("host", arguments.text("host")?)?,
    };
    let timeout = arguments.duration("timeout")?;
    let inner = host.client(tcp(arguments, None)?.text())?;
    let identity = identity(arguments, ["certKey", "privateKey"])?;
    let trust = trust(arguments, "caCertsDir")?;
    let inside = tcp(arguments, None)?;
    let advice =
        advice::for_client(|name| arguments.opt_bytes(name), |name| arguments.is_given(name), &inside);
    host.log(LogLevel::Warn, format_args!("what ssl says here, tls says so: {advice}"));
    make(host, arguments, provider, Parts { hostname, trust, identity, inner, timeout })
}

/// The description of the TCP connection below; a name in its ASCII form, where the resolver is asked for one. Records are sent
/// at once: else each waits until the one before it is acknowledged, up to 40 ms.
fn tcp(arguments: &Arguments<'_>, hostname: Option<&Hostname>) -> Result<Description, Error> {
    let mut tcp = Description::new("tcp");
    let host = arguments.text("host")?;
    tcp.add("host", hostname.filter(|_| !host.is_ascii()).map_or(host, |hostname| &hostname.ascii));
    tcp.add("port", arguments.bytes("port")?);
    tcp.add("timeout", arguments.bytes("timeout")?);
    if let Some(bind) = arguments.opt_bytes("bindAddress") {
        tcp.add("bindAddress", bind);
    }
    tcp.add("nodelay", "1");
    Ok(tcp)
}

fn identity(
    arguments: &Arguments<'_>,
    [certificate, key]: [&'static str; 2],
) -> Result<Option<Identity>, Error> {
    let Some(path) = arguments.opt_path(certificate) else { return Ok(None) };
    // Said of the argument that is given.
    let key = Named::new(if arguments.is_given(key) { key } else { certificate }, arguments.path(key)?);
    let certificate = Named::new(certificate, path);
    let source = Source::Pair { certificate, key, chain: None };
    // A client's key has nothing to do with the suites.
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    Ok(Some(source.load(&provider)?.first().clone()))
}

fn trust(arguments: &Arguments<'_>, argument: &'static str) -> Result<Option<Vec<Certificate>>, Error> {
    arguments.opt_path(argument).map(|path| trusted(&Named::new(argument, path))).transpose()
}

fn make(
    host: &Host,
    arguments: &Arguments<'_>,
    provider: Arc<CryptoProvider>,
    parts: Parts,
) -> Result<Client, Error> {
    let Parts { hostname, trust, identity, inner, timeout } = parts;
    let mut facts = Facts::new().with("verifies", &hostname.ascii);
    facts.push("sni", if hostname.is_address { "0" } else { "1" });
    let verifier: Arc<dyn ServerCertVerifier> = match &trust {
        None => {
            facts.push("trusts", "platform");
            platform(&provider)?
        }
        Some(certificates) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates {
                roots.add(certificate.der.clone()).map_err(|error| {
                    let message = format!("{:?} cannot be trusted: {error}", certificate.common_name);
                    Error::new(ErrorKind::InvalidArgument, message)
                })?;
                facts.push("trusts", &certificate.common_name);
            }
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| Error::new(ErrorKind::InvalidArgument, error.to_string()))?
        }
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(VERSIONS)
        .map_err(|error| unusable(&error))?
        .dangerous()
        // Dangerous would be one that does not verify.
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            facts.push("shows", &identity.certificate.common_name);
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.key)))
        }
    };
    config.alpn_protocols = settings::alpn(arguments)?;
    let config = Arc::new(config);
    Ok(Client::new(TlsClient { host: host.clone(), inner, config, hostname, timeout, facts }))
}

pub(crate) fn unusable(error: &rustls::Error) -> Error {
    Error::invalid_argument("ciphers", format!("ciphers: no connection could use them: {error}"))
}

/// What trusts the certificates that the system trusts. Reading them takes milliseconds, so it is done once.
fn platform(provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, Error> {
    static PLATFORM: OnceLock<Arc<Verifier>> = OnceLock::new();
    if let Some(verifier) = PLATFORM.get() {
        return Ok(Arc::<Verifier>::clone(verifier));
    }
    let verifier = Verifier::new(Arc::clone(provider)).map_err(|error| {
        let message = format!(
            "the certificates that the system trusts cannot be read: {error}; install ca-certificates, or name others with trustRoots"
        );
        Error::new(ErrorKind::NotFound, message)
    })?;
    Ok(Arc::<Verifier>::clone(PLATFORM.get_or_init(|| Arc::new(verifier))))
}

/// A way to connect.
struct TlsClient {
    host: Host,
    inner: Client,
    config: Arc<ClientConfig>,
    hostname: Hostname,
    /// For everything up to the end of the handshake.
    timeout: Duration,
    facts: Facts,
}

impl Connect for TlsClient {
    async fn connect(&self, context: ConnectContext) -> Result<Connection, Error> {
        let is_connected = AtomicBool::new(false);
        let connecting = async {
            let connection = self.inner.connect(context).await?;
            is_connected.store(true, Ordering::Relaxed);
            self.shake_hands(connection).await
        };
        self.host.timeout(self.timeout, connecting).await.unwrap_or_else(|_| {
            let stage = if is_connected.load(Ordering::Relaxed) {
                "the TLS handshake is not done"
            } else {
                "there is no connection yet"
            };
            let message = format!(
                "connecting to {} by TLS was not done within the timeout of {:?}: {stage}",
                self.hostname.ascii, self.timeout
            );
            Err(Error::new(ErrorKind::TimedOut, message))
        })
    }

    fn describe(&self) -> Facts {
        self.facts.clone()
    }
}

impl TlsClient {
    async fn shake_hands(&self, connection: Connection) -> Result<Connection, Error> {
        let mut facts = Facts::new();
        let name = self.hostname.server_name.clone();
        let connection = connection
            .try_map_stream(|stream| async {
                let side = UnbufferedClientConnection::new(Arc::clone(&self.config), name)
                    .map_err(std::io::Error::other)?;
                let stream = TlsStream::shake_hands(side, stream).await?;
                facts = handshake::facts(stream.state(), None);
                Ok::<_, std::io::Error>(stream)
            })
            .await
            .map_err(|error| handshake::failed(&self.hostname.ascii, &error))?;
        Ok(connection.with_facts(facts))
    }
}
