//! One direction of a relay.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::buffer::{Buffer, CHUNK, Pending};
use super::splice::{self, Conduit};
use super::{Place, Socket};
use crate::stream::Bare;

/// One direction.
#[derive(Default)]
pub(super) struct Direction {
    holding: Holding,
    unflushed: bool,
    /// The source was read from, and the other one written to: a stream has its own way with the first bytes, and after that a socket is
    /// read and written directly, with less around it.
    has_read: bool,
    has_written: bool,
    state: State,
    pace: Pace,
    /// The opposite direction has ended well, and both streams are closed once this one has.
    pub(super) is_last: bool,
    /// What was moved last may have been all there was.
    took_all: bool,
    /// The source was made quiet, since this direction is stuck.
    is_quiet: bool,
    /// The connection is broken, not ended, and there is nothing left to pass on.
    pub(super) source_failed: bool,
    /// The stream that is read is broken, which was seen when it was written to: its end is none.
    pub(super) source_is_broken: bool,
    /// Where an error was met: when reading, else when writing.
    at_reading: bool,
}

/// What a direction has at hand. Thousands of them have nothing, so they share the room.
#[derive(Default)]
enum Holding {
    #[default]
    Nothing,
    /// Bytes to be written.
    Bytes(Box<Pending>),
    /// Bytes that are with the kernel.
    Conduit(Conduit),
    Error(io::Error),
}

#[derive(Default, PartialEq)]
enum State {
    #[default]
    Copying,
    Ending,
    /// Writing failed. What comes is thrown away, so that whoever sends it can go on to read.
    Discarding,
    Ended,
}

/// Whether bytes come in so large pieces that the kernel moves them with less effort than copying takes, which for small
/// pieces it does not: that takes two system calls more for each.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// They are copied; so many reads in a row took as much as there is room for.
    Copied(u8),
    /// They are moved; so many pieces in a row were small.
    Moved(u8),
    /// They are copied for ever, since moving was not possible.
    Unmovable,
}

impl Default for Pace {
    fn default() -> Self {
        Self::Copied(0)
    }
}

/// Full reads in a row after which the kernel moves the bytes.
const FULL: u8 = 2;

/// A piece that is worth moving.
const LARGE: usize = 16 * 1024;

/// Smaller pieces in a row after which they are copied again.
const SMALL: u8 = 4;

impl Direction {
    /// The error, and where it was met.
    pub(super) fn result(&mut self, reading: Place, writing: Place) -> Result<(), (io::Error, Place)> {
        let place = if self.at_reading { reading } else { writing };
        match std::mem::take(&mut self.holding) {
            Holding::Error(error) => Err((error, place)),
            _ => Ok(()),
        }
    }

    /// The error that it ended by, or that it throws away what comes for.
    pub(super) fn error(&self) -> Option<&io::Error> {
        if let Holding::Error(error) = &self.holding { Some(error) } else { None }
    }

    /// Whether the stream that is written was found to be broken, rather than to have a peer that reads no more. A socket tells
    /// that once, and then looks as if it had come to its end.
    pub(super) fn was_broken(&self) -> bool {
        let is_broken = |error: &io::Error| error.kind() != io::ErrorKind::BrokenPipe;
        !self.at_reading && self.error().is_some_and(is_broken)
    }

    /// Whether it came to its end, and that was passed on.
    pub(super) fn has_ended(&self) -> bool {
        self.state == State::Ended && self.error().is_none()
    }

    /// Goes on as far as it can; ready when there is nothing left that has to be done.
    pub(super) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        sockets: (Socket<R>, Socket<W>),
        count: &mut u64,
    ) -> Poll<()>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            match self.state {
                State::Copying => {
                    let step = if let Holding::Bytes(_) = self.holding {
                        self.poll_pending(cx, to, count)
                    } else if self.is_moving()
                        && let (Some(from), Some(to)) = (sockets.0(from), sockets.1(to))
                    {
                        self.poll_splice(cx, from, to, count)
                    } else {
                        let copied = self.poll_copy(cx, from, to, sockets, count);
                        if self.is_moving()
                            && let (Some(_), Some(to)) = (sockets.0(from), sockets.1(to))
                        {
                            to.make_room(splice::CAPACITY);
                        }
                        copied
                    };
                    let is_stuck =
                        step.is_pending() && matches!(self.holding, Holding::Bytes(_) | Holding::Conduit(_));
                    if is_stuck != self.is_quiet
                        && let Some(from) = sockets.0(from)
                    {
                        self.quieten(from, is_stuck);
                    }
                    if let Err(error) = ready!(step) {
                        self.fail(error);
                    }
                }
                // Closing a socket ends it, where nothing is left in it that its peer has sent.
                State::Ending if self.is_last && sockets.1(to).is_some() => self.state = State::Ended,
                State::Ending => match ready!(Pin::new(&mut *to).poll_shutdown(cx)) {
                    // It is gone already, which is an end too.
                    Err(error) if error.kind() != io::ErrorKind::NotConnected => self.fail(error),
                    _ => self.state = State::Ended,
                },
                State::Discarding => {
                    if self.poll_discard(cx, from).is_ready() {
                        self.state = State::Ended;
                    }
                    return Poll::Ready(());
                }
                State::Ended => return Poll::Ready(()),
            }
        }
    }

    /// While a direction is stuck, what comes in would wake the thread for nothing, packet by packet.
    #[cold]
    fn quieten(&mut self, from: Bare<'_>, is_stuck: bool) {
        if is_stuck {
            self.is_quiet = from.set_quiet();
        } else {
            from.set_heard();
            self.is_quiet = false;
        }
    }

    /// Whether the kernel moves what comes next, or is still to move what has come: nothing may overtake that.
    fn is_moving(&self) -> bool {
        matches!(self.holding, Holding::Conduit(_)) || matches!(self.pace, Pace::Moved(_))
    }

    fn fail(&mut self, error: io::Error) {
        self.holding = Holding::Error(error);
        self.state =
            if self.source_failed || self.state == State::Ending { State::Ended } else { State::Discarding };
    }

    /// Reads and throws away; ready when nothing more comes.
    fn poll_discard<R: AsyncRead + Unpin>(&mut self, cx: &mut Context<'_>, from: &mut R) -> Poll<()> {
        let Ok(mut buffer) = Buffer::take() else {
            return Poll::Ready(());
        };
        loop {
            let mut buf = ReadBuf::new(&mut buffer);
            match ready!(Pin::new(&mut *from).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                _ => return Poll::Ready(()),
            }
        }
    }

    /// Reads once, and writes what was read as far as that goes.
    fn poll_copy<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        sockets: (Socket<R>, Socket<W>),
        count: &mut u64,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut buffer = Buffer::take()?;
        let read = match sockets.0(from) {
            Some(socket) if self.has_read => socket.poll_read(cx, &mut buffer),
            _ => {
                self.has_read = true;
                let mut buf = ReadBuf::new(&mut buffer);
                Pin::new(from).poll_read(cx, &mut buf).map_ok(|()| buf.filled().len())
            }
        };
        let Poll::Ready(read) = read else {
            if self.unflushed {
                self.unflushed = ready!(Pin::new(to).poll_flush(cx).map_ok(|()| false))?;
            }
            return Poll::Pending;
        };
        let length = self.read(read)?;
        self.pace = match self.pace {
            Pace::Copied(_) if length < CHUNK => Pace::Copied(0),
            Pace::Copied(full) if full + 1 < FULL => Pace::Copied(full + 1),
            Pace::Copied(_) if splice::is_harmless() => Pace::Moved(0),
            _ => Pace::Unmovable,
        };
        let mut begin = 0;
        while begin < length {
            let written = match sockets.1(to) {
                Some(socket) if self.has_written => socket.poll_write(cx, &buffer[begin..length]),
                _ => {
                    self.has_written = true;
                    Pin::new(&mut *to).poll_write(cx, &buffer[begin..length])
                }
            };
            let Poll::Ready(written) = written else {
                self.holding = Holding::Bytes(Box::new(Pending::new(buffer, begin..length)));
                return Poll::Pending;
            };
            begin += self.wrote(written, count)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes note of the end, or of what failed.
    fn read(&mut self, read: io::Result<usize>) -> io::Result<usize> {
        let read = match read {
            Ok(0) if self.source_is_broken => Err(io::ErrorKind::ConnectionReset.into()),
            read => read,
        };
        match read {
            Ok(0) => self.state = State::Ending,
            Ok(_) => {}
            Err(_) => (self.source_failed, self.at_reading) = (true, true),
        }
        read
    }

    /// Has the kernel move what there is, once.
    fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        from: Bare<'_>,
        to: Bare<'_>,
        count: &mut u64,
    ) -> Poll<io::Result<()>> {
        let taken = match std::mem::take(&mut self.holding) {
            Holding::Conduit(conduit) => Some(conduit),
            _ => Conduit::take(),
        };
        let Some(mut conduit) = taken else {
            // For want of pipes; it is tried again when there is much again.
            self.pace = Pace::Copied(0);
            return Poll::Ready(Ok(()));
        };
        if conduit.is_empty() {
            let took_all = std::mem::take(&mut self.took_all);
            // Nothing is held while nothing comes.
            let filled = match ready!(from.poll_reading(cx, |socket| conduit.fill(socket, took_all))) {
                Ok(None) => {
                    self.pace = Pace::Copied(0);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if splice::is_refused(&error) => {
                    self.pace = Pace::Unmovable;
                    return Poll::Ready(Ok(()));
                }
                filled => self.read(filled.map(Option::unwrap_or_default))?,
            };
            // A piece from a Unix socket is mostly short because the pipe has no place for more of such parts.
            self.took_all = filled < splice::CAPACITY && from.is_tcp();
            self.pace = match self.pace {
                Pace::Moved(small) if filled < LARGE && small + 1 < SMALL => Pace::Moved(small + 1),
                Pace::Moved(_) if filled < LARGE => Pace::Copied(0),
                _ => Pace::Moved(0),
            };
        }
        while !conduit.is_empty() {
            let Poll::Ready(drained) = to.poll_writing(cx, |socket| conduit.drain(socket)) else {
                self.holding = Holding::Conduit(conduit);
                return Poll::Pending;
            };
            match drained {
                Err(error) if splice::is_refused(&error) => {
                    self.pace = Pace::Unmovable;
                    self.holding = Holding::Bytes(Box::new(Pending::Few(conduit.read_out()?, 0)));
                    return Poll::Ready(Ok(()));
                }
                drained => self.wrote(drained, count)?,
            };
        }
        Poll::Ready(Ok(()))
    }

    fn poll_pending<W>(&mut self, cx: &mut Context<'_>, to: &mut W, count: &mut u64) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Unpin,
    {
        while let Holding::Bytes(pending) = &self.holding {
            let written = ready!(Pin::new(&mut *to).poll_write(cx, pending.bytes()));
            let written = self.wrote(written, count)?;
            if let Holding::Bytes(pending) = std::mem::take(&mut self.holding) {
                self.holding = pending.after(written).map_or(Holding::Nothing, Holding::Bytes);
            }
        }
        Poll::Ready(Ok(()))
    }

    fn wrote(&mut self, written: io::Result<usize>, count: &mut u64) -> io::Result<usize> {
        let written = written?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.unflushed = true;
        *count += written as u64;
        Ok(written)
    }
}
