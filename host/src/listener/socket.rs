//! Sockets that listen.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, acceptfrom_with, getsockname, sockopt};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpStream, UnixStream};

use crate::address::Address;
use crate::stream::{Carrier, watched};

/// A socket that listens, which the reactor watches.
pub(super) struct Socket {
    watched: AsyncFd<OwnedFd>,
    is_unix: bool,
}

impl Socket {
    /// Has the reactor of this thread watch a non-blocking one.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        let is_unix = sockopt::socket_domain(&socket)? == AddressFamily::UNIX;
        Ok(Self { watched: watched(socket)?, is_unix })
    }

    pub(super) fn address(&self) -> io::Result<Address> {
        let address = getsockname(&self.watched)?;
        Address::from_socket(address).ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    pub(super) async fn accept(&self) -> io::Result<(Carrier, Address)> {
        let (socket, peer) = self.watched.async_io(Interest::READABLE, accept).await?;
        self.accepted(socket, peer)
    }

    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Carrier, Address)>> {
        loop {
            let mut ready = ready!(self.watched.poll_read_ready(cx))?;
            if let Ok(accepted) = ready.try_io(|watched| accept(watched.get_ref())) {
                return Poll::Ready(accepted.and_then(|(socket, peer)| self.accepted(socket, peer)));
            }
        }
    }

    fn accepted(&self, socket: OwnedFd, peer: Option<Address>) -> io::Result<(Carrier, Address)> {
        Ok(if self.is_unix {
            let carrier = Carrier::Unix(UnixStream::from_std(socket.into())?);
            (carrier, peer.unwrap_or(Address::UnixUnnamed))
        } else {
            let carrier = Carrier::Tcp(TcpStream::from_std(socket.into())?);
            (carrier, peer.ok_or(io::ErrorKind::ConnectionAborted)?)
        })
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watched.as_fd()
    }
}

/// Asks first whether there is one to accept. accept(2) makes a whole socket before it finds that there is none: that takes as long as
/// ten other system calls, after each connection and in each thread that one has woken, and it fails where there are no more descriptors.
/// Another thread may still be quicker between the two.
fn accept(socket: &OwnedFd) -> io::Result<(OwnedFd, Option<Address>)> {
    let mut asked = [PollFd::new(socket, PollFlags::IN)];
    if poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let (socket, peer) = acceptfrom_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    Ok((socket, peer.and_then(Address::from_socket)))
}
