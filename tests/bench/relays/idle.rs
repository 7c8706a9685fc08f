//! What idle connections cost: their memory, and others' time.

use std::time::Duration;

use crate::relay::Relay;
use crate::table::{FEW, summary, taken};
use crate::work::{self, Front, PingPong};
use crate::{Bench, peers};

/// What an idle connection holds of each relay's memory, as a row.
pub(crate) fn memory(
    name: &str,
    bench: &Bench,
    relays: &[Relay],
    count: usize,
    front: impl Fn(&Relay) -> Front,
) {
    print!("{name:<34}");
    for relay in relays {
        // After the first ones, which fill what is shared.
        let few = bench.runtime.block_on(work::idle(&front(relay), 50));
        let before = relay.memory();
        let many = bench.runtime.block_on(work::idle(&front(relay), count));
        let more = relay.memory().saturating_sub(before);
        print!("{:>22.2}", more as f64 / 1024.0 / count as f64);
        drop((few, many));
    }
    println!();
}

/// What others' work costs beside more and more idle connections.
pub(crate) fn beside(bench: &Bench) {
    let kinds = ["beside idle ones: ping-pong", "beside idle ones: connect"];
    if !kinds.iter().any(|kind| bench.wants(kind)) {
        return;
    }
    // A relay has two descriptors for each, and so have clients and backend, which are this one process; 20,000 are what an
    // ordinary user may have at most.
    let levels: &[usize] = if bench.quick { &[10, 100, 1_000] } else { &[10, 100, 1_000, 9_000] };
    let relays = peers::start_few(bench, 1);
    print!("\n{:<34}{:<20}", "idle connections:", "");
    for level in levels {
        print!("{level:>20}");
    }
    println!("{:>12}", "last/first");
    let mut samples = vec![vec![[Vec::new(), Vec::new()]; levels.len()]; relays.len()];
    for round in 0..FEW {
        for place in 0..relays.len() {
            let place = (place + round) % relays.len();
            let (relay, front) = (&relays[place], relays[place].front());
            let mut idle: Vec<PingPong> = Vec::new();
            let mut there = 0;
            for (level, count) in levels.iter().enumerate() {
                idle.push(bench.runtime.block_on(work::idle(&front, count - there)));
                there = *count;
                relay.settle();
                for (kind, samples) in samples[place][level].iter_mut().enumerate() {
                    let mut work = match kind {
                        0 => bench.ping_pong(&front, 1),
                        _ => bench.connects(front.clone()),
                    };
                    let (used, units) = taken(relay, &mut work);
                    samples.push(used.as_secs_f64() * 1e6 / units);
                }
            }
            drop(idle);
            // The backend learns of it only while the runtime runs.
            bench.wait(Duration::from_millis(200));
            relay.settle();
        }
    }
    for (kind, name) in kinds.iter().enumerate().filter(|(_, name)| bench.wants(name)) {
        for (relay, samples) in relays.iter().zip(&samples) {
            print!("{:<34}{:<20}", format!("{name}, µs"), relay.name);
            let figures: Vec<_> =
                samples.iter().map(|level| summary(level[kind].clone()).expect("rounds")).collect();
            for (median, spread) in &figures {
                print!("{:>20}", format!("{median:.2} ± {spread:.2}"));
            }
            println!("{:>12.2}", figures[figures.len() - 1].0 / figures[0].0);
        }
    }
}
