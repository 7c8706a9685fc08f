//! The socket of a connection, for what only sockets can do.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendFlags, recv, send};
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
        read: impl FnMut(BorrowedFd<'a>) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        self.poll_trying(cx, Interest::READABLE, read)
    }

    /// The same for something that writes.
    #[inline]
    pub(crate) fn poll_writing<T>(
        self,
        cx: &mut Context<'_>,
        write: impl FnMut(BorrowedFd<'a>) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        self.poll_trying(cx, Interest::WRITABLE, write)
    }

    /// Reads once, when there is something to read.
    #[inline]
    pub(crate) fn poll_read(self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_some(cx, Interest::READABLE, |socket| {
            Ok((recv(socket, &mut *buffer, RecvFlags::empty())?.1, buffer.len()))
        })
    }

    /// Writes once, when there is room.
    #[inline]
    pub(crate) fn poll_write(self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_some(cx, Interest::WRITABLE, |socket| {
            Ok((send(socket, bytes, SendFlags::NOSIGNAL)?, bytes.len()))
        })
    }

    #[inline]
    fn poll_trying<T>(
        self,
        cx: &mut Context<'_>,
        interest: Interest,
        mut operation: impl FnMut(BorrowedFd<'a>) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            ready!(self.poll_ready(cx, interest))?;
            match self.attempt(interest, &mut operation) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// Tries something that gives how much of how much was done. Where that is less, the reactor tells when there is more, and nothing
    /// has to be tried in vain: it is edge-triggered (epoll(7), questions and answers, 9).
    #[inline]
    fn poll_some(
        self,
        cx: &mut Context<'_>,
        interest: Interest,
        mut operation: impl FnMut(BorrowedFd<'a>) -> io::Result<(usize, usize)>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_ready(cx, interest))?;
            let mut partial = 0;
            let done = self.attempt(interest, &mut |socket| match operation(socket)? {
                (count, most) if 0 < count && count < most => {
                    partial = count;
                    Err(io::ErrorKind::WouldBlock.into())
                }
                (count, _) => Ok(count),
            });
            match done {
                Err(_) if partial > 0 => return Poll::Ready(Ok(partial)),
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
    fn poll_ready(self, cx: &mut Context<'_>, interest: Interest) -> Poll<io::Result<()>> {
        match (self, interest.is_readable()) {
            (Self::Tcp(socket), true) => socket.poll_read_ready(cx),
            (Self::Tcp(socket), false) => socket.poll_write_ready(cx),
            (Self::Unix(socket), true) => socket.poll_read_ready(cx),
            (Self::Unix(socket), false) => socket.poll_write_ready(cx),
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
