//! How long to wait before the next attempt.

use std::time::Duration;

use crate::error::{Error, ErrorKind};

/// How long to wait after attempts that failed.
///
/// A function of the count is one: `|_failures| Duration::from_secs(1)`.
pub trait RetryPolicy: Send + Sync {
    /// The time to wait when `failures` attempts in a row have failed, counted from 1. [`Duration::MAX`] is for ever.
    fn delay(&self, failures: u64) -> Duration;
}

impl<F: Fn(u64) -> Duration + Send + Sync> RetryPolicy for F {
    fn delay(&self, failures: u64) -> Duration {
        self(failures)
    }
}

/// Exponential backoff with jitter: the delay grows with every failure in a row up to a limit, and a random time is added, so
/// that many clients of a server that comes back do not all come at once.
///
/// After n failures it is initial delay × factorⁿ, at most the greatest delay, and then up to the jitter more: with the
/// defaults 1.5 s after the first failure, 2.25 s after the second, 60 s from the eleventh on, each and up to 1 s more.
/// Those are the defaults of Twisted's `backoffPolicy`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use endpoints::service::{Backoff, RetryPolicy};
///
/// let policy = Backoff::new().initial_delay(Duration::from_millis(500)).jitter(Duration::ZERO).factor(3.0)?;
/// assert_eq!(policy.delay(2), Duration::from_millis(4500));
/// # Ok::<(), endpoints::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// All in seconds, which may be more than a [`Duration`] holds.
    initial: f64,
    most: f64,
    jitter: f64,
    factor: f64,
}

/// From here on the delay grows no more, whatever the limit.
const LAST_EXPONENT: u64 = 100;

impl Backoff {
    /// 1 s, times 1.5 with every failure, at most 60 s, and up to 1 s more.
    #[must_use]
    pub const fn new() -> Self {
        Self { initial: 1.0, most: 60.0, jitter: 1.0, factor: 1.5 }
    }

    /// The delay that is multiplied with the factor for each failure; 1 s unless said otherwise.
    #[must_use]
    pub fn initial_delay(mut self, delay: Duration) -> Self {
        self.initial = delay.as_secs_f64();
        self
    }

    /// The greatest delay, before jitter; 60 s unless said otherwise.
    #[must_use]
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.most = delay.as_secs_f64();
        self
    }

    /// How much may be added at random; 1 s unless said otherwise.
    #[must_use]
    pub fn jitter(mut self, most: Duration) -> Self {
        self.jitter = most.as_secs_f64();
        self
    }

    /// By how much the delay grows with each failure; 1.5 unless said otherwise. With 1 it stays the same.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSetting`] for what is below zero, infinite or no number.
    pub fn factor(mut self, factor: f64) -> Result<Self, Error> {
        if !factor.is_finite() || factor < 0.0 {
            let message =
                format!("{factor} is no factor for a delay to grow by: it takes 0 or more, such as 1.5");
            return Err(Error::new(ErrorKind::InvalidSetting, message));
        }
        self.factor = factor;
        Ok(self)
    }

    /// The delay in seconds; `random` is from 0 up to 1.
    fn seconds(&self, failures: u64, random: f64) -> f64 {
        let exponent = failures.min(LAST_EXPONENT) as i32;
        let growth = self.factor.powi(exponent);
        // Zero times infinity would be no number.
        let delay = if growth.is_finite() { (self.initial * growth).min(self.most) } else { self.most };
        delay + random * self.jitter
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

impl RetryPolicy for Backoff {
    fn delay(&self, failures: u64) -> Duration {
        Duration::try_from_secs_f64(self.seconds(failures, fastrand::f64())).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn number(value: &Value) -> f64 {
        match value {
            Value::String(text) => text.parse().unwrap(),
            value => value.as_f64().unwrap(),
        }
    }

    #[test]
    fn delays_are_twisteds() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/conformance/backoff.jsonl");
        let (mut compared, mut refused) = (0, 0);
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            let given = |name: &str| case["parameters"].get(name).map(number);
            let parameters = [given("initialDelay"), given("maxDelay"), given("factor")];
            if parameters.iter().flatten().any(|value| value.is_nan() || *value < 0.0) {
                // No delay, as Durations are, is below zero; the factor is a number.
                if let Some(factor) = parameters[2] {
                    let error = Backoff::new().factor(factor).unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::InvalidSetting, "{}", case["id"]);
                }
                refused += 1;
                continue;
            }
            let backoff = Backoff {
                initial: parameters[0].unwrap_or(1.0),
                most: parameters[1].unwrap_or(60.0),
                factor: Backoff::new().factor(parameters[2].unwrap_or(1.5)).unwrap().factor,
                jitter: 1.0,
            };
            for pair in case["delays"].as_array().unwrap() {
                let attempt = match &pair[0] {
                    Value::String(text) => text.parse().unwrap_or(u64::MAX),
                    value => value.as_u64().unwrap(),
                };
                let (got, wanted) = (backoff.seconds(attempt, number(&case["jitter"])), number(&pair[1]));
                let same = got == wanted || ((got - wanted) / wanted).abs() < 1e-9;
                assert!(same, "{} after {attempt}: {got}, not {wanted}", case["id"]);
                compared += 1;
            }
        }
        assert_eq!((compared, refused), (2679, 9));
    }

    #[test]
    fn the_defaults_are_those_that_are_documented() {
        assert_eq!(Backoff::default(), Backoff::new());
        let plain = Backoff::new().jitter(Duration::ZERO);
        let delays = [1, 2, 10, 11, u64::MAX].map(|failures| plain.delay(failures).as_millis());
        assert_eq!(delays, [1500, 2250, 57665, 60000, 60000]);
    }

    #[test]
    fn each_number_can_be_set() {
        let plain = Backoff::new().jitter(Duration::ZERO);
        assert_eq!(plain.initial_delay(Duration::from_secs(2)).delay(1), Duration::from_secs(3));
        assert_eq!(plain.max_delay(Duration::from_secs(2)).delay(5), Duration::from_secs(2));
        assert_eq!(plain.factor(3.0).unwrap().delay(2), Duration::from_secs(9));
        assert_ne!(Backoff::new().max_delay(Duration::ZERO).delay(1), Duration::ZERO, "jitter comes on top");
    }

    #[test]
    fn jitter_is_added_and_differs() {
        let delays: Vec<Duration> = (0..100).map(|_| Backoff::new().delay(1)).collect();
        let range = Duration::from_millis(1500)..Duration::from_millis(2500);
        assert!(delays.iter().all(|delay| range.contains(delay)), "{delays:?}");
        assert!(delays.iter().any(|delay| *delay != delays[0]));
    }

    #[test]
    fn what_is_longer_than_time_is_for_ever() {
        let endless = Backoff::new().max_delay(Duration::MAX).initial_delay(Duration::MAX);
        assert_eq!(endless.delay(100), Duration::MAX);
    }

    #[test]
    fn what_is_no_factor_is_refused() {
        for factor in [-1.5, f64::NEG_INFINITY, f64::NAN, f64::INFINITY] {
            let error = Backoff::new().factor(factor).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidSetting, "{factor}");
        }
        assert!(Backoff::new().factor(0.0).is_ok());
    }
}
