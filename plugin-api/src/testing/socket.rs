//! Sockets that the plugin hands over, on tokio.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketType, sockopt};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::host::TestHost;
use crate::connection::{Carrier, Connection};
use crate::error::{Error, ErrorKind};

/// A connection that can be read and written whatever the plugin made it of.
pub(super) fn usable(host: &TestHost, mut connection: Connection) -> Result<Connection, Error> {
    connection.body = match connection.body {
        Carrier::Descriptor(socket) => host.within(|| connected(socket))?,
        Carrier::Pair { .. } => {
            let message =
                "the host in memory takes no pair of descriptors: test this with the command endpoints";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        stream @ Carrier::Stream(_) => stream,
    };
    Ok(connection)
}

/// A connected stream socket in the reactor.
pub(super) fn connected(socket: OwnedFd) -> Result<Carrier, Error> {
    let connection = if is_unix(&socket)? {
        let socket = std::os::unix::net::UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        Connection::from_stream(UnixStream::from_std(socket)?)
    } else {
        let socket = std::net::TcpStream::from(socket);
        socket.set_nonblocking(true)?;
        Connection::from_stream(TcpStream::from_std(socket)?)
    };
    Ok(connection.body)
}

/// A socket whose connect is under way, in the reactor: watched as if it were TCP.
pub(super) fn connecting(socket: OwnedFd) -> Result<TcpStream, Error> {
    let socket = std::net::TcpStream::from(socket);
    socket.set_nonblocking(true)?;
    Ok(TcpStream::from_std(socket)?)
}

/// Waits for the end of connecting.
pub(super) async fn finished(socket: TcpStream) -> Result<OwnedFd, Error> {
    let is_connected = || match rustix::net::getpeername(&socket) {
        Err(rustix::io::Errno::NOTCONN) => {
            Err(socket.take_error()?.unwrap_or_else(|| io::ErrorKind::WouldBlock.into()))
        }
        peer => Ok(peer.map(drop)?),
    };
    loop {
        let ready = socket.ready(Interest::WRITABLE).await?;
        match socket.try_io(Interest::WRITABLE, is_connected) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // That one is hung up from the beginning, and would be ready for ever.
                if ready.is_write_closed() {
                    let message = "the socket is neither connected nor being connected";
                    return Err(Error::new(ErrorKind::Internal, message));
                }
            }
            done => {
                done?;
                return Ok(socket.into_std()?.into());
            }
        }
    }
}

/// A listening socket in the reactor.
#[derive(Debug)]
pub(super) enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

pub(super) fn listening(host: &TestHost, socket: OwnedFd) -> Result<Listening, Error> {
    let is_unix = is_unix(&socket)?;
    host.within(|| {
        Ok(if is_unix {
            let socket = std::os::unix::net::UnixListener::from(socket);
            socket.set_nonblocking(true)?;
            Listening::Unix(UnixListener::from_std(socket)?)
        } else {
            let socket = std::net::TcpListener::from(socket);
            socket.set_nonblocking(true)?;
            Listening::Tcp(TcpListener::from_std(socket)?)
        })
    })
}

impl Listening {
    pub(super) async fn accept(&self) -> Result<Connection, Error> {
        Ok(match self {
            Self::Tcp(listener) => Connection::from_stream(listener.accept().await?.0),
            Self::Unix(listener) => Connection::from_stream(listener.accept().await?.0),
        })
    }
}

/// Whether it is a Unix socket, and no internet one.
fn is_unix(socket: &OwnedFd) -> Result<bool, Error> {
    let no_stream = || Error::new(ErrorKind::Internal, "the plugin handed over what is no stream socket");
    match sockopt::socket_type(socket) {
        Ok(SocketType::STREAM) => {}
        _ => return Err(no_stream()),
    }
    Ok(sockopt::socket_domain(socket).map_err(io::Error::from)? == AddressFamily::UNIX)
}
