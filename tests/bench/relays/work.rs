//! What relays are loaded with: bulk, ping-pong, connecting; and the backend that answers.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::join_all;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::{JoinSet, yield_now};

use crate::tls;

/// The first byte of a connection says what the backend is to do with the rest.
const SINK: u8 = b'S';
pub(crate) const ECHO: u8 = b'E';
/// It reads so much as the next eight bytes say, and then answers with a byte.
const COUNT: u8 = b'C';
/// It sends so much as the next eight bytes say, and ends.
const SOURCE: u8 = b'D';

/// Where a relay is reached.
#[derive(Clone, Debug)]
pub(crate) enum Front {
    Tcp(SocketAddr),
    /// Each connection begins with this header.
    Proxied(SocketAddr, Arc<[u8]>),
    Tls(SocketAddr, Arc<ClientConfig>),
    Unix(PathBuf),
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Front {
    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Unix(path) => Box::new(unix(path).await?),
            Self::Tls(address, config) => Box::new(tls::connect(*address, Arc::clone(config)).await),
            Self::Tcp(address) => Box::new(tcp(*address).await?),
            Self::Proxied(address, header) => {
                let mut stream = tcp(*address).await?;
                stream.write_all(header).await?;
                Box::new(stream)
            }
        })
    }
}

/// Where the backlog is full, as socat's with its five places, connecting does not wait (unix(7), `EAGAIN`).
async fn unix(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => yield_now().await,
            connected => return connected,
        }
    }
}

async fn tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Serves on a port of TCP, which it gives, and on a Unix socket.
pub(crate) async fn backend(unix: &Path) -> io::Result<u16> {
    let tcp = TcpListener::bind("127.0.0.1:0").await?;
    let port = tcp.local_addr()?.port();
    let unix = UnixListener::bind(unix)?;
    tokio::spawn(async move {
        loop {
            if let Ok((stream, _)) = tcp.accept().await {
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream));
            }
        }
    });
    tokio::spawn(async move {
        loop {
            if let Ok((stream, _)) = unix.accept().await {
                tokio::spawn(serve(stream));
            }
        }
    });
    Ok(port)
}

/// Answers a client, until that ends.
pub(crate) async fn serve(mut stream: impl Stream) -> io::Result<()> {
    let what = stream.read_u8().await?;
    match what {
        SINK => sink(&mut stream).await.map(drop),
        SOURCE => {
            let count = stream.read_u64().await?;
            source(&mut stream, count).await
        }
        COUNT => {
            let count = stream.read_u64().await?;
            receive(&mut stream, count).await?;
            stream.write_u8(1).await
        }
        _ => {
            // Idle ones are many.
            let mut bytes = vec![0; 64];
            loop {
                match stream.read(&mut bytes).await? {
                    0 => return stream.shutdown().await,
                    count if count == bytes.len() && count < PIECE => {
                        stream.write_all(&bytes).await?;
                        bytes = vec![0; PIECE];
                    }
                    count => stream.write_all(&bytes[..count]).await?,
                }
            }
        }
    }
}

const PIECE: usize = 256 * 1024;

async fn sink(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<u64> {
    let mut bytes = vec![0; PIECE];
    let mut all = 0;
    loop {
        match stream.read(&mut bytes).await? {
            0 => return Ok(all),
            count => all += count as u64,
        }
    }
}

/// Reads so many bytes, which must be all there is.
async fn receive(stream: &mut (impl AsyncRead + Unpin), count: u64) -> io::Result<()> {
    let got = sink(&mut stream.take(count)).await?;
    if got == count { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

async fn source(stream: &mut (impl AsyncWrite + Unpin), count: u64) -> io::Result<()> {
    send(stream, count).await?;
    stream.shutdown().await
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), count: u64) -> io::Result<()> {
    let bytes = vec![7; PIECE];
    let mut left = count;
    while left > 0 {
        let piece = left.min(PIECE as u64) as usize;
        stream.write_all(&bytes[..piece]).await?;
        left -= piece as u64;
    }
    stream.flush().await
}

/// Clients at a time, where they are many.
pub(crate) const CROWD: usize = 32;

/// Which way bulk goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Up,
    Down,
    /// Both at once: what is sent comes back.
    Duplex,
}

/// Sends so many bytes over each of so many connections at once, and checks that all arrived where that can be seen.
pub(crate) async fn bulk(front: &Front, connections: usize, bytes: u64, way: Way) {
    let mut going = JoinSet::new();
    for _ in 0..connections {
        let front = front.clone();
        going.spawn(async move {
            let mut stream = front.connect().await.expect("connect");
            let all = |got: u64| assert_eq!(got, bytes, "{front:?} loses bytes");
            match way {
                Way::Up => {
                    stream.write_u8(SINK).await.expect("write");
                    source(&mut stream, bytes).await.expect("write");
                    // The backend ends when it has all.
                    assert_eq!(sink(&mut stream).await.expect("its end"), 0);
                }
                Way::Duplex => {
                    stream.write_u8(ECHO).await.expect("write");
                    let (mut read, mut write) = tokio::io::split(stream);
                    let sending = tokio::spawn(async move { source(&mut write, bytes).await });
                    all(sink(&mut read).await.expect("read"));
                    sending.await.expect("no panic").expect("write");
                }
                Way::Down => {
                    stream.write_u8(SOURCE).await.expect("write");
                    stream.write_u64(bytes).await.expect("write");
                    all(sink(&mut stream).await.expect("read"));
                }
            }
        });
    }
    while let Some(gone) = going.join_next().await {
        gone.expect("no panic");
    }
}

/// Sends so many bytes over a connection one way, and goes by their number: not every relay passes on the end of one direction in TLS.
pub(crate) async fn counted(front: &Front, bytes: u64, way: Way) {
    let mut stream = front.connect().await.expect("connect");
    let what = if way == Way::Up { COUNT } else { SOURCE };
    stream.write_u8(what).await.expect("write");
    stream.write_u64(bytes).await.expect("write");
    if way == Way::Up {
        send(&mut stream, bytes).await.expect("write");
        assert_eq!(stream.read_u8().await.expect("an answer"), 1);
    } else {
        stream.flush().await.expect("flush");
        receive(&mut stream, bytes).await.expect("all of them");
    }
}

/// Round trips of 64 bytes over each of so many connections at once.
pub(crate) struct PingPong(Vec<Box<dyn Stream>>);

impl PingPong {
    pub(crate) async fn new(front: &Front, connections: usize) -> Self {
        let mut streams = Vec::new();
        for _ in 0..connections {
            let mut stream = front.connect().await.expect("connect");
            stream.write_u8(ECHO).await.expect("write");
            stream.flush().await.expect("flush");
            streams.push(stream);
        }
        Self(streams)
    }

    pub(crate) async fn run(&mut self, rounds: usize) {
        let each = self.0.iter_mut().map(|stream| async move {
            let mut bytes = [1; 64];
            for _ in 0..rounds {
                stream.write_all(&bytes).await.expect("write");
                stream.read_exact(&mut bytes).await.expect("read");
            }
        });
        join_all(each).await;
    }
}

/// Connects, sends a byte, has it back, and closes; so many times, one after the other.
pub(crate) async fn connects(front: &Front, count: usize) {
    for _ in 0..count {
        let mut stream = front.connect().await.expect("connect");
        stream.write_all(&[ECHO, 1]).await.expect("write");
        assert_eq!(stream.read_u8().await.expect("read"), 1);
        drop(stream);
    }
}

/// So many that do that at the same time.
pub(crate) async fn crowd(front: &Front, each: usize) {
    let mut going = JoinSet::new();
    for _ in 0..CROWD {
        let front = front.clone();
        going.spawn(async move { connects(&front, each).await });
    }
    while let Some(gone) = going.join_next().await {
        gone.expect("no panic");
    }
}

/// Connections over which nothing is said after one round trip.
pub(crate) async fn idle(front: &Front, count: usize) -> PingPong {
    let mut connections = PingPong::new(front, count).await;
    for stream in &mut connections.0 {
        stream.write_u8(1).await.expect("write");
        stream.flush().await.expect("flush");
        stream.read_u8().await.expect("read");
    }
    connections
}
