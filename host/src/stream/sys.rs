//! Connections of this host on their way through a plugin, and back; descriptors on their way into the reactor.
#![expect(
    unsafe_code,
    reason = "recognises this host's own objects among a plugin's, and vouches for descriptors and for what the kernel writes"
)]

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use endpoints_plugin_api::abi::stream::{Export, Foreign, RStream};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::connection::Connection;

/// A connection lent to a plugin. Where the plugin gives it back, it is taken out again and carried no further.
pub(crate) struct Carried(pub(crate) Connection);

/// Its address is the mark of streams of the type `Carried` of this very image; nothing else uses it.
static MARK: u8 = 0;

impl Export for Carried {
    const OWNER: *const () = (&raw const MARK).cast();

    fn facts(&self) -> Vec<u8> {
        self.0.encoded_info()
    }

    #[inline]
    fn behind(&mut self) -> Option<&mut Foreign> {
        self.0.foreign()
    }
}

impl Carried {
    /// Sends the connection across.
    pub(crate) fn into_foreign(self) -> Foreign {
        // SAFETY: just made, and owned.
        unsafe { Foreign::new(RStream::new(self)) }
    }
}

/// Takes a connection out of a stream that is one of this host's own.
pub(crate) fn uncarry(stream: Foreign) -> Result<Connection, Foreign> {
    // SAFETY: owned; `MARK` marks streams of type `Carried` alone.
    match unsafe { stream.into_raw().unwrap::<Carried>() } {
        Ok(carried) => Ok(carried.0),
        // SAFETY: given back, and owned.
        Err(raw) => Err(unsafe { Foreign::new(raw) }),
    }
}

/// Puts a descriptor into the reactor.
pub(crate) fn watched(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` stays open, and the same, until it is dropped.
    let watched = unsafe { AsyncFd::register(descriptor) };
    watched.map_err(io::Error::from)
}

impl AsyncRead for Carried {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.stream().poll_read(cx, buf)
    }
}

impl AsyncWrite for Carried {
    #[inline]
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.stream().poll_write(cx, buf)
    }

    #[inline]
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.stream().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.stream().poll_flush(cx)
    }

    #[inline]
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.stream().poll_shutdown(cx)
    }
}
