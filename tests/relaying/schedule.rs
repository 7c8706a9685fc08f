//! What the two ends of a connection do, made from a seed.

use std::time::Duration;

use fastrand::Rng;

use crate::joined::Kind;

/// One connection's course.
#[derive(Debug)]
pub(crate) struct Schedule {
    pub(crate) front: Kind,
    pub(crate) back: Kind,
    /// Whether all plugins are loaded from their files.
    pub(crate) loaded: bool,
    pub(crate) near: Side,
    pub(crate) far: Side,
    /// The receive buffer of the near end, where it is TCP.
    pub(crate) window: Option<u32>,
}

/// What one end does; it sends and receives at the same time.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) sends: Vec<Send>,
    pub(crate) receives: Vec<Receive>,
    /// Where it goes away without a word, instead of ending what it sends.
    pub(crate) cut: Option<Cut>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Send {
    Piece(usize),
    Rest(Duration),
    /// Waits until the other side has ended, as those do that answer a whole request.
    AwaitEnd,
}

/// So many bytes, at most so many at a time, with a rest before each; at the end of the list it reads as it comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Receive {
    pub(crate) bytes: usize,
    pub(crate) piece: usize,
    pub(crate) rest: Duration,
}

/// When an end goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// When all its pieces are sent.
    Sent,
    /// When it has received so many bytes, if it comes to that; else as above.
    Received(usize),
}

/// What the near end sends before all others, as it does behind a PROXY header.
pub(crate) const FIRST: usize = 1000;

impl Schedule {
    pub(crate) fn new(seed: u64, pairs: &[(Kind, Kind)]) -> Self {
        let mut random = Rng::with_seed(seed);
        let (front, back) = pairs[random.usize(..pairs.len())];
        let (mut near, mut far) = (Side::new(&mut random), Side::new(&mut random));
        match random.u8(..8) {
            0 => near.cut = Some(Cut::new(&mut random)),
            1 => far.cut = Some(Cut::new(&mut random)),
            2 | 3 => near.sends.push(Send::AwaitEnd),
            4 => far.sends.push(Send::AwaitEnd),
            // The server's answer to what has come to its end.
            5 => far.sends.insert(0, Send::AwaitEnd),
            _ => {}
        }
        let window = (random.u8(..8) == 0).then(|| random.u32(20_000..200_000));
        Self { front, back, loaded: random.bool(), near, far, window }
    }
}

impl Side {
    fn new(random: &mut Rng) -> Self {
        let mut sends = Vec::new();
        match random.u8(..6) {
            0 => {}
            1 => small(random, &mut sends),
            2 | 3 => bulk(random, &mut sends),
            // So that moving begins and ends.
            _ => {
                for _ in 0..random.u8(1..4) {
                    bulk(random, &mut sends);
                    small(random, &mut sends);
                }
            }
        }
        let mut receives = Vec::new();
        if random.u8(..3) == 0 {
            for _ in 0..random.u8(1..4) {
                let piece = 1 + scaled(random, 65_536);
                receives.push(Receive {
                    bytes: piece * random.usize(1..20),
                    piece,
                    rest: if random.bool() { rest(random) } else { Duration::ZERO },
                });
            }
        }
        Self { sends, receives, cut: None }
    }

    pub(crate) fn sent(&self) -> usize {
        self.sends.iter().map(|send| if let Send::Piece(bytes) = send { *bytes } else { 0 }).sum()
    }
}

impl Cut {
    fn new(random: &mut Rng) -> Self {
        if random.bool() { Self::Sent } else { Self::Received(scaled(random, 1 << 20)) }
    }
}

/// More than two full reads, from which on the kernel moves what comes.
fn bulk(random: &mut Rng, sends: &mut Vec<Send>) {
    let mut left = 200_000 + scaled(random, 600_000);
    while left > 0 {
        let piece = (1 + random.usize(..300_000)).min(left);
        sends.push(Send::Piece(piece));
        left -= piece;
        if random.u8(..8) == 0 {
            sends.push(Send::Rest(rest(random)));
        }
    }
}

/// Some pieces, with rests between so that each is read by itself.
fn small(random: &mut Rng, sends: &mut Vec<Send>) {
    for _ in 0..random.u8(1..12) {
        sends.push(Send::Piece(1 + scaled(random, 20_000)));
        sends.push(Send::Rest(rest(random)));
    }
}

fn rest(random: &mut Rng) -> Duration {
    Duration::from_micros(random.u64(..1500))
}

/// Small numbers as often as large ones.
fn scaled(random: &mut Rng, most: usize) -> usize {
    let scale = random.u8(..12);
    random.usize(..=most >> scale)
}
