//! Reading and writing: within the task's budget, and within the idle limit where there is one.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use endpoints_plugin_api::abi::stream::Foreign;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Connection;
use crate::stream::{Bare, Stream, within_budget};

impl Connection {
    /// The stream, to be polled without a budget of its own: the outermost connection has one.
    #[inline]
    pub(crate) fn stream(&mut self) -> Pin<&mut Stream> {
        Pin::new(&mut self.stream)
    }

    /// The socket that carries the bytes, where nothing else has a part in them, nor watches them.
    #[inline]
    pub(crate) fn bare(&self) -> Option<Bare<'_>> {
        if self.idle.is_some() { None } else { self.stream.bare() }
    }

    /// The plugin's stream that carries the bytes, where nothing else has a part in them.
    #[inline]
    pub(crate) fn foreign(&mut self) -> Option<&mut Foreign> {
        self.stream.foreign()
    }

    /// Sockets have a budget of their own; see [`within_budget`].
    #[inline]
    fn budgeted<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut Stream>, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if self.stream.is_socket() {
            return poll(self.stream(), cx);
        }
        within_budget(cx, |cx| poll(self.stream(), cx))
    }
}

impl AsyncRead for Connection {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = self.budgeted(cx, |stream, cx| stream.poll_read(cx, buf));
        match &mut self.idle {
            None => polled,
            Some(idle) => idle.read(cx, polled),
        }
    }
}

impl AsyncWrite for Connection {
    #[inline]
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = self.budgeted(cx, |stream, cx| stream.poll_write(cx, buf));
        match &mut self.idle {
            None => polled,
            Some(idle) => idle.write(cx, polled),
        }
    }

    #[inline]
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = self.budgeted(cx, |stream, cx| stream.poll_write_vectored(cx, bufs));
        match &mut self.idle {
            None => polled,
            Some(idle) => idle.write(cx, polled),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.budgeted(cx, AsyncWrite::poll_flush);
        match &mut self.idle {
            None => polled,
            Some(idle) => idle.wait(cx, polled),
        }
    }

    #[inline]
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.budgeted(cx, AsyncWrite::poll_shutdown);
        match &mut self.idle {
            None => polled,
            Some(idle) => idle.wait(cx, polled),
        }
    }
}
