//! Two descriptors as one stream: pipes, terminals, files, inherited sockets.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::FdFlags;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use tokio::fs::File;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::watched;

/// A descriptor to read from and one to write to. Shutting down closes the one that is written.
pub(crate) struct Pair {
    read: Half,
    /// Until it is shut down.
    write: Option<Half>,
    /// The input has ended: a terminal's could go on after that.
    ended: bool,
}

/// One direction.
enum Half {
    /// Its open file is non-blocking, and the reactor watches it.
    Watched(AsyncFd<OwnedFd>),
    /// A socket, which the reactor watches; whether it blocks is for others to say.
    Socket(AsyncFd<OwnedFd>),
    /// What no reactor takes (a file, `/dev/null`), or would have to change for others too: read or written on a thread.
    Blocking(File),
}

impl Pair {
    /// Takes descriptors over; needs a runtime. The flags of `inherited` ones stay as they are.
    pub(crate) fn new(read: OwnedFd, write: OwnedFd, inherited: bool) -> io::Result<Self> {
        let read = Half::new(read, OFlags::RDONLY, inherited)?;
        let write = Half::new(write, OFlags::WRONLY, inherited)?;
        Ok(Self { read, write: Some(write), ended: false })
    }

    /// A socket among the two.
    pub(crate) fn socket(&self) -> Option<&OwnedFd> {
        [Some(&self.read), self.write.as_ref()].into_iter().flatten().find_map(|half| match half {
            Half::Socket(socket) => Some(socket.get_ref()),
            _ => None,
        })
    }
}

impl Half {
    fn new(descriptor: OwnedFd, direction: OFlags, inherited: bool) -> io::Result<Self> {
        let flags = rustix::io::fcntl_getfd(&descriptor)?;
        if !flags.contains(FdFlags::CLOEXEC) {
            rustix::io::fcntl_setfd(&descriptor, flags | FdFlags::CLOEXEC)?;
        }
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&descriptor)?.st_mode);
        if kind == FileType::Socket {
            return Ok(Self::Socket(watched(descriptor)?));
        }
        let is_terminal = kind == FileType::CharacterDevice && rustix::termios::isatty(&descriptor);
        if kind != FileType::Fifo && !is_terminal {
            return Ok(Self::blocking(descriptor));
        }
        if !inherited {
            let flags = rustix::fs::fcntl_getfl(&descriptor)?;
            rustix::fs::fcntl_setfl(&descriptor, flags | OFlags::NONBLOCK)?;
            return Ok(Self::Watched(watched(descriptor)?));
        }
        // The same pipe or terminal opened once more has flags of its own. It may not be allowed to this user, and a
        // pipe that nobody reads cannot be opened.
        match reopened(&descriptor, direction).and_then(watched) {
            Ok(own) => Ok(Self::Watched(own)),
            Err(_) => Ok(Self::blocking(descriptor)),
        }
    }

    fn blocking(descriptor: OwnedFd) -> Self {
        Self::Blocking(File::from_std(descriptor.into()))
    }
}

fn reopened(descriptor: &OwnedFd, direction: OFlags) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd as _;
    let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    let flags = direction | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Does `operation` when the descriptor is ready, until it no longer would block.
fn poll_io<R>(
    watched: &AsyncFd<OwnedFd>,
    cx: &mut Context<'_>,
    write: bool,
    mut operation: impl FnMut(&OwnedFd) -> rustix::io::Result<R>,
) -> Poll<io::Result<R>> {
    loop {
        let ready = if write { watched.poll_write_ready(cx) } else { watched.poll_read_ready(cx) };
        let mut guard = ready!(ready)?;
        let done = guard.try_io(|watched| {
            loop {
                match operation(watched.get_ref()) {
                    Err(rustix::io::Errno::INTR) => {}
                    done => return done.map_err(io::Error::from),
                }
            }
        });
        if let Ok(done) = done {
            return Poll::Ready(done);
        }
    }
}

impl AsyncRead for Pair {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.ended || buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        match &mut this.read {
            Half::Watched(watched) => {
                let count = ready!(poll_io(watched, cx, false, |pipe| rustix::io::read(
                    pipe,
                    buf.initialize_unfilled()
                )));
                // Linux' end of a terminal whose other side is gone.
                let count = match count {
                    Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => 0,
                    count => count?,
                };
                buf.advance(count);
            }
            Half::Socket(watched) => {
                let count = ready!(poll_io(watched, cx, false, |socket| {
                    let received = rustix::net::recv(socket, buf.initialize_unfilled(), RecvFlags::DONTWAIT)?;
                    Ok(received.0)
                }))?;
                buf.advance(count);
            }
            Half::Blocking(file) => ready!(Pin::new(file).poll_read(cx, buf))?,
        }
        this.ended = buf.filled().len() == before;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pair {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.write {
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Some(Half::Watched(watched)) => poll_io(watched, cx, true, |pipe| rustix::io::write(pipe, buf)),
            Some(Half::Socket(watched)) => poll_io(watched, cx, true, |socket| {
                rustix::net::send(socket, buf, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
            }),
            Some(Half::Blocking(file)) => Pin::new(file).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &self.write {
            Some(Half::Watched(watched)) => poll_io(watched, cx, true, |pipe| rustix::io::writev(pipe, bufs)),
            _ => {
                let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
                self.poll_write(cx, first)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        matches!(self.write, Some(Half::Watched(_)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.write {
            Some(Half::Blocking(file)) => Pin::new(file).poll_flush(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        if let Some(Half::Socket(watched)) = self.write.take() {
            // The reading side, or somebody else, may have it open too, so that closing alone would tell nothing.
            match rustix::net::shutdown(watched.get_ref().as_fd(), Shutdown::Write) {
                Ok(()) | Err(rustix::io::Errno::NOTCONN) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        Poll::Ready(Ok(()))
    }
}
