//! Copying both ways between two streams.

use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::idle::{Alarm, Idle};
use crate::stream::Bare;

mod buffer;
mod direction;
mod splice;

use direction::Direction;

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
    let mut relaying = Relaying::new(Limits::new(idle_timeout));
    let sockets = Sockets::none();
    let relayed = poll_fn(|cx| relaying.poll(cx, (&mut *a, &mut *b), &sockets, traffic, None)).await;
    relayed.map_err(|failure| failure.error)
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

/// Gives the socket that carries the bytes of a stream, where nothing else has a part in them.
type Socket<T> = for<'a> fn(&'a T) -> Option<Bare<'a>>;

/// The sockets beneath the two streams.
pub(super) struct Sockets<A, B> {
    pub(super) first: Socket<A>,
    pub(super) second: Socket<B>,
    /// Whether they are closed once both directions have ended, which tells the peer of the last one what shutting down would.
    pub(super) close: bool,
}

impl<A, B> Sockets<A, B> {
    /// For streams that may be anything.
    fn none() -> Self {
        Self { first: |_| None, second: |_| None, close: false }
    }
}

/// What goes on between two streams, as a state that is polled: a connection in which nothing moves holds little else.
pub(super) struct Relaying {
    forth: Direction,
    back: Direction,
    idle: Option<Box<Watch>>,
    lingering: Lingering,
}

/// Waiting for the end of one direction where the other has failed.
enum Lingering {
    /// That long, should it come to that.
    For(Duration),
    Watched(Box<Watch>),
}

impl Relaying {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            forth: Direction::default(),
            back: Direction::default(),
            idle: limits.idle.map(|limit| Box::new(Watch::new(limit))),
            lingering: Lingering::For(limits.lingering),
        }
    }

    /// What [`relay`] does, adding what moves to `meter` too, and having the kernel move what is much from socket to socket.
    pub(super) fn poll<A, B>(
        &mut self,
        cx: &mut Context<'_>,
        (a, b): (&mut A, &mut B),
        sockets: &Sockets<A, B>,
        traffic: &mut Traffic,
        meter: Option<&Meter>,
    ) -> Poll<Result<(), Failure>>
    where
        A: AsyncRead + AsyncWrite + Unpin,
        B: AsyncRead + AsyncWrite + Unpin,
    {
        let Self { forth, back, .. } = self;
        let &Sockets { first, second, close } = sockets;
        let before = *traffic;
        forth.is_last = close && back.has_ended();
        let there = forth.poll(cx, a, b, (first, second), &mut traffic.bytes_in);
        back.is_last = close && forth.has_ended();
        // A stream that was found to be broken when it was written to has no end of its own any more.
        back.source_is_broken |= forth.was_broken();
        let here = back.poll(cx, b, a, (second, first), &mut traffic.bytes_out);
        if let Some(meter) = meter {
            meter.add(before, *traffic);
        }
        forth.source_is_broken |= back.was_broken();
        let moved = before != *traffic;
        let mut broken = forth.source_failed || back.source_failed;
        if forth.error().is_some() || back.error().is_some() {
            if let Lingering::For(limit) = self.lingering {
                self.lingering = Lingering::Watched(Box::new(Watch::new(limit)));
            }
            if let Lingering::Watched(watch) = &mut self.lingering
                && !broken
                && watch.poll(cx, moved).is_ready()
            {
                (forth.source_failed, back.source_failed) = (true, true);
                broken = true;
            }
        }
        if broken || (there.is_ready() && here.is_ready()) {
            let caused = forth.source_is_broken;
            let forth = forth.result(Place::ReadingFirst, Place::WritingSecond);
            let back = back.result(Place::ReadingSecond, Place::WritingFirst);
            // What one has failed by for the other's sake says less.
            let result = if caused { back.and(forth) } else { forth.and(back) };
            return Poll::Ready(result.map_err(|(error, place)| Failure { error, place, broken }));
        }
        match &mut self.idle {
            Some(idle) => {
                idle.poll(cx, moved).map(|error| Err(Failure { error, place: Place::Idle, broken: true }))
            }
            None => Poll::Pending,
        }
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
