//! Measuring relays in turn, and a row for each kind of work.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use crate::relay::Relay;

/// A row of the table: CPU of each relay for a unit of work.
pub(crate) struct Row<'a> {
    pub(crate) name: &'a str,
    pub(crate) unit: &'static str,
    /// So many rounds, each relay once in each, after one that does not count.
    pub(crate) rounds: usize,
    pub(crate) needs: Needs,
    pub(crate) prepare: Prepare<'a>,
}

/// Makes what must be there before some work is measured, such as connections, and gives the work.
pub(crate) type Prepare<'a> = Box<dyn Fn(&Relay) -> Work<'a> + 'a>;

/// Does what is measured, and says how many units that was. What it holds is gone when it is dropped, and not before.
pub(crate) type Work<'a> = Box<dyn FnMut() -> f64 + 'a>;

/// CPU that a relay takes for some work, and how many units that was.
pub(crate) fn taken(relay: &Relay, work: &mut Work<'_>) -> (Duration, f64) {
    let before = relay.cpu();
    let units = work();
    (relay.cpu().saturating_sub(before), units)
}

/// What a relay must do for a row.
#[derive(Clone, Copy)]
pub(crate) enum Needs {
    Nothing,
    /// Take a PROXY header.
    Proxy,
    /// Pass on what still comes from one side when the other has ended.
    HalfCloses,
}

impl Needs {
    fn are_met_by(self, relay: &Relay) -> bool {
        match self {
            Self::Nothing => true,
            Self::Proxy => relay.takes_proxy(),
            Self::HalfCloses => !relay.cuts(),
        }
    }
}

/// Rounds of a short run. With fewer, quartiles would say little.
pub(crate) const FEW: usize = 5;

impl Row<'_> {
    /// Measures each relay, prints what they take, and the ratio of ours to the best of the others.
    pub(crate) fn measure(&self, relays: &[Relay], quick: bool) {
        let samples = self.samples(relays, quick);
        let medians: Vec<_> = samples.into_iter().map(summary).collect();
        print_row(self.name, self.unit, &medians);
        let peers = relays.iter().zip(&medians).filter(|(relay, _)| relay.is_peer());
        let best = peers.filter_map(|(_, median)| Some((*median)?.0)).fold(f64::INFINITY, f64::min);
        match medians[0] {
            Some((ours, _)) if best.is_finite() => println!("{:>12.2}", ours / best),
            _ => println!(),
        }
    }

    /// What a unit takes of each relay in each round; nothing of one that cannot do it.
    pub(crate) fn samples(&self, relays: &[Relay], quick: bool) -> Vec<Vec<f64>> {
        let rounds = if quick { FEW } else { self.rounds };
        let mut samples = vec![Vec::new(); relays.len()];
        for round in 0..=rounds {
            for place in 0..relays.len() {
                // Each round begins with another one, so that none always follows the same one.
                let place = (place + round) % relays.len();
                let relay = &relays[place];
                if !self.needs.are_met_by(relay) {
                    continue;
                }
                if let Some((used, units)) = self.round(relay)
                    && round > 0
                {
                    samples[place].push(scaled(used, self.unit) / units);
                }
            }
        }
        samples
    }

    /// Nothing where a relay fails that may.
    fn round(&self, relay: &Relay) -> Option<(Duration, f64)> {
        match catch_unwind(AssertUnwindSafe(|| taken(relay, &mut (self.prepare)(relay)))) {
            Ok(measured) => Some(measured),
            Err(_) if relay.may_fail() => {
                eprintln!("{}: a round of {} has failed, and does not count", self.name, relay.name);
                None
            }
            Err(panic) => resume_unwind(panic),
        }
    }
}

/// The names of columns, without the end of the line.
pub(crate) fn print_head(title: &str, relays: &[Relay]) {
    print!("\n{title:<34}");
    for relay in relays {
        print!("{:>22}", relay.name);
    }
}

/// A row without the end of its line.
pub(crate) fn print_row(name: &str, unit: &str, medians: &[Option<(f64, f64)>]) {
    print!("{:<34}", format!("{name}, {unit}"));
    for median in medians {
        match median {
            Some((median, spread)) => print!("{:>22}", format!("{median:.3} ± {spread:.3}")),
            None => print!("{:>22}", "–"),
        }
    }
}

pub(crate) fn scaled(used: Duration, unit: &str) -> f64 {
    if unit == "µs" { used.as_secs_f64() * 1e6 } else { used.as_secs_f64() }
}

/// The median, and half the distance of the quartiles.
pub(crate) fn summary(mut samples: Vec<f64>) -> Option<(f64, f64)> {
    if samples.is_empty() {
        return None;
    }
    samples.sort_by(f64::total_cmp);
    let half_distance = (quartile(&samples, 3) - quartile(&samples, 1)) / 2.0;
    Some((quartile(&samples, 2), half_distance))
}

/// A quartile of what is sorted; between two samples it lies on the line from one to the other.
const fn quartile(sorted: &[f64], which: usize) -> f64 {
    let (place, beyond) = ((sorted.len() - 1) * which / 4, (sorted.len() - 1) * which % 4);
    let at = sorted[place];
    if beyond == 0 { at } else { at + (sorted[place + 1] - at) * beyond as f64 / 4.0 }
}

const _: () = {
    assert!(quartile(&[1.0, 5.0], 2) == 3.0);
    assert!(quartile(&[1.0, 2.0, 6.0], 1) == 1.5 && quartile(&[1.0, 2.0, 6.0], 3) == 4.0);
    assert!(quartile(&[1.0, 2.0, 3.0, 4.0, 9.0], 3) == 4.0 && quartile(&[7.0], 3) == 7.0);
};
