//! A connection's bytes, whoever carries them.

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use endpoints_plugin_api::abi::stream::Foreign;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::coop;

use crate::address::Address;
use crate::connection::Credentials;
use crate::error::{Error, ErrorKind};

mod bare;
mod connecting;
mod pair;
mod sys;

pub(crate) use bare::Bare;
pub(crate) use pair::Pair;
pub(crate) use sys::{Carried, uncarry, watched};

/// Who carries the bytes.
pub(crate) enum Carrier {
    Tcp(TcpStream),
    Unix(UnixStream),
    Pair(Box<Pair>),
    Plugin(Foreign),
}

/// A stream of bytes: a socket of this process's reactor, or a plugin's stream.
pub(crate) struct Stream {
    carrier: Carrier,
    /// Bytes that were read already and come first.
    leftover: Option<Box<Leftover>>,
    /// Whether the first read and the first write are to be tried without asking the reactor.
    untried: Untried,
}

/// The reactor takes a socket that was given to it by `from_std` for neither readable nor writable until it has waited for events
/// once more, though there is always room in a new one, and mostly something to be read from one that was accepted. (tokio's
/// own listeners have it take theirs for both.)
#[derive(Default)]
struct Untried {
    reading: bool,
    writing: bool,
}

struct Leftover {
    bytes: Vec<u8>,
    taken: usize,
}

/// Makes a stream socket of a plugin's fit for the reactor: its type is looked at, and it is made non-blocking and closed
/// on exec.
pub(crate) fn prepare_socket(socket: &OwnedFd) -> Result<(), Error> {
    let internal = |what: &str| Error::new(ErrorKind::Internal, format!("a plugin handed over {what}"));
    let kind = rustix::net::sockopt::socket_type(socket)
        .map_err(|error| internal(&format!("a descriptor that is no socket: {error}")))?;
    if kind != rustix::net::SocketType::STREAM {
        return Err(internal("a socket that is no stream"));
    }
    let io =
        |error: rustix::io::Errno| Error::from(endpoints_plugin_api::Error::from(io::Error::from(error)));
    let flags = rustix::fs::fcntl_getfl(socket).map_err(io)?;
    if !flags.contains(rustix::fs::OFlags::NONBLOCK) {
        rustix::fs::fcntl_setfl(socket, flags | rustix::fs::OFlags::NONBLOCK).map_err(io)?;
    }
    let flags = rustix::io::fcntl_getfd(socket).map_err(io)?;
    if !flags.contains(rustix::io::FdFlags::CLOEXEC) {
        rustix::io::fcntl_setfd(socket, flags | rustix::io::FdFlags::CLOEXEC).map_err(io)?;
    }
    Ok(())
}

impl Stream {
    pub(crate) fn new(carrier: Carrier) -> Self {
        Self { carrier, leftover: None, untried: Untried::default() }
    }

    /// A socket that was accepted just now.
    pub(crate) fn accepted(carrier: Carrier) -> Self {
        Self { untried: Untried { reading: true, writing: true }, ..Self::new(carrier) }
    }

    /// Takes over a stream socket: its type is looked at, and it is made non-blocking and closed on exec.
    pub(crate) fn from_socket(socket: OwnedFd) -> Result<Self, Error> {
        prepare_socket(&socket)?;
        // Reading from one would wait for ever.
        if rustix::net::sockopt::socket_acceptconn(&socket) == Ok(true) {
            let message = "a plugin handed over a listening socket in place of a connection";
            return Err(Error::new(ErrorKind::Internal, message));
        }
        Self::from_nonblocking(socket)
    }

    /// Takes over a stream socket that is non-blocking already. Needs a runtime.
    fn from_nonblocking(socket: OwnedFd) -> Result<Self, Error> {
        let io = |error: io::Error| Error::from(endpoints_plugin_api::Error::from(error));
        let domain = rustix::net::sockopt::socket_domain(&socket).map_err(|error| {
            Error::new(ErrorKind::Internal, format!("a plugin handed over no socket: {error}"))
        })?;
        let carrier = if domain == rustix::net::AddressFamily::UNIX {
            Carrier::Unix(UnixStream::from_std(socket.into()).map_err(io)?)
        } else {
            Carrier::Tcp(TcpStream::from_std(socket.into()).map_err(io)?)
        };
        Ok(Self::new(carrier))
    }

    /// Puts bytes before everything that is still to be read, also before what was put back earlier.
    pub(crate) fn put_back(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut bytes = bytes.to_vec();
        if let Some(later) = self.leftover.take() {
            bytes.extend_from_slice(&later.bytes[later.taken..]);
        }
        self.leftover = Some(Box::new(Leftover { bytes, taken: 0 }));
    }

    /// The socket, where the stream is one and nothing was read ahead.
    pub(crate) fn into_socket(self) -> Result<OwnedFd, Self> {
        if self.leftover.is_some() {
            return Err(self);
        }
        match self.carrier {
            Carrier::Tcp(stream) => match stream.into_std() {
                Ok(socket) => Ok(socket.into()),
                Err(error) => unreachable!("a registered socket can be taken out of the reactor: {error}"),
            },
            Carrier::Unix(stream) => match stream.into_std() {
                Ok(socket) => Ok(socket.into()),
                Err(error) => unreachable!("a registered socket can be taken out of the reactor: {error}"),
            },
            Carrier::Pair(_) | Carrier::Plugin(_) => Err(self),
        }
    }

    /// Has the reactor of this thread watch the socket, where there is one. Where descriptors are short, that of another thread goes
    /// on, which is slower.
    pub(crate) fn watch_here(&mut self) {
        let watched = match &self.carrier {
            Carrier::Tcp(socket) => {
                copy(socket).and_then(|copy| TcpStream::from_std(copy.into())).map(Carrier::Tcp)
            }
            Carrier::Unix(socket) => {
                copy(socket).and_then(|copy| UnixStream::from_std(copy.into())).map(Carrier::Unix)
            }
            Carrier::Pair(_) | Carrier::Plugin(_) => return,
        };
        if let Ok(watched) = watched {
            self.carrier = watched;
            self.untried = Untried { reading: true, writing: true };
        }
    }

    /// Has closing reset the connection instead of ending it, where it is TCP.
    pub(crate) fn reset_on_close(&self) {
        if let Carrier::Tcp(stream) = &self.carrier {
            // A socket that is closed already, or of another kind, has nothing to be reset.
            let _ = rustix::net::sockopt::set_socket_linger(stream, Some(std::time::Duration::ZERO));
        }
    }

    #[inline]
    pub(crate) fn is_socket(&self) -> bool {
        matches!(self.carrier, Carrier::Tcp(_) | Carrier::Unix(_))
    }

    /// The socket, where it alone carries the bytes and nothing was read ahead.
    #[inline]
    pub(crate) fn bare(&self) -> Option<Bare<'_>> {
        match self.leftover {
            None => self.carrying_socket(),
            Some(_) => None,
        }
    }

    #[inline]
    fn carrying_socket(&self) -> Option<Bare<'_>> {
        match &self.carrier {
            Carrier::Tcp(stream) => Some(Bare::Tcp(stream)),
            Carrier::Unix(stream) => Some(Bare::Unix(stream)),
            Carrier::Pair(_) | Carrier::Plugin(_) => None,
        }
    }

    /// The plugin's stream, where it carries the bytes and nothing was read ahead.
    #[inline]
    pub(crate) fn foreign(&mut self) -> Option<&mut Foreign> {
        match &mut self.carrier {
            Carrier::Plugin(stream) if self.leftover.is_none() => Some(stream),
            _ => None,
        }
    }

    /// The socket that carries the bytes, where one does.
    pub(crate) fn socket(&self) -> Option<BorrowedFd<'_>> {
        match &self.carrier {
            Carrier::Tcp(stream) => Some(stream.as_fd()),
            Carrier::Unix(stream) => Some(stream.as_fd()),
            Carrier::Pair(pair) => pair.socket().map(AsFd::as_fd),
            Carrier::Plugin(_) => None,
        }
    }

    /// This side's address, where the stream is a socket.
    pub(crate) fn local_addr(&self) -> Option<Address> {
        Address::from_socket(rustix::net::getsockname(self.socket()?).ok()?)
    }

    /// The peer's address, where the stream is a socket that has not been reset.
    pub(crate) fn peer_addr(&self) -> Option<Address> {
        Address::from_socket(rustix::net::getpeername(self.socket()?).ok()??)
    }

    /// Who is at the other end, where the stream is a Unix socket.
    pub(crate) fn peer_credentials(&self) -> Option<Credentials> {
        let Carrier::Unix(stream) = &self.carrier else { return None };
        let found = stream.peer_cred().ok()?;
        // What the kernel says of a socket that was never connected.
        if found.uid() == u32::MAX {
            return None;
        }
        // 0 stands for a process that cannot be seen from this process's PID namespace.
        let pid = found.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0);
        Some(Credentials { pid, uid: found.uid(), gid: found.gid() })
    }

    /// Writes to a socket though the reactor has not seen yet that there is room.
    #[cold]
    fn write_first(&mut self, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.untried.writing = false;
        let Some(socket) = self.carrying_socket() else { return Poll::Pending };
        at_once(match bufs {
            // Which takes less.
            [buf] => send(socket, buf, SendFlags::NOSIGNAL),
            bufs => {
                let bufs = &bufs[..bufs.len().min(MOST_AT_ONCE)];
                sendmsg(socket, bufs, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)
            }
        })
    }

    /// Reads from a socket though the reactor has not seen yet that something is there.
    #[cold]
    fn read_first(&mut self, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.untried.reading = false;
        let Some(socket) = self.carrying_socket() else { return Poll::Pending };
        let (count, _) = ready!(at_once(recv(socket, buf.initialize_unfilled(), RecvFlags::empty())))?;
        buf.advance(count);
        Poll::Ready(Ok(()))
    }

    #[cold]
    fn read_leftover(&mut self, buf: &mut ReadBuf<'_>) {
        if let Some(leftover) = &mut self.leftover {
            let left = &leftover.bytes[leftover.taken..];
            let count = left.len().min(buf.remaining());
            buf.put_slice(&left[..count]);
            leftover.taken += count;
            if leftover.taken == leftover.bytes.len() {
                self.leftover = None;
            }
        }
    }
}

/// Pieces that one system call takes (`IOV_MAX`); with more it fails.
const MOST_AT_ONCE: usize = 1024;

/// What came of a system call that does not wait; `Pending` where the reactor has to be asked.
fn at_once<T>(done: Result<T, Errno>) -> Poll<io::Result<T>> {
    match done {
        Err(Errno::AGAIN | Errno::INTR) => Poll::Pending,
        done => Poll::Ready(done.map_err(io::Error::from)),
    }
}

fn copy(socket: &impl AsFd) -> io::Result<OwnedFd> {
    socket.as_fd().try_clone_to_owned()
}

/// Polls within the task's budget: a plugin's stream that is always ready must not keep other tasks from running.
#[inline]
pub(crate) fn within_budget<T>(
    cx: &mut Context<'_>,
    poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
) -> Poll<T> {
    let budget = ready!(coop::poll_proceed(cx));
    let polled = poll(cx);
    if polled.is_ready() {
        budget.made_progress();
    }
    polled
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.leftover.is_some() {
            self.read_leftover(buf);
            return Poll::Ready(Ok(()));
        }
        if self.untried.reading
            && let Poll::Ready(read) = self.read_first(buf)
        {
            return Poll::Ready(read);
        }
        match &mut self.carrier {
            Carrier::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Carrier::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Carrier::Pair(pair) => Pin::new(&mut **pair).poll_read(cx, buf),
            Carrier::Plugin(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.untried.writing
            && let Poll::Ready(written) = self.write_first(&[IoSlice::new(buf)])
        {
            return Poll::Ready(written);
        }
        match &mut self.carrier {
            Carrier::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Carrier::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Carrier::Pair(pair) => Pin::new(&mut **pair).poll_write(cx, buf),
            Carrier::Plugin(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    #[inline]
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.untried.writing
            && let Poll::Ready(written) = self.write_first(bufs)
        {
            return Poll::Ready(written);
        }
        match &mut self.carrier {
            Carrier::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Carrier::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Carrier::Pair(pair) => Pin::new(&mut **pair).poll_write_vectored(cx, bufs),
            Carrier::Plugin(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.carrier {
            Carrier::Tcp(stream) => stream.is_write_vectored(),
            Carrier::Unix(stream) => stream.is_write_vectored(),
            Carrier::Pair(pair) => pair.is_write_vectored(),
            Carrier::Plugin(stream) => stream.is_write_vectored(),
        }
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.carrier {
            Carrier::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Carrier::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Carrier::Pair(pair) => Pin::new(&mut **pair).poll_flush(cx),
            Carrier::Plugin(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    #[inline]
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.carrier {
            Carrier::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Carrier::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Carrier::Pair(pair) => Pin::new(&mut **pair).poll_shutdown(cx),
            Carrier::Plugin(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.carrier {
            Carrier::Tcp(_) => "Tcp",
            Carrier::Unix(_) => "Unix",
            Carrier::Pair(_) => "Pair",
            Carrier::Plugin(_) => "Plugin",
        })
    }
}

#[cfg(test)]
mod tests;
