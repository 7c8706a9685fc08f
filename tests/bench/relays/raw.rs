//! What tokio gives without more: a relay of `copy_bidirectional_with_sizes`, behind tokio-rustls where TLS is asked for. It is no relay that
//! people use, and has no limits, no timeouts and no words for what fails; it shows what of a figure is the kernel's and the runtime's.

use std::path::Path;
use std::process::Child;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, crypto};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::Builder;
use tokio_rustls::TlsAcceptor;

use crate::relay::Place;
use crate::{peers, work};

pub(crate) const NAME: &str = "tokio";

/// With larger buffers, which take less for bulk, and more memory and time for each connection.
pub(crate) const LARGE: &str = "tokio, 64 KiB";

/// No relay, but tokio-rustls that answers what the backend would: what of a figure is TLS and its side of the connection.
pub(crate) const NO_RELAY: &str = "tokio, no relay";

/// The way out where there is none.
const NOWHERE: &str = "nowhere";

/// The first argument of this program where it is one of these; the next ones are the size of its buffers, the ways in and out, and
/// a certificate.
pub(crate) const ARGUMENT: &str = "--raw";

/// What tokio has without more, and what socat and others have here.
const SIZES: [usize; 2] = [8 << 10, 64 << 10];

pub(crate) fn plain(program: &Path, place: &Place) -> Vec<Child> {
    plain_with(program, place, SIZES[0])
}

pub(crate) fn plain_large(program: &Path, place: &Place) -> Vec<Child> {
    plain_with(program, place, SIZES[1])
}

pub(crate) fn tls(program: &Path, place: &Place) -> Vec<Child> {
    tls_with(program, place, SIZES[0])
}

pub(crate) fn tls_large(program: &Path, place: &Place) -> Vec<Child> {
    tls_with(program, place, SIZES[1])
}

pub(crate) fn tls_no_relay(program: &Path, place: &Place) -> Vec<Child> {
    let port = place.port.to_string();
    vec![start(program, place, SIZES[0], &[port, NOWHERE.to_owned(), peers::tls::certificate(place)])]
}

fn plain_with(program: &Path, place: &Place, size: usize) -> Vec<Child> {
    let (front, behind) = (place.unix(), place.unix_backend());
    let unix = [front.display().to_string(), behind.display().to_string()];
    vec![start(program, place, size, &tcp(place)), start(program, place, size, &unix)]
}

fn tls_with(program: &Path, place: &Place, size: usize) -> Vec<Child> {
    let [port, backend] = tcp(place);
    vec![start(program, place, size, &[port, backend, peers::tls::certificate(place)])]
}

fn tcp(place: &Place) -> [String; 2] {
    [place.port.to_string(), place.backend.to_string()]
}

fn start(program: &Path, place: &Place, size: usize, arguments: &[String]) -> Child {
    peers::command(program, place)
        .arg(ARGUMENT)
        .arg(size.to_string())
        .args(arguments)
        .spawn()
        .expect("it starts")
}

/// Relays, or answers, until it is killed.
pub(crate) fn run(mut arguments: impl Iterator<Item = String>) {
    let size = arguments.next().and_then(|size| size.parse().ok()).expect("a size");
    let (from, to) = arguments.next().zip(arguments.next()).expect("two ends");
    let acceptor = arguments.next().map(|certificate| acceptor(Path::new(&certificate)));
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let Ok(port) = from.parse::<u16>() else { return relay_unix(&from, &to, size).await };
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("listen");
        if to == NOWHERE {
            return answer(&listener, &acceptor.expect("a certificate")).await;
        }
        let backend: u16 = to.parse().expect("a port");
        loop {
            let (stream, _) = listener.accept().await.expect("accept");
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let connecting = TcpStream::connect(("127.0.0.1", backend));
                let Some(acceptor) = acceptor else {
                    return relay(stream, connecting.await.expect("connect"), size).await;
                };
                stream.set_nodelay(true).expect("no delay");
                // The first connection of all says nothing.
                if let Ok(stream) = acceptor.accept(stream).await {
                    relay(stream, connecting.await.expect("connect"), size).await;
                }
            });
        }
    });
}

/// As the backend does, behind TLS.
async fn answer(listener: &TcpListener, acceptor: &TlsAcceptor) {
    loop {
        let (stream, _) = listener.accept().await.expect("accept");
        stream.set_nodelay(true).expect("no delay");
        let accepting = acceptor.accept(stream);
        tokio::spawn(async move {
            if let Ok(stream) = accepting.await {
                let _ = work::serve(stream).await;
            }
        });
    }
}

async fn relay_unix(from: &str, to: &str, size: usize) {
    let listener = UnixListener::bind(from).expect("listen");
    loop {
        let (stream, _) = listener.accept().await.expect("accept");
        let connecting = UnixStream::connect(to.to_owned());
        tokio::spawn(async move { relay(stream, connecting.await.expect("connect"), size).await });
    }
}

/// What goes wrong is as it is.
async fn relay(
    mut accepted: impl AsyncRead + AsyncWrite + Unpin,
    mut connected: impl AsyncRead + AsyncWrite + Unpin,
    size: usize,
) {
    let _ = copy_bidirectional_with_sizes(&mut accepted, &mut connected, size, size).await;
}

/// As rustls has it, with tickets, which it gives only where asked for.
fn acceptor(certificate: &Path) -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(certificate).expect("a file");
    let chain = chain.collect::<Result<_, _>>().expect("certificates");
    let key = PrivateKeyDer::from_pem_file(certificate).expect("a key");
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions");
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).expect("a pair");
    config.ticketer = crypto::aws_lc_rs::Ticketer::new().expect("keys");
    TlsAcceptor::from(Arc::new(config))
}
