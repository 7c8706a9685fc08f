//! Copying both ways between two streams.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::idle::{Alarm, Idle};

/// Bytes that went each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// From the first stream to the second.
    pub bytes_in: u64,
    /// From the second stream to the first.
    pub bytes_out: u64,
}

/// Counts the bytes of many relayed connections, as they move.
#[derive(Debug, Default)]
pub struct Meter {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Meter {
    /// What has moved so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        Traffic {
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
        }
    }

    fn add(&self, before: Traffic, now: Traffic) {
        if now != before {
            self.bytes_in.fetch_add(now.bytes_in - before.bytes_in, Ordering::Relaxed);
            self.bytes_out.fetch_add(now.bytes_out - before.bytes_out, Ordering::Relaxed);
        }
    }
}

/// Copies between `a` and `b`, both ways, until both directions have ended; counts in `traffic` as it goes.
///
/// The end of one direction is passed on by shutting the other stream's sending side down, and the opposite direction
/// goes on. Where a stream can no longer be written to, what still comes from it is passed on, and what would have to be
/// written to it is thrown away, for as long as something moves at least every ten seconds. At most 64 KiB are held per
/// direction, and nothing while nothing moves.
///
/// # Errors
/// The first error of either stream; [`io::ErrorKind::TimedOut`] when nothing has moved for `idle_timeout`.
///
/// # Cancel safety
/// Dropping the future may lose bytes that were read and not yet written.
pub async fn relay<A, B>(
    a: &mut A,
    b: &mut B,
    idle_timeout: Option<Duration>,
    traffic: &mut Traffic,
) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    relay_metered(a, b, Limits::new(idle_timeout), traffic, None).await.map_err(|failure| failure.error)
}

/// How long nothing may move.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Ever.
    idle: Option<Duration>,
    /// Once one of the streams can no longer be written to: its peer is most likely gone, and nobody would miss the rest.
    lingering: Duration,
}

impl Limits {
    pub(super) fn new(idle: Option<Duration>) -> Self {
        Self { idle, lingering: Duration::from_secs(10) }
    }
}

/// Why relaying ended otherwise than by the end of both directions.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: io::Error,
    /// Where it failed.
    pub(super) place: Place,
    /// The connection is broken or given up: the peers must not take that for an end.
    pub(super) broken: bool,
}

/// Where relaying failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    ReadingFirst,
    WritingFirst,
    ReadingSecond,
    WritingSecond,
    Idle,
}

/// [`relay`] that adds what moves to `meter` too.
pub(super) async fn relay_metered<A, B>(
    a: &mut A,
    b: &mut B,
    limits: Limits,
    traffic: &mut Traffic,
    meter: Option<&Meter>,
) -> Result<(), Failure>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut forth = Direction::default();
    let mut back = Direction::default();
    let mut idle = limits.idle.map(Watch::new);
    let mut lingering: Option<Watch> = None;
    poll_fn(|cx| {
        let before = *traffic;
        let there = forth.poll(cx, a, b, &mut traffic.bytes_in);
        let here = back.poll(cx, b, a, &mut traffic.bytes_out);
        if let Some(meter) = meter {
            meter.add(before, *traffic);
        }
        // A stream that was reset while it was written to has no end of its own any more.
        forth.source_is_reset |= back.was_reset();
        back.source_is_reset |= forth.was_reset();
        let moved = before != *traffic;
        let mut broken = forth.source_failed || back.source_failed;
        if forth.error.is_some() || back.error.is_some() {
            let lingering = lingering.get_or_insert_with(|| Watch::new(limits.lingering));
            if !broken && lingering.poll(cx, moved).is_ready() {
                (forth.source_failed, back.source_failed) = (true, true);
                broken = true;
            }
        }
        if broken || (there.is_ready() && here.is_ready()) {
            let forth = forth.result(Place::ReadingFirst, Place::WritingSecond);
            return Poll::Ready(forth.and(back.result(Place::ReadingSecond, Place::WritingFirst)));
        }
        match &mut idle {
            Some(idle) => {
                idle.poll(cx, moved).map(|error| Err(Failure { error, place: Place::Idle, broken: true }))
            }
            None => Poll::Pending,
        }
    })
    .await
}

/// What one read takes at most.
const CHUNK: usize = 64 * 1024;

thread_local! {
    /// Where reads go first: what can be written at once is never copied, and an idle connection holds no memory.
    static SCRATCH: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// One direction.
#[derive(Default)]
struct Direction {
    /// Bytes that were read and could not be written yet.
    pending: Vec<u8>,
    written: usize,
    unflushed: bool,
    state: State,
    /// The connection is broken, not ended, and there is nothing left to pass on.
    source_failed: bool,
    /// The stream that is read was reset, which was seen when it was written to: its end is none.
    source_is_reset: bool,
    error: Option<io::Error>,
    /// Where that was met: when reading, else when writing.
    at_reading: bool,
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

impl Direction {
    fn result(&mut self, reading: Place, writing: Place) -> Result<(), Failure> {
        let broken = self.source_failed;
        let place = if self.at_reading { reading } else { writing };
        self.error.take().map_or(Ok(()), |error| Err(Failure { error, place, broken }))
    }

    /// Whether the stream that is written was found to be reset.
    fn was_reset(&self) -> bool {
        let is_reset = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionReset;
        !self.at_reading && self.error.as_ref().is_some_and(is_reset)
    }

    /// Goes on as far as it can; ready when there is nothing left that has to be done.
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W, count: &mut u64) -> Poll<()>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            match self.state {
                State::Copying => {
                    let step = if self.pending.is_empty() {
                        ready!(self.poll_copy(cx, from, to, count))
                    } else {
                        ready!(self.poll_pending(cx, to, count))
                    };
                    if let Err(error) = step {
                        self.fail(error);
                    }
                }
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

    fn fail(&mut self, error: io::Error) {
        self.error = Some(error);
        self.pending = Vec::new();
        self.state =
            if self.source_failed || self.state == State::Ending { State::Ended } else { State::Discarding };
    }

    /// Reads and throws away; ready when nothing more comes.
    fn poll_discard<R: AsyncRead + Unpin>(&mut self, cx: &mut Context<'_>, from: &mut R) -> Poll<()> {
        let mut scratch = SCRATCH.take().unwrap_or_else(|| vec![0; CHUNK].into_boxed_slice());
        let polled = loop {
            let mut buf = ReadBuf::new(&mut scratch);
            match Pin::new(&mut *from).poll_read(cx, &mut buf) {
                Poll::Pending => break Poll::Pending,
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {}
                Poll::Ready(_) => break Poll::Ready(()),
            }
        };
        SCRATCH.set(Some(scratch));
        polled
    }

    /// Reads once, and writes what was read as far as that goes.
    fn poll_copy<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        count: &mut u64,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        // Taken out for the call: a stream may itself relay.
        let mut scratch = SCRATCH.take().unwrap_or_else(|| vec![0; CHUNK].into_boxed_slice());
        let polled = self.poll_copy_with(&mut scratch, cx, from, to, count);
        SCRATCH.set(Some(scratch));
        polled
    }

    fn poll_copy_with<R, W>(
        &mut self,
        scratch: &mut [u8],
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        count: &mut u64,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut buf = ReadBuf::new(scratch);
        let Poll::Ready(read) = Pin::new(from).poll_read(cx, &mut buf) else {
            if self.unflushed {
                self.unflushed = ready!(Pin::new(to).poll_flush(cx).map_ok(|()| false))?;
            }
            return Poll::Pending;
        };
        let read = match read {
            Ok(()) if buf.filled().is_empty() && self.source_is_reset => {
                Err(io::ErrorKind::ConnectionReset.into())
            }
            read => read,
        };
        if let Err(error) = read {
            (self.source_failed, self.at_reading) = (true, true);
            return Poll::Ready(Err(error));
        }
        let mut rest = buf.filled();
        if rest.is_empty() {
            self.state = State::Ending;
        }
        while !rest.is_empty() {
            let Poll::Ready(written) = Pin::new(&mut *to).poll_write(cx, rest) else {
                self.pending = rest.to_vec();
                return Poll::Pending;
            };
            rest = &rest[self.wrote(written, count)?..];
        }
        Poll::Ready(Ok(()))
    }

    fn poll_pending<W>(&mut self, cx: &mut Context<'_>, to: &mut W, count: &mut u64) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Unpin,
    {
        while self.written < self.pending.len() {
            let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.pending[self.written..]));
            self.written += self.wrote(written, count)?;
        }
        self.written = 0;
        self.pending = Vec::new();
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

/// Watches for a time in which nothing moves.
struct Watch {
    idle: Idle,
    alarm: Alarm,
}

impl Watch {
    fn new(limit: Duration) -> Self {
        Self { idle: Idle::new(limit), alarm: Alarm::default() }
    }

    fn poll(&mut self, cx: &mut Context<'_>, moved: bool) -> Poll<io::Error> {
        if moved {
            self.idle.moved();
        }
        self.idle.poll(cx, &mut self.alarm)
    }
}

#[cfg(test)]
mod tests;
