//! The socket of a connection, for what only sockets can do.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

mod sys;

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

    /// Keeps what comes in from waking the thread, until [`set_heard`](Self::set_heard) or the end; whether that can be. Epoll
    /// is edge-triggered here and tells of each packet, also where nobody wants to read now.
    ///
    /// The kernel is asked to wait for as many bytes as the window has room for, of which it takes half of what `tcp_rmem` allows at
    /// most. For more it would make the buffer larger.
    pub(crate) fn set_quiet(self) -> bool {
        let Self::Tcp(socket) = self else { return false };
        let socket = socket.as_fd();
        sys::largest_window(socket).and_then(|bytes| sys::set_low_water(socket, bytes)).is_ok()
    }

    /// Has a single byte wake whoever waits, as ever. The kernel (since Linux 4.18) tells anew of what is there already, which epoll has
    /// left out.
    pub(crate) fn set_heard(self) {
        let set = sys::set_low_water(self.as_fd(), 1);
        debug_assert!(set.is_ok(), "it was set before: {set:?}");
    }

    pub(crate) fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    /// Lets a Unix socket hold so many bytes that its peer has not read, as far as the system allows it
    /// (`net.core.wmem_max`). The buffers of TCP grow by themselves.
    pub(crate) fn make_room(self, bytes: usize) {
        let Self::Unix(socket) = self else { return };
        // The kernel doubles what is set, for what it needs itself, and says what it has in the end (socket(7)).
        if rustix::net::sockopt::socket_send_buffer_size(socket).is_ok_and(|size| size < 2 * bytes) {
            let _ = rustix::net::sockopt::set_socket_send_buffer_size(socket, bytes);
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
