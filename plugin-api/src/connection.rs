//! Connections as plugins make and get them.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::abi::bytes::RBytes;
use crate::abi::conn::{Body, Taken};
use crate::error::{Error, ErrorKind};
use crate::facts::Facts;
use crate::stream::Stream;

/// A connection: its bytes, and what is known about it.
///
/// Handing on the very connection that came from a nested endpoint or from [`Host`](crate::Host) costs nothing
/// afterwards: the host finds its own socket in it. A wrapper that changes the bytes puts a stream of its own around it
/// with [`Connection::map_stream`].
#[derive(Debug)]
pub struct Connection {
    pub(crate) body: Carrier,
    /// Of this layer.
    own: Facts,
    /// Of the layers further inside, once somebody has asked the stream for them.
    inside: Option<RBytes>,
    /// Whether the stream is the plugin's own, so that the host cannot know what `inside` tells.
    mapped: bool,
    leftover: Vec<u8>,
}

#[derive(Debug)]
pub(crate) enum Carrier {
    Descriptor(OwnedFd),
    Pair { read: OwnedFd, write: OwnedFd, inherited: bool },
    Stream(Stream),
}

impl Connection {
    /// A connection over a stream of the plugin's own.
    pub fn from_stream(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        Self::new(Carrier::Stream(Stream::new(stream)))
    }

    /// A connected stream socket, which the host's reactor is going to serve.
    pub fn from_socket(socket: impl Into<OwnedFd>) -> Self {
        Self::new(Carrier::Descriptor(socket.into()))
    }

    /// One descriptor to read from and one to write to, such as pipes or a terminal. `inherited`: they belong to other
    /// processes too, so that their flags must stay as they are.
    pub fn from_descriptors(read: impl Into<OwnedFd>, write: impl Into<OwnedFd>, inherited: bool) -> Self {
        Self::new(Carrier::Pair { read: read.into(), write: write.into(), inherited })
    }

    fn new(body: Carrier) -> Self {
        Self { body, own: Facts::new(), inside: None, mapped: false, leftover: Vec::new() }
    }

    /// The same connection with a fact of this layer more, before those that it has already;
    /// [`name`](crate::name) has those that hosts know.
    #[must_use]
    pub fn with_fact(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.with_facts(Facts::new().with(name, value))
    }

    /// The same connection with facts of this layer more, before those that it has already.
    #[must_use]
    pub fn with_facts(mut self, mut facts: Facts) -> Self {
        facts.append(&self.own);
        self.own = facts;
        self
    }

    /// Puts a stream of the plugin's own around the one of this connection.
    #[must_use]
    pub fn map_stream<S>(self, wrap: impl FnOnce(Stream) -> S) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (inner, inside) = self.into_stream();
        Self::mapped(Stream::new(wrap(inner)), inside)
    }

    /// As [`map_stream`](Self::map_stream), with something to wait for: a handshake.
    ///
    /// # Errors
    /// Those of `wrap`; the connection is closed then.
    pub async fn try_map_stream<S, E, F>(self, wrap: impl FnOnce(Stream) -> F) -> Result<Self, E>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
        F: Future<Output = Result<S, E>>,
    {
        let (inner, inside) = self.into_stream();
        let stream = wrap(inner).await?;
        Ok(Self::mapped(Stream::new(stream), inside))
    }

    fn mapped(stream: Stream, inside: RBytes) -> Self {
        Self { inside: Some(inside), mapped: true, ..Self::new(Carrier::Stream(stream)) }
    }

    fn into_stream(mut self) -> (Stream, RBytes) {
        self.ask_inside();
        let mut facts = self.inside.take().unwrap_or_default();
        if !self.own.is_empty() {
            let mut own = std::mem::take(&mut self.own);
            own.append_bytes(facts.as_slice());
            facts = own.into_bytes().into();
        }
        let inner = match self.body {
            Carrier::Stream(stream) if self.leftover.is_empty() => stream,
            _ => Stream::new(self),
        };
        (inner, facts)
    }

    /// Gives back bytes that were read but belong to the next reader; they come before everything else.
    pub fn unread(&mut self, bytes: &[u8]) {
        self.leftover.splice(0..0, bytes.iter().copied());
    }

    /// What is known about the connection, this layer first.
    pub fn facts(&mut self) -> Facts {
        self.ask_inside();
        let inside = self.inside.as_ref().map_or(&[][..], RBytes::as_slice);
        Facts::from_bytes([self.own.as_bytes(), inside].concat())
    }

    /// Asks the stream, unless that was done already.
    fn ask_inside(&mut self) {
        if let (Carrier::Stream(stream), None) = (&mut self.body, &self.inside) {
            self.inside = Some(stream.0.facts());
        }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut Stream>> {
        match &mut self.body {
            Carrier::Stream(stream) => Ok(Pin::new(stream)),
            _ => Err(io::Error::other(
                "a descriptor must be adopted with Host::adopt before it is read or written",
            )),
        }
    }

    pub(crate) fn from_taken(taken: Taken) -> Result<Self, Error> {
        let body = match taken.body {
            Body::Fd(fd) => Carrier::Descriptor(fd),
            Body::Pair { read, write, inherited } => Carrier::Pair { read, write, inherited },
            Body::Stream(stream) => Carrier::Stream(Stream(stream)),
            Body::Handshake(_) => {
                return Err(Error::new(
                    ErrorKind::Internal,
                    "a handshake was handed over in place of a connection",
                ));
            }
        };
        let leftover = taken.leftover.as_slice().to_vec();
        let own = Facts::from_bytes(taken.facts.as_slice().to_vec());
        Ok(Self { own, leftover, ..Self::new(body) })
    }

    pub(crate) fn into_taken(self) -> Taken {
        let mut facts = self.own;
        if let Some(inside) = self.inside.filter(|_| self.mapped) {
            facts.append_bytes(inside.as_slice());
        }
        let body = match self.body {
            Carrier::Descriptor(fd) => Body::Fd(fd),
            Carrier::Pair { read, write, inherited } => Body::Pair { read, write, inherited },
            Carrier::Stream(stream) => Body::Stream(stream.0),
        };
        let facts = if facts.is_empty() { RBytes::EMPTY } else { facts.into_bytes().into() };
        Taken { body, facts, leftover: self.leftover.into() }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.leftover.is_empty() {
            let count = this.leftover.len().min(buf.remaining());
            buf.put_slice(&this.leftover[..count]);
            this.leftover.drain(..count);
            return Poll::Ready(Ok(()));
        }
        this.stream()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().stream()?.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream()?.poll_shutdown(cx)
    }
}
