//! The server sides of `tls` and `ssl`.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use endpoints_plugin_api::{
    Argument, Arguments, Connection, Error, ErrorKind, Facts, Host, Listen, ListenContext, Listener,
    LogLevel, Reachable, Server, name,
};
use rustls::crypto::CryptoProvider;
use rustls::server::{UnbufferedServerConnection, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use crate::advice;
use crate::client::unusable;
use crate::describe::Description;
use crate::dh;
use crate::handshake;
use crate::identity::{Identities, Named, Source, trusted};
use crate::reload::{Reloading, with_asked};
use crate::settings::{self, VERSIONS, Versions};
use crate::stream::TlsStream;
use crate::tickets::{self, Limited};

/// Makes a server of `tls`.
pub(crate) fn tls(host: &Host, arguments: &mut Arguments<'_>) -> Result<Server, Error> {
    let source = match arguments.opt_path("path") {
        Some(path) => Source::Place(Named::new("path", path)),
        None => Source::Pair {
            certificate: named(arguments, "certificate", "certificate")?,
            key: named(arguments, "privateKey", "certificate")?,
            chain: None,
        },
    };
    let made =
        Made::new(host, arguments, source, VERSIONS).map_err(|error| port_for_path(error, arguments))?;
    let mut facts = Facts::new();
    for (name, identity) in made.identities.names() {
        let chain: String = identity.chain.iter().map(|issuer| format!(" < {issuer}")).collect();
        facts.push("serves", format!("{name}={}{chain}", identity.certificate.common_name));
    }
    facts.push("expires", made.identities.expires());
    let inner = match arguments.opt_server("endpoint")? {
        Some(inner) => inner,
        None => host.server(tcp(arguments)?.text())?,
    };
    Ok(made.into_server(host, inner, facts, arguments.duration("timeout")?))
}

/// Makes a server of `ssl`.
pub(crate) fn ssl(host: &Host, arguments: &mut Arguments<'_>) -> Result<Server, Error> {
    let versions = match arguments.opt_text("sslmethod")? {
        Some(method) => settings::versions_of_method(method)?,
        None => VERSIONS,
    };
    let source = Source::Pair {
        certificate: named(arguments, "certKey", "privateKey")?,
        key: named(arguments, "privateKey", "privateKey")?,
        chain: arguments.opt_path("extraCertChain").map(|path| Named::new("extraCertChain", path)),
    };
    let made = Made::new(host, arguments, source, versions)?;
    let identity = made.identities.first();
    let mut facts = Facts::new()
        .with("shows", &identity.certificate.common_name)
        .with("key", &identity.certificate.key_kind);
    for issuer in &identity.chain {
        facts.push("chain", issuer);
    }
    facts.push("versions", settings::shown(versions));
    facts.push("expires", made.identities.expires());
    if let Some(path) = arguments.opt_path("dhParameters") {
        dh::check_file("dhParameters", path)?;
        host.log(
            LogLevel::Warn,
            "dhParameters has no effect: keys are exchanged by elliptic curves, or together with ML-KEM, and never by finite-field Diffie-Hellman",
        );
    }
    let advice =
        advice::for_server(|name| arguments.opt_bytes(name), |name| arguments.is_given(name), versions);
    host.log(LogLevel::Warn, format_args!("what ssl says here, tls says so: {advice}"));
    let inner = host.server(tcp(arguments)?.text())?;
    Ok(made.into_server(host, inner, facts, arguments.duration("timeout")?))
}

/// Tells whoever has written a port alone, as for `tcp`, what comes before it.
fn port_for_path(error: Error, arguments: &Arguments<'_>) -> Error {
    let path = arguments.opt_bytes("path").unwrap_or_default();
    let is_missing = error.kind() == ErrorKind::NotFound && error.argument() == Some("path");
    if !is_missing || path.is_empty() || !path.iter().all(u8::is_ascii_digit) {
        return error;
    }
    let message = format!(
        "{error}; the certificates come before the port, as in tls:/etc/ssl/sites:{}",
        path.escape_ascii()
    );
    error.with_message(message)
}

/// The path of `argument`, which is spoken of as that of `source`, whose value it has where it is not given.
fn named(arguments: &Arguments<'_>, argument: &'static str, source: &'static str) -> Result<Named, Error> {
    let spoken_of = if arguments.is_given(argument) { argument } else { source };
    Ok(Named::new(spoken_of, arguments.path(argument)?))
}

/// The description of the TCP listener below. `tcp6` is for IPv6 addresses, and takes IPv4 as well on `::`.
fn tcp(arguments: &Arguments<'_>) -> Result<Description, Error> {
    let interface = arguments.text("interface")?;
    let six = interface.contains(':') && interface.parse::<Ipv4Addr>().is_err();
    let mut tcp = Description::new(if six { "tcp6" } else { "tcp" });
    tcp.add("port", arguments.bytes("port")?);
    tcp.add("interface", interface);
    tcp.add("backlog", arguments.bytes("backlog")?);
    // Else a record waits until the one before it is acknowledged, 40 ms later: the end of TLS behind the last bytes.
    tcp.add("nodelay", "1");
    Ok(tcp)
}

/// A configuration and the identities in it.
struct Made {
    config: ServerConfig,
    /// Whether certificates of clients are verified.
    verifies: bool,
    reloading: Arc<Reloading>,
    identities: Arc<Identities>,
}

impl Made {
    fn new(
        host: &Host,
        arguments: &Arguments<'_>,
        source: Source,
        versions: Versions,
    ) -> Result<Self, Error> {
        let provider = settings::provider_for(arguments, versions)?;
        // Before reading, so that what changes meanwhile is noticed.
        let stamp = source.stamp();
        let identities = Arc::new(source.load(&provider)?);
        for (level, remark) in identities.remarks() {
            host.log(level, remark);
        }
        let reloading =
            Arc::new(Reloading::new(source, Arc::clone(&provider), stamp, Arc::clone(&identities)));
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|error| unusable(&error))?;
        let mut config = match arguments.opt_path("clientCA") {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let is_required = arguments.opt_text("clientAuth")? != Some("optional");
                let verifier = client_verifier(&Named::new("clientCA", path), provider, is_required)?;
                builder.with_client_cert_verifier(verifier)
            }
        }
        .with_cert_resolver(Arc::<Reloading>::clone(&reloading));
        config.alpn_protocols = settings::alpn(arguments)?;
        // What it costs is this side's concern too, as it is in Twisted.
        config.ignore_client_order = true;
        let verifies = arguments.is_given("clientCA");
        tickets::resume_sessions(&mut config, verifies)
            .map_err(|error| Error::new(ErrorKind::Internal, format!("no keys for tickets: {error}")))?;
        Ok(Self { config, verifies, reloading, identities })
    }

    fn into_server(self, host: &Host, inner: Server, facts: Facts, timeout: Duration) -> Server {
        let Self { config, verifies, reloading, identities } = self;
        let terms = Arc::new(Terms { config: Arc::new(config), verifies, reloading, timeout });
        let handshake_host = host.clone();
        let handshake = move |connection| accept(handshake_host.clone(), connection, Arc::clone(&terms));
        let name = known_as(&identities);
        let reachable = move |inner| reachable(&name, inner);
        Server::new(TlsServer { inner: Server::wrap_reachable(inner, handshake, reachable), facts })
    }
}

/// A way to listen that tells about its certificates.
struct TlsServer {
    inner: Server,
    facts: Facts,
}

impl Listen for TlsServer {
    async fn listen(&self, context: ListenContext) -> Result<Listener, Error> {
        self.inner.listen(context).await
    }

    fn describe(&self) -> Facts {
        self.facts.clone()
    }
}

fn client_verifier(
    place: &Named,
    provider: Arc<CryptoProvider>,
    is_required: bool,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, Error> {
    let refused = |problem: &dyn std::fmt::Display| {
        Error::invalid_argument(place.argument, format!("{}: {problem}", place.argument))
    };
    let mut roots = RootCertStore::empty();
    for certificate in trusted(place)? {
        roots.add(certificate.der).map_err(|error| refused(&error))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if is_required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| refused(&error))
}

/// What handshakes have in common.
struct Terms {
    config: Arc<ServerConfig>,
    /// Whether certificates of clients are verified.
    verifies: bool,
    reloading: Arc<Reloading>,
    timeout: Duration,
}

impl Terms {
    /// The configuration for one handshake.
    fn config(&self) -> Arc<ServerConfig> {
        let mut config = Arc::clone(&self.config);
        if self.verifies {
            let own = Arc::make_mut(&mut config);
            own.ticketer = Arc::new(Limited::new(Arc::clone(&self.config.ticketer)));
        }
        config
    }
}

async fn accept(host: Host, mut connection: Connection, terms: Arc<Terms>) -> Result<Connection, Error> {
    // Asked now for the words of an error: the stream is about to be moved.
    let known = connection.facts();
    let shaking = async {
        terms.reloading.look(&host).await;
        let mut facts = Facts::new();
        let connection = connection
            .try_map_stream(|stream| async {
                let side = UnbufferedServerConnection::new(terms.config()).map_err(std::io::Error::other)?;
                let (stream, asked) = with_asked(TlsStream::shake_hands(side, stream)).await;
                let stream = stream?;
                facts = handshake::facts(stream.state(), asked.as_deref());
                Ok::<_, std::io::Error>(stream)
            })
            .await
            .map_err(|error| handshake::failed_accepting(&peer(&known), &error))?;
        Ok(connection.with_facts(facts))
    };
    host.timeout(terms.timeout, shaking).await.unwrap_or_else(|_| {
        let peer = peer(&known);
        let message =
            format!("the TLS handshake with {peer} was not done within the timeout of {:?}", terms.timeout);
        Err(Error::new(ErrorKind::TimedOut, message))
    })
}

fn peer(facts: &Facts) -> String {
    let known = [name::PEER_IP, name::PEER_NAME, name::PEER_UNIX].iter().find_map(|name| facts.get(name));
    match known {
        Some(peer) if !peer.is_empty() => String::from_utf8_lossy(peer).into_owned(),
        _ => "the client".to_owned(),
    }
}

/// The name by which a client may know the server: the first one of its first certificate, or an address.
fn known_as(identities: &Identities) -> String {
    let certificate = &identities.first().certificate;
    let name = certificate.dns_names.first().map(|name| match name.strip_prefix('*') {
        Some(rest) => format!("www{rest}"),
        None => name.clone(),
    });
    let address = || certificate.addresses.first().map(ToString::to_string);
    name.or_else(address).unwrap_or_else(|| "localhost".to_owned())
}

fn reachable(name: &str, inner: Reachable) -> Reachable {
    let port = inner.arguments.iter().find_map(|(name, value)| match value {
        Argument::Value(port) if name == "port" => Some(port.clone()),
        _ => None,
    });
    Reachable::new("tls")
        .with("host", name)
        .with("port", port.unwrap_or_else(|| b"443".to_vec()))
        .with_nested("endpoint", inner)
}
