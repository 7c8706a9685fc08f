//! A service that several tasks use at once, in any order, while its endpoint does as it likes: nobody waits for ever, and
//! nothing is left open.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::script::Stage;
use crate::connection::Connection;
use crate::serve::Stopping;
use crate::service::chance::{Chance, FOR_EVER, many_times, on_two_threads};
use crate::service::{ClientService, ClientState};

/// How many connections are in use, and how many there were.
#[derive(Clone, Default)]
struct Used(Arc<(AtomicUsize, AtomicUsize)>);

impl Used {
    fn begin(&self) -> Self {
        assert_eq!(self.0.0.fetch_add(1, Ordering::SeqCst), 0, "there is one connection at a time");
        self.0.1.fetch_add(1, Ordering::SeqCst);
        self.clone()
    }
}

/// The other end: connects, or does not, and ends connections, whenever it likes.
async fn other_end(mut stage: Stage, chance: Chance) {
    loop {
        let attempt = stage.attempt().await;
        let chance = chance.clone();
        tokio::spawn(async move {
            chance.linger(100).await;
            if chance.below(3) == 0 {
                return attempt.fail_if_wanted();
            }
            let mut server = attempt.succeed_if_wanted();
            if chance.below(4) > 0 {
                let _ = server.write_all(b"hello").await;
            }
            chance.linger(200).await;
        });
    }
}

fn service(stage: &Stage, chance: &Chance, used: &Used) -> ClientService<u64> {
    let (chance, used) = (chance.clone(), used.clone());
    let prepare = move |mut connection: Connection, stopping: Stopping| {
        let (chance, counted) = (chance.clone(), Guard(used.begin()));
        async move {
            connection.read_exact(&mut [0; 5]).await?;
            chance.linger(50).await;
            if chance.below(8) == 0 {
                return Err(std::io::Error::other("not this one"));
            }
            let number = chance.below(1000);
            let run = async move {
                let _counted = counted;
                match chance.below(3) {
                    0 => stopping.wait().await,
                    // Longer than it is given.
                    1 => sleep(Duration::from_secs(60)).await,
                    _ => drop(connection.read(&mut [0]).await),
                }
            };
            Ok((number, run))
        }
    };
    ClientService::builder(stage.endpoint.clone())
        .retry_policy(|failures: u64| Duration::from_millis(10 * failures.min(5)))
        .prepare_timeout(Duration::from_millis(300))
        .close_timeout(Duration::from_millis(200))
        .prepare(prepare)
}

/// A connection that is in use, until it is dropped.
struct Guard(Used);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// One of those who use it. What it does ends in time, or is given up; it ends by stopping, so that nobody waits for a
/// connection that nobody wants.
async fn user(service: ClientService<u64>, chance: Chance) {
    for _ in 0..8 {
        chance.linger(80).await;
        let given_up = chance.millis(60);
        match chance.below(6) {
            0 | 1 => service.start().unwrap(),
            2 => drop(timeout(FOR_EVER, service.stop()).await.expect("it stops")),
            3 => drop(timeout(given_up, service.stop()).await),
            4 => drop(timeout(given_up, service.when_connected()).await),
            _ => {
                service.start().unwrap();
                let answer = timeout(FOR_EVER, service.when_connected_within(3)).await;
                drop(answer.expect("it is connected, fails three times, or is stopped"));
            }
        }
    }
    drop(timeout(FOR_EVER, service.stop()).await.expect("it stops"));
}

async fn used_in_any_order(seed: u64, users: u64) -> u64 {
    let chance = Chance::new(seed);
    let (stage, used) = (Stage::new(), Used::default());
    let service = service(&stage, &chance, &used);
    let other_end = tokio::spawn(other_end(stage, chance.clone()));
    let mut using: JoinSet<_> = (0..users).map(|_| user(service.clone(), chance.clone())).collect();
    while let Some(used) = using.join_next().await {
        used.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    let mut state = service.state();
    if seed.is_multiple_of(2) {
        drop(timeout(FOR_EVER, service.stop()).await.expect("it stops"));
        assert!(matches!(*state.borrow_and_update(), ClientState::Stopped), "seed {seed}");
    } else {
        service.start().unwrap();
        chance.linger(100).await;
        drop(service);
        let stopped = state.wait_for(|now| matches!(now, ClientState::Stopped));
        timeout(FOR_EVER, stopped).await.expect("it stops").expect("it is told");
    }
    assert_eq!(used.0.0.load(Ordering::SeqCst), 0, "seed {seed}: a connection is in use still");
    other_end.abort();
    used.0.1.load(Ordering::SeqCst) as u64
}

#[tokio::test(start_paused = true)]
async fn whatever_several_do_with_it_it_stops_and_leaves_nothing() {
    many_times(async |seed| used_in_any_order(seed, 1 + seed % 5).await).await;
}

#[test]
fn so_it_does_on_several_threads() {
    on_two_threads(|seed| used_in_any_order(seed, 4));
}
