//! How long handshakes took.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of the buckets, in seconds: from TLS between neighbours, by way of half the world, to the 30 s that a
/// handshake has unless told otherwise. What takes longer is in one more bucket.
const BOUNDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

const BUCKETS: usize = BOUNDS.len() + 1;

/// A histogram that takes no lock, as every connection passes here.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    counts: [AtomicU64; BUCKETS],
    nanoseconds: AtomicU64,
}

/// What a histogram has at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times {
    counts: [u64; BUCKETS],
    sum: Duration,
}

impl Handshakes {
    pub(super) fn record(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        // Enough for 584 years of handshakes.
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    pub(super) fn times(&self) -> Times {
        Times {
            counts: self.counts.each_ref().map(|count| count.load(Ordering::Relaxed)),
            sum: Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)),
        }
    }
}

impl Times {
    /// Handshakes that were done.
    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// In seconds, of all together.
    pub(super) fn sum(&self) -> f64 {
        self.sum.as_secs_f64()
    }

    /// The upper bound of each bucket in seconds, and how many are in it and in none before.
    pub(super) fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        BOUNDS.into_iter().chain([f64::INFINITY]).zip(self.counts)
    }

    /// An estimate of the time that this part of all did not exceed: as Prometheus' `histogram_quantile` makes it, evenly
    /// spread within a bucket, and the greatest bound for what is beyond it. `None` where there were none.
    pub(super) fn quantile(&self, part: f64) -> Option<f64> {
        let rank = part * self.count() as f64;
        let (mut lower, mut before) = (0.0, 0.0);
        for (upper, count) in self.buckets() {
            let count = count as f64;
            if count > 0.0 && before + count >= rank {
                let within = lower + (upper - lower) * (rank - before) / count;
                return Some(if upper.is_finite() { within } else { lower });
            }
            before += count;
            lower = upper;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(milliseconds: impl IntoIterator<Item = u64>) -> Times {
        let handshakes = Handshakes::default();
        milliseconds.into_iter().for_each(|time| handshakes.record(Duration::from_millis(time)));
        handshakes.times()
    }

    #[test]
    fn a_time_is_in_the_first_bucket_that_it_does_not_exceed() {
        let times = times([0, 1, 2, 30_000, 30_001]);
        let filled: Vec<(f64, u64)> = times.buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.001, 2), (0.0025, 1), (30.0, 1), (f64::INFINITY, 1)]);
        assert_eq!((times.count(), times.sum()), (5, 60.004));
    }

    #[test]
    fn quantiles_are_estimated_within_their_bucket() {
        // All between 100 and 250 ms, of which half of them is thought to be below 175 ms.
        let all_alike = times([200; 100]);
        assert_eq!(all_alike.quantile(0.5), Some(0.175));
        assert_eq!(all_alike.quantile(0.99).map(|seconds| (seconds * 10_000.0).round()), Some(2485.0));
        // One in a hundred is slow: the rest is told apart from it.
        let one_slow = times((0..100).map(|number| if number == 0 { 4000 } else { 1 }));
        assert!(one_slow.quantile(0.99).is_some_and(|seconds| seconds <= 0.001));
        assert!(one_slow.quantile(1.0).is_some_and(|seconds| seconds > 2.5));
    }

    #[test]
    fn of_none_and_of_what_took_too_long_no_time_is_made_up() {
        assert_eq!(times([]).quantile(0.5), None);
        assert_eq!(times([100_000]).quantile(0.5), Some(30.0));
    }
}
