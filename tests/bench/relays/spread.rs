//! Two workers on two processors, together with what loads them.

use crate::relay::Relay;
use crate::table::{FEW, print_head, summary};
use crate::{Bench, peers, work};

/// How the work is shared by two workers, and what that costs.
pub(crate) fn run(bench: &Bench) {
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
}

fn measure(bench: &Bench, relays: &[Relay], work: &dyn Fn(&Relay) -> f64) -> Vec<Shared> {
    let mut samples = vec![(Vec::new(), Vec::new()); relays.len()];
    for round in 0..=if bench.quick { FEW } else { 7 } {
        for place in 0..relays.len() {
            let place = (place + round) % relays.len();
            let relay = &relays[place];
            let (before, threads) = (relay.cpu(), relay.threads());
            let units = work(relay);
            if round == 0 {
                continue;
            }
            let taken = (relay.cpu() - before).as_secs_f64() * 1e6 / units;
            let mut used: Vec<u64> =
                relay.threads().iter().zip(threads).map(|(now, then)| now - then).collect();
            used.sort_unstable();
            let last = used.len() - 1;
            samples[place].0.push(taken);
            samples[place].1.push(used[last - 1] as f64 / (used[last] + used[last - 1]) as f64);
        }
    }
    let shared = samples.into_iter().map(|(taken, shares)| {
        let (median, spread) = summary(taken).expect("rounds");
        Shared { median, spread, share: summary(shares).expect("rounds").0 * 100.0 }
    });
    shared.collect()
}

/// Ours, with one worker and with two.
fn workers(bench: &Bench) {
    println!(
        "\n{:<34}{:>22}{:>30}{:>12}",
        "both processors", "workers: 1", "workers: 2 (share of less)", "2/1"
    );
    let relays = [1, 2].map(|workers| peers::spread(bench, workers));
    let crowd = |relay: &Relay| {
        let each = if bench.quick { 20 } else { 200 };
        bench.runtime.block_on(work::crowd(&relay.front(), 32, each));
        (32 * each) as f64
    };
    let talk = |relay: &Relay| bench.ping_pong(&relay.front(), 64);
    let talks = ("ping-pong, 64 connections", &talk as &dyn Fn(&Relay) -> f64);
    for (name, work) in [talks, ("connect, 32 at a time", &crowd)] {
        let shared = measure(bench, &relays, work);
        let (one, two) = (&shared[0], &shared[1]);
        println!(
            "{:<34}{:>22}{:>30}{:>12.2}",
            format!("{name}, µs"),
            format!("{:.3} ± {:.3}", one.median, one.spread),
            format!("{:.3} ± {:.3} ({:.0} %)", two.median, two.spread, two.share),
            two.median / one.median,
        );
    }
}

/// Two workers of each.
fn beside_peers(bench: &Bench) {
    let relays = peers::start_few(bench, 2);
    print_head("both processors, 2 workers", &relays);
    println!("{:>12}", "ours/best");
    let shared = measure(bench, &relays, &|relay| bench.ping_pong(&relay.front(), 64));
    print!("{:<34}", "ping-pong, 64 connections, µs");
    for Shared { median, spread, share } in &shared {
        print!("{:>22}", format!("{median:.2} ± {spread:.2} ({share:.0} %)"));
    }
    let peers = relays.iter().zip(&shared).filter(|(relay, _)| !relay.is_ours());
    let best = peers.map(|(_, shared)| shared.median).fold(f64::INFINITY, f64::min);
    println!("{:>12.2}", shared[0].median / best);
}
