//! Chance, the same for the same seed, for tests in which several tasks use a service in any order.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

/// What nothing should take, by far; also where the clock is a real one.
pub(super) const FOR_EVER: Duration = Duration::from_secs(300);

#[derive(Clone)]
pub(super) struct Chance(Arc<Mutex<fastrand::Rng>>);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))))
    }

    pub(super) fn below(&self, bound: u64) -> u64 {
        self.0.lock().unwrap().u64(0..bound)
    }

    pub(super) fn millis(&self, most: u64) -> Duration {
        Duration::from_millis(self.below(most))
    }

    /// Some time, often none.
    pub(super) async fn linger(&self, most: u64) {
        match self.below(3) {
            0 => {}
            1 => tokio::task::yield_now().await,
            _ => sleep(self.millis(most)).await,
        }
    }
}

/// Does it with many seeds, one after the other; what was done must be more than the seeds.
pub(super) async fn many_times(round: impl AsyncFn(u64) -> u64) {
    let rounds = if cfg!(miri) { 4 } else { 500 };
    let mut done = 0;
    for seed in 0..rounds {
        done += round(seed).await;
    }
    assert!(done > rounds, "{done}");
}

/// Does it with many seeds at once, on two threads.
pub(super) fn on_two_threads<F: Future<Output = u64> + Send + 'static>(round: impl Fn(u64) -> F) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let rounds = if cfg!(miri) { 2 } else { 100 };
    runtime.block_on(async {
        let mut rounds: JoinSet<_> = (1000..1000 + rounds).map(round).collect();
        while let Some(done) = rounds.join_next().await {
            done.unwrap();
        }
    });
}
