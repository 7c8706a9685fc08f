//! A connection's bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::abi::stream::{Anonymous, Foreign, RStream};
use crate::facts::Facts;

/// A stream of bytes, of the host or of a plugin: read with [`AsyncRead`], written with [`AsyncWrite`].
///
/// Reading and writing may wait in different tasks (with `tokio::io::split`, say). Shutting down ends the sending
/// direction alone. Dropping it closes the connection.
#[derive(Debug)]
pub struct Stream(pub(crate) Foreign);

impl Stream {
    /// Makes a stream of the plugin's own.
    pub fn new(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        let raw = RStream::new(Anonymous(stream));
        // SAFETY: just made, and owned.
        #[expect(unsafe_code, reason = "hands a stream of this image to its own safe face")]
        Self(unsafe { Foreign::new(raw) })
    }

    /// What is known about the connection below this stream, layer by layer.
    pub fn facts(&mut self) -> Facts {
        Facts::from_bytes(self.0.facts().as_slice().to_vec())
    }
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    #[inline]
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    #[inline]
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}
