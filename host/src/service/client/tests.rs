//! The whole service, over a network that is a script and a clock that only tests move.

mod closing;
mod conduct;
mod crowd;
mod recorded;
mod script;
mod settings;

use std::time::Duration;

use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);

/// A step of a recorded script: numbers as such, and in an order that does not matter.
pub(super) fn comparable(step: &[Value]) -> Vec<String> {
    let plain = |event: &Value| {
        let words = event.as_array().unwrap().iter().map(|word| match word.as_f64() {
            Some(number) => format!("{number:.6}"),
            None => word.as_str().unwrap().to_owned(),
        });
        words.collect::<Vec<_>>().join(" ")
    };
    let mut step: Vec<String> = step.iter().map(plain).collect();
    step.sort();
    step
}
