//! TLS outside, plain inside: handshakes, bulk, idle connections.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use endpoints_tests::make_certificates;
use futures_util::future::join_all;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs as crypto;
use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS13_AES_128_GCM_SHA256,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedCipherSuite, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::relay::Relay;
use crate::table::{Needs, Row, Work, print_head};
use crate::work::{self, CROWD, ECHO, Front, Way};
use crate::{Bench, idle, peers};

/// How keys are exchanged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exchange {
    /// Together with ML-KEM where the relay can, which is more work for it.
    Preferred,
    /// By X25519 alone, which all can.
    Classic,
}

/// One for each version, all that clients have: relays differ in which of several they take. The key of the certificate is one of ECDSA.
const SUITES: [SupportedCipherSuite; 2] = [TLS13_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256];

/// A client's settings: those that rustls has, but for its suites and what is given.
pub(crate) fn client(
    folder: &Path,
    version: &'static SupportedProtocolVersion,
    exchange: Exchange,
    resumption: Resumption,
) -> Arc<ClientConfig> {
    let root = CertificateDer::from_pem_file(folder.join("pki/ca.crt")).expect("a root");
    let mut roots = RootCertStore::empty();
    roots.add(root).expect("a root");
    let mut provider = crypto::default_provider();
    provider.cipher_suites = SUITES.to_vec();
    if exchange == Exchange::Classic {
        provider.kx_groups = vec![crypto::kx_group::X25519];
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = resumption;
    Arc::new(config)
}

/// How handshakes are that are measured.
struct Shake {
    name: &'static str,
    version: &'static SupportedProtocolVersion,
    exchange: Exchange,
    kind: HandshakeKind,
}

const SHAKES: [Shake; 5] = [
    Shake::new("TLS 1.3, full", &TLS13, Exchange::Preferred, HandshakeKind::Full),
    Shake::new("TLS 1.3, full, X25519", &TLS13, Exchange::Classic, HandshakeKind::Full),
    Shake::new("TLS 1.3, resumed", &TLS13, Exchange::Preferred, HandshakeKind::Resumed),
    Shake::new("TLS 1.3, resumed, X25519", &TLS13, Exchange::Classic, HandshakeKind::Resumed),
    Shake::new("TLS 1.2, resumed", &TLS12, Exchange::Preferred, HandshakeKind::Resumed),
];

impl Shake {
    const fn new(
        name: &'static str,
        version: &'static SupportedProtocolVersion,
        exchange: Exchange,
        kind: HandshakeKind,
    ) -> Self {
        Self { name, version, exchange, kind }
    }

    /// Settings for so many clients of a relay, which have its tickets where they are to resume.
    fn clients(&self, bench: &Bench, relay: SocketAddr, count: usize) -> Vec<Arc<ClientConfig>> {
        let client = |resumption| client(&bench.folder, self.version, self.exchange, resumption);
        if self.kind == HandshakeKind::Full {
            return vec![client(Resumption::disabled()); count];
        }
        let clients: Vec<_> = (0..count).map(|_| client(Resumption::default())).collect();
        for client in &clients {
            bench.runtime.block_on(handshakes(relay, client, 1, HandshakeKind::Full));
        }
        clients
    }
}

/// Starts the relays, with a new certificate; nothing where there is no way to make one.
pub(crate) fn start(bench: &Bench) -> Option<Vec<Relay>> {
    let pki = bench.folder.join("pki");
    if !pki.exists()
        && let Err(problem) = make_certificates(&pki)
    {
        println!("\nTLS: not measured: {problem}");
        return None;
    }
    Some(peers::tls::start(bench))
}

pub(crate) async fn connect(address: SocketAddr, config: Arc<ClientConfig>) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(address).await.expect("connect");
    stream.set_nodelay(true).expect("no delay");
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TlsConnector::from(config).connect(name, stream).await.expect("a handshake");
    let suite = stream.get_ref().1.negotiated_cipher_suite();
    assert!(suite.is_some_and(|suite| SUITES.contains(&suite)), "{suite:?} is none that all relays have");
    stream
}

/// Connects, shakes hands in the way that is expected, sends a byte and has it back, closes; one after the other.
pub(crate) async fn handshakes(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    count: usize,
    expected: HandshakeKind,
) {
    for _ in 0..count {
        let mut stream = connect(address, Arc::clone(config)).await;
        stream.write_all(&[ECHO, 1]).await.expect("write");
        stream.flush().await.expect("flush");
        assert_eq!(stream.read_u8().await.expect("read"), 1);
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(expected));
        // What the relay answers to the end does not matter.
        let _ = stream.shutdown().await;
    }
}

pub(crate) fn run(bench: &Bench) {
    let bulks = ["TLS bulk up, 1 connection", "TLS bulk down, 1 connection"];
    let shakes: Vec<_> = [1, CROWD]
        .into_iter()
        .flat_map(|count| SHAKES.iter().map(move |shake| (shake, count)))
        .map(|(shake, count)| match count {
            1 => (shake.name.to_owned(), shake, count),
            _ => (format!("{}, {count} at a time", shake.name), shake, count),
        })
        .collect();
    let names = shakes.iter().map(|shake| &*shake.0);
    if !names.chain(bulks).chain([IDLE]).any(|name| bench.wants(name)) {
        return;
    }
    let Some(relays) = start(bench) else { return };
    print_head("TLS outside, plain inside", &relays);
    println!("{:>12}", "ours/best");
    let count: usize = if bench.quick { 120 } else { 500 };
    let full = client(&bench.folder, &TLS13, Exchange::Preferred, Resumption::disabled());
    let over = |relay: &Relay| Front::Tls(relay.address(), Arc::clone(&full));
    let mut rows = Vec::new();
    for &(ref name, shake, clients) in &shakes {
        let known = RefCell::new(HashMap::new());
        let prepare = move |relay: &Relay| {
            let address = relay.address();
            let mut known = known.borrow_mut();
            let configs: &mut Vec<_> =
                known.entry(address).or_insert_with(|| shake.clients(bench, address, clients));
            let configs = configs.clone();
            let work = move || {
                let each = count.div_ceil(clients);
                let all = configs.iter().map(|config| handshakes(address, config, each, shake.kind));
                bench.runtime.block_on(join_all(all));
                // The last ones have not ended yet.
                bench.wait(Duration::from_millis(10));
                (each * clients) as f64
            };
            Box::new(work) as Work<'_>
        };
        rows.push(Row { name, unit: "µs", rounds: 7, needs: Needs::Nothing, prepare: Box::new(prepare) });
    }
    let bytes = if bench.quick { 80 << 20 } else { 1 << 30 };
    for (name, way) in [(bulks[0], Way::Up), (bulks[1], Way::Down)] {
        let over = &over;
        let prepare = move |relay: &Relay| {
            let front = over(relay);
            let work = move || {
                bench.runtime.block_on(work::counted(&front, bytes, way));
                bytes as f64 / 1e9
            };
            Box::new(work) as Work<'_>
        };
        rows.push(Row { name, unit: "s/GB", rounds: 5, needs: Needs::Nothing, prepare: Box::new(prepare) });
    }
    for row in rows.iter().filter(|row| bench.wants(row.name)) {
        row.measure(&relays, bench.quick);
    }
    if bench.wants(IDLE) {
        let count = if bench.quick { 200 } else { 1_000 };
        idle::memory(IDLE, bench, &relays, count, over);
    }
}

const IDLE: &str = "idle TLS connection, KiB";
