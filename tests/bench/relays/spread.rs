//! Two workers on two processors, together with what loads them.

use std::fmt;

use crate::relay::Relay;
use crate::table::{FEW, Prepare, summary, taken};
use crate::work::{self, CROWD};
use crate::{Bench, peers};

/// How the work is shared by two workers, and what that costs.
pub(crate) fn run(bench: &mut Bench) {
    if bench.wants("both processors") {
        bench.use_both_processors();
        workers(bench);
        beside_peers(bench);
    }
}

struct Shared {
    median: f64,
    spread: f64,
    /// The share of the thread that has less of the two that have most, in percent.
    share: f64,
    /// How often one of them goes to sleep for each unit.
    sleeps: f64,
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, spread, share, sleeps } = self;
        f.pad(&format!("{median:.2} ± {spread:.2} ({share:.0} %, {sleeps:.2})"))
    }
}

fn measure(bench: &Bench, relays: &[Relay], prepare: &Prepare<'_>) -> Vec<Shared> {
    let mut samples = vec![(Vec::new(), Vec::new(), Vec::new()); relays.len()];
    for round in 0..=if bench.quick { FEW } else { 7 } {
        for place in 0..relays.len() {
            let place = (place + round) % relays.len();
            let relay = &relays[place];
            let mut work = prepare(relay);
            let (threads, sleeps) = (relay.threads(), relay.sleeps());
            let (used, units) = taken(relay, &mut work);
            if round == 0 {
                continue;
            }
            let sleeps = relay.sleeps().saturating_sub(sleeps);
            let mut each: Vec<u64> =
                relay.threads().iter().zip(threads).map(|(now, then)| now - then).collect();
            each.sort_unstable();
            let last = each.len() - 1;
            samples[place].0.push(used.as_secs_f64() * 1e6 / units);
            samples[place].1.push(each[last - 1] as f64 / (each[last] + each[last - 1]) as f64);
            samples[place].2.push(sleeps as f64 / units);
        }
    }
    let median = |samples| summary(samples).expect("rounds").0;
    let shared = samples.into_iter().map(|(taken, shares, sleeps)| {
        let (taken, spread) = summary(taken).expect("rounds");
        Shared { median: taken, spread, share: median(shares) * 100.0, sleeps: median(sleeps) }
    });
    shared.collect()
}

/// Ours, with one worker and with two.
fn workers(bench: &Bench) {
    println!(
        "\n{:<34}{:>22}{:>34}{:>12}",
        "both processors", "workers: 1", "2 (share of less, sleeps)", "2/1"
    );
    let relays = [1, 2].map(|workers| peers::spread(bench, workers));
    let crowd: Prepare<'_> = Box::new(|relay| {
        let (front, each) = (relay.front(), if bench.quick { 20 } else { 200 });
        Box::new(move || {
            bench.runtime.block_on(work::crowd(&front, each));
            (CROWD * each) as f64
        })
    });
    let talk: Prepare<'_> = Box::new(|relay| bench.ping_pong(&relay.front(), 64));
    let connecting = format!("connect, {CROWD} at a time");
    for (name, prepare) in [("ping-pong, 64 connections", talk), (&*connecting, crowd)] {
        let shared = measure(bench, &relays, &prepare);
        let (one, two) = (&shared[0], &shared[1]);
        println!(
            "{:<34}{:>22}{two:>34}{:>12.2}",
            format!("{name}, µs"),
            format!("{:.2} ± {:.2}", one.median, one.spread),
            two.median / one.median,
        );
    }
}

/// Two workers of each.
fn beside_peers(bench: &Bench) {
    let relays = peers::start_few(bench, 2);
    print!("\n{:<34}", "both processors, 2 workers");
    for relay in &relays {
        print!("{:>28}", relay.name);
    }
    println!("{:>12}", "ours/best");
    let talk: Prepare<'_> = Box::new(|relay| bench.ping_pong(&relay.front(), 64));
    let shared = measure(bench, &relays, &talk);
    print!("{:<34}", "ping-pong, 64 connections, µs");
    for shared in &shared {
        print!("{shared:>28}");
    }
    let peers = relays.iter().zip(&shared).filter(|(relay, _)| !relay.is_ours());
    let best = peers.map(|(_, shared)| shared.median).fold(f64::INFINITY, f64::min);
    println!("{:>12.2}", shared[0].median / best);
}
