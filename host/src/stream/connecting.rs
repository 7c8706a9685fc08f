//! Sockets that are being connected.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::net::TcpStream;

use super::{Carrier, Stream, Untried};
use crate::address::Address;
use crate::error::{Error, ErrorKind};

/// A socket whose connect is under way.
///
/// It is watched as if it were TCP: a Unix socket's connect is never under way, so few others come here.
pub(crate) struct Connecting(TcpStream);

impl Connecting {
    /// Waits until the connect has ended; gives the peer's address, where the socket is an internet one.
    pub(crate) async fn connected(self) -> Result<(Stream, Option<Address>), Error> {
        let io = |error: io::Error| Error::from(endpoints_plugin_api::Error::from(error));
        let peer = || match rustix::net::getpeername(&self.0) {
            // Either it has failed, or the reactor saw something else.
            Err(rustix::io::Errno::NOTCONN) => {
                Err(self.0.take_error()?.unwrap_or_else(|| io::ErrorKind::WouldBlock.into()))
            }
            peer => Ok(peer?),
        };
        // Within one machine that takes no time at all.
        let mut found = peer();
        let peer = loop {
            match found {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                found => break found.map_err(io)?,
            }
            let ready = self.0.ready(Interest::WRITABLE).await.map_err(io)?;
            found = self.0.try_io(Interest::WRITABLE, peer);
            // One that is not being connected is hung up from the beginning, and would be ready for ever.
            if ready.is_write_closed()
                && found.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            {
                let message = "a plugin handed over a socket that is neither connected nor being connected";
                return Err(Error::new(ErrorKind::Internal, message));
            }
        };
        match peer.and_then(|peer| SocketAddr::try_from(peer).ok()) {
            Some(peer) => {
                let untried = Untried { reading: false, writing: true };
                let stream = Stream { untried, ..Stream::new(Carrier::Tcp(self.0)) };
                Ok((stream, Some(Address::from_ip(peer))))
            }
            None => {
                let socket = self.0.into_std().map_err(io)?;
                Ok((Stream::from_nonblocking(socket.into())?, None))
            }
        }
    }
}

impl Stream {
    /// Begins to watch a non-blocking socket whose connect is under way. Needs a runtime.
    pub(crate) fn connecting(socket: OwnedFd) -> Result<Connecting, Error> {
        let watched = TcpStream::from_std(socket.into());
        watched.map(Connecting).map_err(|error| endpoints_plugin_api::Error::from(error).into())
    }
}
