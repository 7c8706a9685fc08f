//! Streams of TLS, by rustls without buffers of its own: memory for records is lent by the thread that works on them, and a
//! connection keeps only bytes that cannot go on.

mod buffers;
mod session;

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use endpoints_plugin_api::Stream;
use rustls::CommonState;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::buffers::{BATCH, OVERHEAD, Outgoing, RECORD, Waiting, with_incoming, with_outgoing};
use self::session::Session;
pub(crate) use self::session::Side;

/// A connection whose handshake is done.
///
/// What it holds when its reader or the socket stalls is bounded: a batch of records (64 KiB) in each direction, and the
/// beginning of one more. An idle one holds none, but for tickets as long as nothing was written.
pub(crate) struct TlsStream<S> {
    io: Stream,
    // Apart, so that futures which own the stream stay small.
    state: Box<State<S>>,
}

struct State<S> {
    session: Session<S>,
    /// Records that the stream below has not taken.
    unsent: Waiting,
    /// Something has come, be it what it may.
    has_heard: bool,
    /// The stream below has come to its end.
    is_cut: bool,
    /// This side has said that it ends.
    is_closing: bool,
    /// What is unsent are tickets, which wait for something to go with.
    holds_tickets: bool,
}

/// Why a connection ended over which the other side has not said a thing.
#[derive(Debug)]
pub(crate) struct Unheard(pub(crate) io::Error);

impl Unheard {
    fn with(error: io::Error) -> io::Error {
        io::Error::new(error.kind(), Self(error))
    }
}

impl fmt::Display for Unheard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Unheard {}

impl<S: Side> TlsStream<S> {
    /// Shakes hands.
    ///
    /// # Errors
    /// Those of rustls, of the kind `InvalidData`, after the other side was told as far as it listens; and those of `io`,
    /// in an [`Unheard`] where the other side has said nothing.
    ///
    /// # Cancel safety
    /// The connection is closed, wherever the handshake was.
    pub(crate) async fn shake_hands(side: S, io: Stream) -> io::Result<Self> {
        let session = Session::new(side);
        let unsent = Waiting::default();
        let state = State {
            session,
            unsent,
            has_heard: false,
            is_cut: false,
            is_closing: false,
            holds_tickets: false,
        };
        let mut stream = Self { io, state: Box::new(state) };
        // A client begins.
        with_outgoing(|out| {
            stream.state.session.receive(&mut [], &mut ReadBuf::new(&mut []), out);
            stream.state.unsent.push(out.filled());
        });
        poll_fn(|cx| stream.poll_handshake(cx)).await?;
        Ok(stream)
    }

    /// What is known about the connection.
    pub(crate) fn state(&self) -> &CommonState {
        self.state.session.state()
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.state.session.check()?;
            if !self.state.holds_tickets {
                ready!(self.poll_send(cx))?;
                ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            }
            if !self.state().is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            let is_over = self.state.is_cut || self.state.session.is_ended();
            let received = if is_over {
                Err(io::ErrorKind::UnexpectedEof.into())
            } else {
                ready!(self.poll_receive(cx, &mut ReadBuf::new(&mut [])))
            };
            received.map_err(|error| if self.state.has_heard { error } else { Unheard::with(error) })?;
        }
    }

    /// Reads once, and decrypts what has come into `buf`.
    fn poll_receive(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        with_incoming(|memory| {
            let kept = self.state.session.kept();
            let wanted = wanted(buf.remaining()).max(kept + RECORD);
            let mut room = ReadBuf::new(&mut memory[kept..wanted]);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut room))?;
            let end = kept + room.filled().len();
            if end == kept {
                self.state.is_cut = true;
                return Poll::Ready(Ok(()));
            }
            self.state.has_heard = true;
            with_outgoing(|out| {
                let was_handshaking = self.state().is_handshaking();
                self.state.session.receive(&mut memory[..end], buf, out);
                let session = &self.state.session;
                if was_handshaking
                    && S::ends_with_tickets(session.state())
                    && session.check().is_ok()
                    && out.filled().len() <= TICKETS
                {
                    self.state.unsent.push(out.filled());
                    self.state.holds_tickets = !self.state.unsent.is_empty();
                    return;
                }
                // Whoever writes will be told where this fails.
                let _ = self.send(cx, out);
            });
            Poll::Ready(Ok(()))
        })
    }

    /// Sends what has waited for it.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.state.holds_tickets = false;
        while !self.state.unsent.is_empty() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, self.state.unsent.bytes()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.state.unsent.consume(count),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what it can of new records, and keeps the others, where it fails too: who sends what waits is told again. While some wait already, new ones wait behind them: to try again
    /// would take the wake-up of whoever waits for that.
    fn send(&mut self, cx: &mut Context<'_>, out: &Outgoing<'_>) -> io::Result<()> {
        let mut records = out.filled();
        if records.is_empty() {
            return Ok(());
        }
        if mem::take(&mut self.state.holds_tickets) {
            self.state.unsent.push(records);
            return match self.poll_send(cx) {
                Poll::Ready(sent) => sent,
                Poll::Pending => Ok(()),
            };
        }
        while self.state.unsent.is_empty() && !records.is_empty() {
            match Pin::new(&mut self.io).poll_write(cx, records) {
                Poll::Ready(Ok(count)) if count > 0 => records = &records[count..],
                Poll::Ready(failed) => {
                    self.state.unsent.push(records);
                    return Err(failed.err().unwrap_or_else(|| io::ErrorKind::WriteZero.into()));
                }
                Poll::Pending => break,
            }
        }
        self.state.unsent.push(records);
        Ok(())
    }
}

/// Tickets that may wait for what is written first, in bytes. Those with a client's certificates are larger.
const TICKETS: usize = 1024;

/// How many bytes of records to look at for so much room: no more than what can be decrypted into it, else the rest is copied
/// twice more.
fn wanted(room: usize) -> usize {
    let most = BATCH + BATCH / RECORD * OVERHEAD;
    (room.saturating_add(room.div_ceil(RECORD) * OVERHEAD)).clamp(RECORD + OVERHEAD, most)
}

impl<S: Side> AsyncRead for TlsStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        // What is not about data is read and done with on the way.
        while buf.filled().len() == before && buf.remaining() > 0 {
            let session = &mut this.state.session;
            let waiting = session.plaintext.bytes();
            if !waiting.is_empty() {
                let count = waiting.len().min(buf.remaining());
                buf.put_slice(&waiting[..count]);
                session.plaintext.consume(count);
                break;
            }
            if session.is_ended() {
                break;
            }
            // After all that came before it broke.
            session.check()?;
            if this.state.is_cut {
                let message = "the connection was closed without the end of TLS (close_notify)";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, message)));
            }
            ready!(this.poll_receive(cx, buf))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Side> AsyncWrite for TlsStream<S> {
    /// Bytes are taken once all before them are sent, but for tickets, which go with them.
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.state.session.check()?;
        if this.state.is_closing {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if !this.state.holds_tickets {
            ready!(this.poll_send(cx))?;
        }
        let bytes = &bytes[..bytes.len().min(BATCH)];
        if !bytes.is_empty() {
            with_outgoing(|out| {
                let encrypted = this.state.session.encrypt(bytes, out);
                // Where that failed, there is an alert.
                let sent = this.send(cx, out);
                encrypted.and(sent)
            })?;
        }
        Poll::Ready(Ok(bytes.len()))
    }

    /// Several pieces become one record, or a few.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut pieces = pieces.iter().filter(|piece| !piece.is_empty());
        let first = pieces.next().map_or(&[][..], |piece| piece);
        let Some(second) = pieces.next() else { return self.poll_write(cx, first) };
        with_incoming(|memory| {
            let mut filled = 0;
            for piece in [first, second].into_iter().chain(pieces.map(|piece| &**piece)) {
                let count = piece.len().min(BATCH - filled);
                memory[filled..filled + count].copy_from_slice(&piece[..count]);
                filled += count;
            }
            self.poll_write(cx, &memory[..filled])
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        this.state.session.check()?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // The other side of what is broken has been told.
        if !this.state.is_closing && this.state.session.check().is_ok() {
            this.state.is_closing = true;
            with_outgoing(|out| {
                this.state.session.close(out)?;
                this.send(cx, out)
            })?;
        }
        ready!(this.poll_send(cx))?;
        match ready!(Pin::new(&mut this.io).poll_shutdown(cx)) {
            // The other side may be gone by then.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            done => Poll::Ready(done),
        }
    }
}

#[cfg(test)]
mod tests;
