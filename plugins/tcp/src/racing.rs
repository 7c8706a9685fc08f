//! Which of several addresses is tried when: Happy Eyeballs, RFC 8305, without its input and output.
//!
//! ```text
//! let mut race = Race::new(addresses, delay);
//! loop {
//!     match race.next(now) {
//!         Next::Start(place) => begin to connect to the address at that place,
//!         Next::Wait(until)  => wait for an attempt to end, and, where a time is given, until then;
//!                               tell `race.failed()` of each that fails; the first that succeeds is the winner,
//!         Next::Lost         => all have failed,
//!     }
//! }
//! ```

use std::net::SocketAddr;
use std::time::Duration;

/// The order in which the addresses of a name are tried (RFC 8305, section 4): that of the resolver, which has sorted them
/// as RFC 6724 says, but with the families taking turns, from that of the first address on.
pub(crate) fn interleave<T>(sorted: Vec<T>, address: impl Fn(&T) -> SocketAddr) -> Vec<T> {
    let Some(first) = sorted.first() else { return sorted };
    let family = address(first).is_ipv4();
    if sorted.iter().all(|one| address(one).is_ipv4() == family) {
        return sorted;
    }
    let mut interleaved = Vec::with_capacity(sorted.len());
    let (first, second): (Vec<T>, Vec<T>) =
        sorted.into_iter().partition(|one| address(one).is_ipv4() == family);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        match (first.next(), second.next()) {
            (None, None) => return interleaved,
            (one, other) => interleaved.extend(one.into_iter().chain(other)),
        }
    }
}

/// A race between addresses (RFC 8305, section 5). Times are counted from its beginning.
#[derive(Debug)]
pub(crate) struct Race {
    addresses: usize,
    started: usize,
    running: usize,
    delay: Duration,
    /// When the next attempt starts at the latest.
    due: Duration,
}

/// What to do next in a [`Race`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Begin to connect to the address at this place.
    Start(usize),
    /// Wait for an attempt to end, but no longer than until this time.
    Wait(Option<Duration>),
    /// Nothing is left: all have failed.
    Lost,
}

impl Race {
    /// `delay`: how long an attempt has before the next one joins it.
    pub(crate) fn new(addresses: usize, delay: Duration) -> Self {
        Self { addresses, started: 0, running: 0, delay, due: Duration::ZERO }
    }

    /// What to do now; to be asked again after each start, each end of an attempt, and when a time has come.
    pub(crate) fn next(&mut self, now: Duration) -> Next {
        if self.started == self.addresses {
            return if self.running == 0 { Next::Lost } else { Next::Wait(None) };
        }
        // Without anything to wait for, the next one is not kept waiting either.
        if self.running > 0 && now < self.due {
            return Next::Wait(Some(self.due));
        }
        let place = self.started;
        self.started += 1;
        self.running += 1;
        self.due = now.saturating_add(self.delay);
        Next::Start(place)
    }

    /// An attempt has failed: the next one starts at once.
    pub(crate) fn failed(&mut self) {
        self.running -= 1;
        self.due = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests;
