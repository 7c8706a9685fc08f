//! Measuring side by side: rounds in turn, CPU time, medians, ratios.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CPU time of the calling thread so far.
pub(crate) fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Nanoseconds per operation of each variant in each round.
pub(crate) struct Table {
    title: String,
    unit: &'static str,
    names: Vec<String>,
    /// By variant, then by round.
    samples: Vec<Vec<f64>>,
}

impl Table {
    /// Runs every variant once a round, in turn, after a round that does not count; `run` gives nanoseconds an operation.
    /// The first variant is what the others are compared with.
    pub(crate) fn measure<V>(
        title: &str,
        unit: &'static str,
        rounds: usize,
        variants: &mut [(String, V)],
        mut run: impl FnMut(&mut V) -> f64,
    ) -> Self {
        let names: Vec<String> = variants.iter().map(|(name, _)| name.clone()).collect();
        let mut samples = vec![Vec::with_capacity(rounds); names.len()];
        for round in 0..=rounds {
            for place in 0..variants.len() {
                // Each round begins with another variant, so that none always follows the same one.
                let place = (place + round) % variants.len();
                let sample = run(&mut variants[place].1);
                if round > 0 {
                    samples[place].push(sample);
                }
            }
        }
        Self { title: title.to_owned(), unit, names, samples }
    }

    /// The median of a variant.
    pub(crate) fn median(&self, place: usize) -> f64 {
        median(self.samples[place].clone())
    }

    /// The median of the ratios to the first variant, round by round, and half the distance of their quartiles.
    pub(crate) fn ratio(&self, place: usize) -> (f64, f64) {
        let ratios = self.samples[place].iter().zip(&self.samples[0]).map(|(sample, first)| sample / first);
        let mut ratios: Vec<f64> = ratios.collect();
        ratios.sort_by(f64::total_cmp);
        let quartile = |part: usize| ratios[(ratios.len() - 1) * part / 4];
        (quartile(2), (quartile(3) - quartile(1)) / 2.0)
    }

    /// Prints it, with a target for the ratio where there is one.
    pub(crate) fn print(&self, targets: &[Option<f64>]) {
        println!("\n{} ({})", self.title, self.unit);
        println!("  {:<34}{:>10}{:>9}{:>9}{:>9}", "", "median", "ratio", "±", "target");
        for (place, name) in self.names.iter().enumerate() {
            let (ratio, spread) = self.ratio(place);
            let target = match targets.get(place).copied().flatten() {
                Some(target) => format!("{target:.2}{}", if ratio <= target { "" } else { " !" }),
                None => String::new(),
            };
            println!("  {name:<34}{:>10.1}{ratio:>9.3}{spread:>9.3}{target:>9}", self.median(place));
        }
    }
}

/// The middle value.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
