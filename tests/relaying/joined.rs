//! A relay with both of its ends in this process, for each kind of front and back.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::Duration;

use endpoints::forward::Forward;
use endpoints::serve::{Event, Outcome};
use endpoints::{Connection, Listener};
use rustix::net::sockopt::set_socket_linger;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::{World, in_time, pki, port, reachable};

/// What a side of a relay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp,
    Unix,
    Tls,
    /// TCP behind a PROXY header, which is a server alone.
    Haproxy,
}

impl Kind {
    pub(crate) const FRONTS: [Self; 4] = [Self::Tcp, Self::Unix, Self::Tls, Self::Haproxy];
    pub(crate) const BACKS: [Self; 3] = [Self::Tcp, Self::Unix, Self::Tls];

    /// Whether its connections can be cut so that the peer knows.
    pub(crate) fn can_be_cut(self) -> bool {
        self != Self::Unix
    }

    /// All pairs; those without TLS, which is said, where there are no certificates.
    pub(crate) fn pairs() -> impl Iterator<Item = (Self, Self)> {
        let has_tls = pki().is_some();
        let pairs = Self::FRONTS.into_iter().flat_map(|front| Self::BACKS.map(|back| (front, back)));
        pairs.filter(move |(front, back)| has_tls || (*front != Self::Tls && *back != Self::Tls))
    }

    fn server(self, folder: &Path) -> String {
        let pki = || pki().expect("certificates").join("pki");
        match self {
            Self::Tcp => format!("tcp:0:{}", address()),
            Self::Unix => format!("unix:{}", quoted(folder)),
            Self::Tls => {
                let certificate = quoted(&pki().join("server.pem"));
                format!("tls:certificate={certificate}:port=0:interface={}", address())
            }
            Self::Haproxy => format!("haproxy:tcp:0:interface={}", address()),
        }
    }

    /// How a client comes to `listener`.
    fn client(self, listener: &Listener) -> String {
        match self {
            Self::Tcp | Self::Haproxy => format!("tcp:{}:{}", address(), port(listener)),
            Self::Unix => reachable(listener),
            Self::Tls => {
                let trust = quoted(&pki().expect("certificates").join("pki/trust"));
                let inner = format!("tcp:{}:{}", address(), port(listener));
                format!("tls:localhost:443:trustRoots={trust}:endpoint={}", endpoints::quote_str(&inner))
            }
        }
    }
}

/// The loopback address of this process alone: who goes to another's port, which may be one of here by now, as tests do
/// that want to be refused, does not come here.
pub(crate) fn address() -> Ipv4Addr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 100, high, low)
}

fn quoted(path: &Path) -> String {
    endpoints::quote_str(path.to_str().expect("UTF-8")).into_owned()
}

/// What a proxy says first.
const HEADER: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\n";

/// How one relayed connection ended.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) error: Option<String>,
}

/// A relay, and what it connects to. It is used by one connection at a time, so that the ends belong together.
pub(crate) struct Joined {
    front: Kind,
    client: String,
    port: Option<u16>,
    backend: Listener,
    told: UnboundedReceiver<Told>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Outcome>,
    _folder: TempDir,
}

impl Joined {
    pub(crate) async fn new(world: &World, front: Kind, back: Kind) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let backend = world.listen(&back.server(&folder.path().join("back"))).await;
        let listener = world.listen(&front.server(&folder.path().join("front"))).await;
        let (client, connects) = (front.client(&listener), back.client(&backend));
        let port = (front != Kind::Unix).then(|| port(&listener));
        let (tell, told) = unbounded_channel();
        let errors = Mutex::new(HashMap::new());
        let client_endpoint = world.registry.client(connects.as_str()).expect("a client");
        let forward = Forward::new(listener, client_endpoint).on_event(move |event| match event {
            Event::Error { id, error, .. } => {
                errors.lock().unwrap().insert(id.unwrap_or_default(), error.to_string());
            }
            Event::Closed { id, bytes_in, bytes_out, .. } => {
                let error = errors.lock().unwrap().remove(id);
                let _ = tell.send(Told { bytes_in: *bytes_in, bytes_out: *bytes_out, error });
            }
            _ => {}
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(forward.run(async move { drop(stopped.await) }));
        Self { front, client, port, backend, told, stop, task, _folder: folder }
    }

    /// Both ends of a connection through it, the near one first, which has sent `first` already: behind a PROXY header, so
    /// that both are read at once.
    pub(crate) async fn pair(&self, world: &World, first: &[u8], window: Option<u32>) -> (End, End) {
        let near = async {
            let mut near = match (self.front, self.port) {
                (Kind::Tcp | Kind::Haproxy, Some(port)) => {
                    let socket = TcpSocket::new_v4().expect("a socket");
                    if let Some(window) = window {
                        socket.set_recv_buffer_size(window).expect("a smaller buffer");
                    }
                    End::Tcp(socket.connect((address(), port).into()).await.expect("it listens"))
                }
                _ => End::Other(world.connect(&self.client).await),
            };
            let header = if self.front == Kind::Haproxy { HEADER } else { &[] };
            near.write_all(&[header, first].concat()).await.expect("it is taken");
            near.flush().await.expect("it is taken");
            near
        };
        let far = async { self.backend.accept().await.expect("accept").await.expect("a handshake") };
        let (near, far) = tokio::join!(near, far);
        (near, End::Other(far))
    }

    /// Waits until the connection is over.
    pub(crate) async fn told(&mut self) -> Told {
        self.told.recv().await.expect("it runs")
    }

    pub(crate) async fn end(self) {
        self.stop.send(()).expect("it runs");
        let outcome = in_time(self.task).await.expect("it does not panic");
        assert!(outcome.cut == 0 && outcome.error.is_none(), "{outcome:?}");
    }
}

impl fmt::Debug for Joined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joined").field("front", &self.client).finish_non_exhaustive()
    }
}

/// An end of a relayed connection.
pub(crate) enum End {
    Tcp(TcpStream),
    Other(Connection),
}

impl End {
    /// Closes it so that the peer sees no end, where it is not a Unix socket.
    pub(crate) fn cut(self) {
        match self {
            Self::Tcp(stream) => set_socket_linger(&stream, Some(Duration::ZERO)).expect("a socket"),
            Self::Other(connection) => connection.abort(),
        }
    }
}

/// Does the same with whichever it is.
macro_rules! either {
    ($end:expr, $call:ident $(, $argument:expr)*) => {
        match $end.get_mut() {
            End::Tcp(stream) => Pin::new(stream).$call($($argument),*),
            End::Other(connection) => Pin::new(connection).$call($($argument),*),
        }
    };
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_read, cx, buf)
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, poll_write, cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_flush, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_shutdown, cx)
    }
}
