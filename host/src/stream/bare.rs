//! The socket of a connection, for what only sockets can do.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

/// A socket that carries the bytes of a connection, where nothing else has a part in them.
#[derive(Clone, Copy)]
pub(crate) enum Bare<'a> {
    Tcp(&'a TcpStream),
    Unix(&'a UnixStream),
}

impl AsFd for Bare<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

impl<'a> Bare<'a> {
    /// Tries something that reads, whenever the socket may be ready for that, until it would not block.
    #[inline]
    pub(crate) fn poll_reading<T>(
        self,
        cx: &mut Context<'_>,
        mut read: impl FnMut(BorrowedFd<'a>) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            ready!(match self {
                Self::Tcp(socket) => socket.poll_read_ready(cx),
                Self::Unix(socket) => socket.poll_read_ready(cx),
            })?;
            match self.attempt(Interest::READABLE, &mut read) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// The same for something that writes.
    #[inline]
    pub(crate) fn poll_writing<T>(
        self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(BorrowedFd<'a>) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            ready!(match self {
                Self::Tcp(socket) => socket.poll_write_ready(cx),
                Self::Unix(socket) => socket.poll_write_ready(cx),
            })?;
            match self.attempt(Interest::WRITABLE, &mut write) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    #[inline]
    fn attempt<T>(
        self,
        interest: Interest,
        operation: &mut impl FnMut(BorrowedFd<'a>) -> io::Result<T>,
    ) -> io::Result<T> {
        match self {
            Self::Tcp(socket) => socket.try_io(interest, || operation(socket.as_fd())),
            Self::Unix(socket) => socket.try_io(interest, || operation(socket.as_fd())),
        }
    }
}
