//! TLS beside raw tokio-rustls, with the same settings.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use endpoints::{ClientEndpoint, Connection, Listener, Registry};
use endpoints_tests::make_certificates;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::Plugins;
use crate::measure::{Table, thread_cpu};

/// How to connect and accept.
enum Way {
    Raw { listener: TcpListener, acceptor: TlsAcceptor, connector: TlsConnector },
    Ours { listener: Listener, client: ClientEndpoint },
}

type RawEnds = (tokio_rustls::client::TlsStream<TcpStream>, tokio_rustls::server::TlsStream<TcpStream>);

enum Ends {
    Raw(Box<RawEnds>),
    Ours(Box<(Connection, Connection)>),
}

impl Way {
    fn raw(runtime: &Runtime, pki: &TempDir) -> Self {
        let file = |name: &str| fs::read(pki.path().join("pki").join(name)).expect(name);
        let certificate = CertificateDer::from_pem_slice(&file("server.crt")).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(&file("server.key")).expect("a key");
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&file("ca.crt")).expect("a root")).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a pair");
        server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().expect("keys");
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        Self::Raw {
            listener,
            acceptor: TlsAcceptor::from(Arc::new(server)),
            connector: TlsConnector::from(Arc::new(client)),
        }
    }

    fn ours(runtime: &Runtime, registry: &Registry, pki: &TempDir) -> Self {
        let path = |name: &str| {
            endpoints::quote_str(pki.path().join("pki").join(name).to_str().expect("UTF-8")).into_owned()
        };
        let server = format!("tls:{}:0:interface=127.0.0.1", path("server.pem"));
        let server = registry.server(&server).unwrap_or_else(|error| panic!("{server}: {error}"));
        let listener = runtime.block_on(server.listen()).expect("a port");
        let client = format!("{}:trustRoots={}", listener.reachable()[0], path("trust"));
        let client = registry.client(&client).unwrap_or_else(|error| panic!("{client}: {error}"));
        Self::Ours { listener, client }
    }

    /// Connects, accepts and shakes hands so many times at once, each side in a task of its own and within the same time
    /// limit, as programs do it; closes when all are done.
    async fn crowd(&self, count: u32) {
        match self {
            Self::Raw { listener, acceptor, connector } => {
                let (mut clients, mut servers) = (JoinSet::new(), JoinSet::new());
                let address = listener.local_addr().expect("an address");
                for _ in 0..count {
                    let connector = connector.clone();
                    clients.spawn(timeout(LIMIT, async move {
                        let stream = TcpStream::connect(address).await.expect("connect");
                        let name = ServerName::try_from("localhost").expect("a name");
                        connector.connect(name, stream).await.expect("a handshake")
                    }));
                }
                for _ in 0..count {
                    let (stream, _) = listener.accept().await.expect("accept");
                    let acceptor = acceptor.clone();
                    servers.spawn(timeout(LIMIT, async move {
                        acceptor.accept(stream).await.expect("a handshake")
                    }));
                }
                let servers = servers.join_all().await;
                drop(clients.join_all().await);
                drop(servers);
            }
            Self::Ours { listener, client } => {
                let (mut clients, mut servers) = (JoinSet::new(), JoinSet::new());
                for _ in 0..count {
                    let client = client.clone();
                    clients.spawn(async move { client.connect().await.expect("connect") });
                }
                for _ in 0..count {
                    let incoming = listener.accept().await.expect("accept");
                    servers.spawn(async move { incoming.await.expect("a handshake") });
                }
                let servers = servers.join_all().await;
                drop(clients.join_all().await);
                drop(servers);
            }
        }
    }

    /// Connects, accepts, and shakes hands.
    async fn pair(&self) -> Ends {
        match self {
            Self::Raw { listener, acceptor, connector } => {
                let address = listener.local_addr().expect("an address");
                let name = ServerName::try_from("localhost").expect("a name");
                let connecting = async {
                    let stream = TcpStream::connect(address).await.expect("connect");
                    connector.connect(name, stream).await.expect("a handshake")
                };
                let accepting = async {
                    let (stream, _) = listener.accept().await.expect("accept");
                    acceptor.accept(stream).await.expect("a handshake")
                };
                let (client, server) = tokio::join!(connecting, accepting);
                Ends::Raw(Box::new((client, server)))
            }
            Self::Ours { listener, client } => {
                let accepting = async { listener.accept().await?.await };
                let (client, server) = tokio::join!(client.connect(), accepting);
                Ends::Ours(Box::new((client.expect("connect"), server.expect("a handshake"))))
            }
        }
    }
}

/// What `tls` takes unless told otherwise.
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn run(quick: bool, plugins: &Plugins) {
    let pki = tempfile::tempdir().expect("a folder");
    if let Err(problem) = make_certificates(&pki.path().join("pki")) {
        println!("\nTLS: not measured: {problem}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (built_in, loaded) = (plugins.built_in(), plugins.loaded());
    let raw = || Arc::new(Way::raw(&runtime, &pki));
    let ours = |registry| Arc::new(Way::ours(&runtime, registry, &pki));
    let mut ways: [_; VARIANTS] = [
        ("raw tokio-rustls".to_owned(), raw()),
        ("raw again (the noise)".to_owned(), raw()),
        ("tls, built in".to_owned(), ours(&built_in)),
        ("tls, from a .so".to_owned(), ours(&loaded)),
    ];
    let (rounds, count) = if quick { (3, 32) } else { (81, 96) };
    // Alone, and as under load.
    for at_a_time in [1, 32] {
        let title = format!(
            "full handshakes with connecting and closing, {at_a_time} at a time, CPU of both (target 1/0.97)"
        );
        let table = Table::measure(&title, "µs", rounds, &mut ways, |way| {
            let begun = thread_cpu();
            runtime.block_on(handshakes(way, count, at_a_time));
            (thread_cpu() - begun).as_secs_f64() * 1e6 / f64::from(count)
        });
        table.print(&[None, None, Some(1.03), Some(1.03)]);
    }

    let count = if quick { 50 } else { 1000 };
    let title = "16 KiB through TLS, CPU of both (target 1/0.97)";
    let mut begun = 0;
    let table = Table::measure(title, "µs", rounds, &mut ways, |way| {
        // With `rep movsb`, what copying costs depends on how far apart in their pages the two places are, by more than what
        // is measured here: so every round has new streams and other places, the same ones for every variant.
        let shift = begun / VARIANTS * 208 % 4096;
        begun += 1;
        runtime.block_on(async {
            match way.pair().await {
                Ends::Raw(mut ends) => bulk(&mut ends.0, &mut ends.1, count, shift).await,
                Ends::Ours(mut ends) => bulk(&mut ends.0, &mut ends.1, count, shift).await,
            }
        })
    });
    table.print(&[None, None, Some(1.03), Some(1.03)]);
}

/// In a task: waking the future that a runtime blocks on costs a system call each time.
async fn handshakes(way: &Arc<Way>, count: u32, at_a_time: u32) {
    let way = Arc::clone(way);
    let all = async move {
        for _ in 0..count / at_a_time {
            way.crowd(at_a_time).await;
        }
    };
    tokio::spawn(all).await.expect("a task");
}

/// How many variants there are.
const VARIANTS: usize = 4;

/// Microseconds for each 16 KiB; what is sent and received lies `shift` bytes further on in its memory than it would.
async fn bulk<C: AsyncWrite + Unpin, S: AsyncRead + Unpin>(
    client: &mut C,
    server: &mut S,
    count: u32,
    shift: usize,
) -> f64 {
    let sent = &vec![7; shift + 16 * 1024][shift..];
    let received = &mut vec![0; shift + 16 * 1024][shift..];
    let begun = thread_cpu();
    for _ in 0..count {
        let sending = async {
            client.write_all(sent).await.expect("write");
            client.flush().await.expect("flush");
        };
        let ((), read) = tokio::join!(sending, server.read_exact(received));
        read.expect("read");
    }
    (thread_cpu() - begun).as_secs_f64() * 1e6 / f64::from(count)
}
