//! What others' connections cost beside clients that hang in a handshake.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, HandshakeKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::relay::Relay;
use crate::table::{FEW, Work, summary};
use crate::tls::{self, Exchange};
use crate::work::Front;
use crate::{Bench, peers, rows};

const TLS: &str = "beside slow ones: TLS, full";
const PROXY: &str = "beside slow ones: PROXY v2";

/// So many of them, and how long they are watched with nobody else there; all relays give them at least 30 s.
fn slow_ones(bench: &Bench) -> (usize, Duration) {
    if bench.quick { (300, Duration::from_secs(1)) } else { (1_000, Duration::from_secs(3)) }
}

pub(crate) fn run(bench: &Bench) {
    if bench.wants(TLS)
        && let Some(relays) = tls::start(bench)
    {
        let config = tls::client(&bench.folder, &TLS13, Exchange::Classic, Resumption::disabled());
        let hello: Arc<[u8]> = client_hello(&config).into();
        let count = if bench.quick { 300 } else { 1_000 };
        let others = |relay: &Relay| {
            let (address, config) = (relay.address(), Arc::clone(&config));
            let work = move || {
                bench.runtime.block_on(tls::handshakes(address, &config, count, HandshakeKind::Full));
                count as f64
            };
            Box::new(work) as Work<'_>
        };
        measure(TLS, bench, &relays, &others, &|relay| (relay.front(), Arc::clone(&hello)));
    }
    if bench.wants(PROXY) {
        let relays = peers::start_few(bench, 1);
        let others = |relay: &Relay| bench.connects(relay.proxied(rows::V2));
        measure(PROXY, bench, &relays, &others, &|relay| (relay.proxied(&[]), Arc::new([])));
    }
}

/// The first thing that a client says.
fn client_hello(config: &Arc<ClientConfig>) -> Vec<u8> {
    let name = ServerName::try_from("localhost").expect("a name");
    let mut client = ClientConnection::new(Arc::clone(config), name).expect("a client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("memory takes all");
    hello
}

/// Clients that send so much, a byte a second, and never the last one. They are gone with what this gives.
async fn hang(front: &Front, count: usize, bytes: &Arc<[u8]>) -> JoinSet<()> {
    let (Front::Tcp(address) | Front::Proxied(address, _)) = *front else { unreachable!("over TCP") };
    let mut going = JoinSet::new();
    for _ in 0..count {
        // Each at a moment of its own, and no more than a backlog holds.
        sleep(Duration::from_millis(1)).await;
        let mut stream = TcpStream::connect(address).await.expect("connect");
        let bytes = Arc::clone(bytes);
        going.spawn(async move {
            let (mut read, mut write) = stream.split();
            let sending = async {
                for byte in bytes.iter().take(bytes.len().saturating_sub(1)) {
                    if write.write_u8(*byte).await.is_err() {
                        return;
                    }
                    sleep(Duration::from_secs(1)).await;
                }
                std::future::pending::<()>().await;
            };
            // A relay that answers, or closes, ends this client.
            tokio::select! {
                _ = read.read_u8() => {}
                () = sending => {}
            }
        });
    }
    going
}

/// Where slow clients of a relay connect, and what they say.
type Slow<'a> = &'a dyn Fn(&Relay) -> (Front, Arc<[u8]>);

/// What others do.
type Others<'a> = &'a dyn Fn(&Relay) -> Work<'a>;

fn measure(name: &str, bench: &Bench, relays: &[Relay], others: Others<'_>, slow: Slow<'_>) {
    println!(
        "\n{:<34}{:<20}{:>20}{:>20}{:>22}{:>12}",
        name, "", "without, µs", "with, µs", "slow alone, ms/s", "with/without"
    );
    let (count, watched) = slow_ones(bench);
    let mut samples = vec![(Vec::new(), Vec::new(), Vec::new()); relays.len()];
    for round in 0..FEW {
        for place in 0..relays.len() {
            let place = (place + round) % relays.len();
            let relay = &relays[place];
            relay.settle();
            let spent = |mut work: Work<'_>| {
                let (begun, before) = (Instant::now(), relay.cpu());
                let units = work();
                ((relay.cpu() - before).as_secs_f64(), begun.elapsed().as_secs_f64(), units)
            };
            // The first of a relay also fill what is shared.
            if round == 0 {
                others(relay)();
            }
            let (without, _, units) = spent(others(relay));
            let (front, bytes) = slow(relay);
            let mut hanging = bench.runtime.block_on(hang(&front, count, &bytes));
            bench.wait(Duration::from_secs(1));
            let alone = spent(Box::new(|| {
                bench.wait(watched);
                1.0
            }));
            let rate = alone.0 / alone.1;
            let with = spent(others(relay));
            assert!(hanging.try_join_next().is_none(), "{} does not let them hang", relay.name);
            drop(hanging);
            bench.wait(Duration::from_millis(200));
            samples[place].0.push(without / units * 1e6);
            // What the slow ones take by themselves is not the others' cost.
            samples[place].1.push((with.0 - rate * with.1) / with.2 * 1e6);
            samples[place].2.push(rate * 1e3);
        }
    }
    for (relay, (without, with, alone)) in relays.iter().zip(samples) {
        let figures = [without, with, alone].map(|samples| summary(samples).expect("rounds"));
        let [without, with, alone] = figures;
        println!(
            "{:<34}{:<20}{:>20}{:>20}{:>22}{:>12.2}",
            "",
            relay.name,
            format!("{:.1} ± {:.1}", without.0, without.1),
            format!("{:.1} ± {:.1}", with.0, with.1),
            format!("{:.2} ± {:.2}", alone.0, alone.1),
            with.0 / without.0,
        );
    }
}
