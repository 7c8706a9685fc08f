//! Relays side by side; started by `tests/bench/relay`, which sets the network up.

mod peers;
mod work;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use peers::Relay;
use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::runtime::{Builder, Runtime};
use work::{Front, PingPong, Way};

/// A row of the table: CPU of each relay for a unit of work.
struct Row {
    name: &'static str,
    unit: &'static str,
    /// So many rounds, each relay once in each, after one that does not count.
    rounds: usize,
    needs: Needs,
    /// Does some work, and says how many units that was; what it takes is of the relay in one unit's own measure.
    run: fn(&Runtime, &Relay, bool) -> f64,
}

/// What a relay must do for a row.
#[derive(Clone, Copy)]
enum Needs {
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
            Self::Proxy => relay.takes_proxy,
            Self::HalfCloses => !relay.cuts,
        }
    }
}

const V1: &[u8] = b"PROXY TCP4 127.0.0.1 127.0.0.1 40000 80\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\x9c\x40\0\x50";

fn tcp(relay: &Relay) -> Front {
    Front::Tcp(([127, 0, 0, 1], relay.place.port).into())
}

fn proxied(relay: &Relay, header: &'static [u8]) -> Front {
    Front::Proxied(([127, 0, 0, 1], relay.place.port + 1).into(), header)
}

fn unix(relay: &Relay) -> Front {
    Front::Unix(relay.place.unix())
}

fn bulk(runtime: &Runtime, front: &Front, connections: usize, way: Way, quick: bool) -> f64 {
    let each = (if quick { 256 << 20 } else { 2 << 30 }) / connections as u64;
    runtime.block_on(work::bulk(front, connections, each, way));
    (each * connections as u64) as f64 / 1e9
}

fn ping_pong(runtime: &Runtime, front: &Front, connections: usize, quick: bool) -> f64 {
    let rounds = (if quick { 5_000 } else { 40_000 }) / connections;
    runtime.block_on(async {
        let mut streams = PingPong::new(front, connections).await;
        streams.run(rounds).await;
    });
    (rounds * connections) as f64
}

fn connects(runtime: &Runtime, front: &Front, quick: bool) -> f64 {
    let count = if quick { 500 } else { 4_000 };
    runtime.block_on(work::connects(front, count));
    count as f64
}

const ROWS: [Row; 13] = [
    Row {
        name: "bulk up, 1 connection",
        unit: "s/GB",
        rounds: 5,
        needs: Needs::Nothing,
        run: |runtime, relay, quick| bulk(runtime, &tcp(relay), 1, Way::Up, quick),
    },
    Row {
        name: "bulk down, 1 connection",
        unit: "s/GB",
        rounds: 5,
        needs: Needs::Nothing,
        run: |runtime, relay, quick| bulk(runtime, &tcp(relay), 1, Way::Down, quick),
    },
    Row {
        name: "bulk up, 8 connections",
        unit: "s/GB",
        rounds: 5,
        needs: Needs::Nothing,
        run: |runtime, relay, quick| bulk(runtime, &tcp(relay), 8, Way::Up, quick),
    },
    Row {
        name: "bulk down, 8 connections",
        unit: "s/GB",
        rounds: 5,
        needs: Needs::Nothing,
        run: |runtime, relay, quick| bulk(runtime, &tcp(relay), 8, Way::Down, quick),
    },
    Row {
        name: "duplex, 1 connection",
        unit: "s/GB",
        rounds: 5,
        needs: Needs::HalfCloses,
        run: |runtime, relay, quick| bulk(runtime, &tcp(relay), 1, Way::Duplex, quick),
    },
    Row {
        name: "duplex, 8 connections",
        unit: "s/GB",
        rounds: 5,
        needs: Needs::HalfCloses,
        run: |runtime, relay, quick| bulk(runtime, &tcp(relay), 8, Way::Duplex, quick),
    },
    Row {
        name: "ping-pong, 1 connection",
        unit: "µs",
        rounds: 7,
        needs: Needs::Nothing,
        run: |runtime, relay, quick| ping_pong(runtime, &tcp(relay), 1, quick),
    },
    Row {
        name: "ping-pong, 64 connections",
        unit: "µs",
        rounds: 7,
        needs: Needs::Nothing,
        run: |runtime, relay, quick| ping_pong(runtime, &tcp(relay), 64, quick),
    },
    Row {
        name: "connect, a byte, close",
        unit: "µs",
        rounds: 7,
        needs: Needs::Nothing,
        run: |runtime, relay, quick| connects(runtime, &tcp(relay), quick),
    },
    Row {
        name: "the same behind PROXY v1",
        unit: "µs",
        rounds: 7,
        needs: Needs::Proxy,
        run: |runtime, relay, quick| connects(runtime, &proxied(relay, V1), quick),
    },
    Row {
        name: "the same behind PROXY v2",
        unit: "µs",
        rounds: 7,
        needs: Needs::Proxy,
        run: |runtime, relay, quick| connects(runtime, &proxied(relay, V2), quick),
    },
    Row {
        name: "unix bulk, 1 connection",
        unit: "s/GB",
        rounds: 5,
        needs: Needs::Nothing,
        run: |runtime, relay, quick| bulk(runtime, &unix(relay), 1, Way::Up, quick),
    },
    Row {
        name: "unix bulk, 8 connections",
        unit: "s/GB",
        rounds: 5,
        needs: Needs::Nothing,
        run: |runtime, relay, quick| bulk(runtime, &unix(relay), 8, Way::Up, quick),
    },
];

/// What it is told to do.
#[derive(Default)]
struct Arguments {
    quick: bool,
    /// The command, where it is not beside this program.
    command: Option<PathBuf>,
    /// Another build of it, to be compared.
    beside: Option<PathBuf>,
    /// Parts of the names of rows; none stands for all.
    wanted: Vec<String>,
}

impl Arguments {
    fn read() -> Self {
        let mut read = Self::default();
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                // From cargo.
                "--bench" => {}
                "--quick" => read.quick = true,
                "--command" => read.command = Some(arguments.next().expect("--command FILE").into()),
                "--beside" => read.beside = Some(arguments.next().expect("--beside FILE").into()),
                _ if argument.starts_with('-') => panic!("there is no option {argument}"),
                _ => read.wanted.push(argument),
            }
        }
        read
    }
}

fn main() {
    let Arguments { quick, command, beside, wanted } = Arguments::read();
    if fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").is_ok_and(|used| used.trim() != "reno")
    {
        println!("relays are measured by tests/bench/relay, in a network of their own");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut first = CpuSet::new();
    first.set(0);
    sched_setaffinity(None, &first).expect("the first processor");
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    // The load never sleeps: waking an idle processor takes longer than all that a relay does for a small message, is paid by who
    // wakes it, and is different each time.
    runtime.spawn(async {
        loop {
            tokio::task::yield_now().await;
        }
    });
    let backend = runtime.block_on(work::backend(&folder.path().join("backend"))).expect("a port");
    let executable = std::env::current_exe().expect("the bench has a path");
    let endpoints = command.unwrap_or_else(|| {
        executable.ancestors().nth(2).expect("target/release/deps/relays").join("endpoints")
    });
    let relays = peers::start(&endpoints, beside.as_deref(), folder.path(), backend);
    print!("{:<28}", "CPU of the relay");
    for relay in &relays {
        print!("{:>22}", relay.name);
    }
    println!("{:>12}", "ours/best");
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|one| name.contains(one.as_str()));
    for row in ROWS.iter().filter(|row| wants(row.name)) {
        measure(row, &runtime, &relays, quick);
    }
    if wants("idle connection") {
        idle(&runtime, &relays, quick);
    }
    drop(relays);
    if wants("both processors") {
        let mut all = CpuSet::new();
        (0..2).for_each(|processor| all.set(processor));
        sched_setaffinity(None, &all).expect("two processors");
        spread(&runtime, &endpoints, folder.path(), backend, quick);
    }
}

fn measure(row: &Row, runtime: &Runtime, relays: &[Relay], quick: bool) {
    let rounds = if quick { 3 } else { row.rounds };
    let mut samples = vec![Vec::new(); relays.len()];
    for round in 0..=rounds {
        for place in 0..relays.len() {
            // Each round begins with another one, so that none always follows the same one.
            let place = (place + round) % relays.len();
            let relay = &relays[place];
            if !row.needs.are_met_by(relay) {
                continue;
            }
            let before = relay.cpu();
            let units = (row.run)(runtime, relay, quick);
            let used = relay.cpu().saturating_sub(before);
            if round > 0 {
                samples[place].push(scaled(used, row.unit) / units);
            }
        }
    }
    let medians: Vec<Option<(f64, f64)>> = samples.into_iter().map(summary).collect();
    print!("{:<28}", format!("{}, {}", row.name, row.unit));
    for median in &medians {
        match median {
            Some((median, spread)) => print!("{:>22}", format!("{median:.3} ± {spread:.3}")),
            None => print!("{:>22}", "–"),
        }
    }
    // Beside us stands another build of ours, where one is given.
    let peers =
        relays.iter().zip(&medians).filter(|(relay, _)| !relay.name.starts_with("endpoints") && !relay.cuts);
    let best = peers.filter_map(|(_, median)| Some((*median)?.0)).fold(f64::INFINITY, f64::min);
    match medians[0] {
        Some((ours, _)) if best.is_finite() => println!("{:>12.2}", ours / best),
        _ => println!(),
    }
}

fn scaled(used: Duration, unit: &str) -> f64 {
    if unit == "µs" { used.as_secs_f64() * 1e6 } else { used.as_secs_f64() }
}

/// The median, and half the distance of the quartiles.
fn summary(mut samples: Vec<f64>) -> Option<(f64, f64)> {
    samples.sort_by(f64::total_cmp);
    let last = samples.len().checked_sub(1)?;
    let quartile = |part: usize| samples[last * part / 4];
    Some((quartile(2), (quartile(3) - quartile(1)) / 2.0))
}

/// How the work is shared by two workers, and what that costs. They and the load have both processors together.
fn spread(runtime: &Runtime, endpoints: &Path, folder: &Path, backend: u16, quick: bool) {
    let rounds = if quick { 3 } else { 7 };
    println!(
        "\n{:<28}{:>22}{:>30}{:>22}",
        "both processors", "workers: 1", "workers: 2 (share of less)", "2/1"
    );
    let relays = [1, 2].map(|workers| peers::spread(endpoints, folder, backend, workers));
    let crowd = |relay: &Relay| {
        let each = if quick { 20 } else { 200 };
        runtime.block_on(work::crowd(&tcp(relay), 32, each));
        (32 * each) as f64
    };
    let talk = |relay: &Relay| ping_pong(runtime, &tcp(relay), 64, quick);
    let talks = ("ping-pong, 64 connections", &talk as &dyn Fn(&Relay) -> f64);
    for (name, work) in [talks, ("connect, 32 at a time", &crowd)] {
        let mut samples = [Vec::new(), Vec::new()];
        let mut shares = Vec::new();
        for round in 0..=rounds {
            for (place, relay) in relays.iter().enumerate() {
                let (before, threads) = (relay.cpu(), relay.threads());
                let units = work(relay);
                if round == 0 {
                    continue;
                }
                samples[place].push(scaled(relay.cpu() - before, "µs") / units);
                if place == 1 {
                    let mut used: Vec<u64> =
                        relay.threads().iter().zip(threads).map(|(now, then)| now - then).collect();
                    used.sort_unstable();
                    let last = used.len() - 1;
                    shares.push(used[last - 1] as f64 / (used[last] + used[last - 1]) as f64);
                }
            }
        }
        let [one, two] = samples.map(|samples| summary(samples).expect("rounds"));
        let share = summary(shares).expect("rounds").0 * 100.0;
        println!(
            "{:<28}{:>22}{:>30}{:>22.2}",
            format!("{name}, µs"),
            format!("{:.3} ± {:.3}", one.0, one.1),
            format!("{:.3} ± {:.3} ({share:.0} %)", two.0, two.1),
            two.0 / one.0,
        );
    }
}

/// What an idle connection costs.
fn idle(runtime: &Runtime, relays: &[Relay], quick: bool) {
    let count = if quick { 200 } else { 2_000 };
    print!("{:<28}", "idle connection, KiB");
    for relay in relays {
        // After the first ones, which fill what is shared.
        let few = runtime.block_on(work::idle(&tcp(relay), 50));
        let before = relay.memory();
        let many = runtime.block_on(work::idle(&tcp(relay), count));
        let more = relay.memory().saturating_sub(before);
        print!("{:>22.2}", more as f64 / 1024.0 / count as f64);
        drop((few, many));
    }
    println!();
}
