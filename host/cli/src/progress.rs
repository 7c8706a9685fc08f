//! The line that shows what the relay does.

use std::io::{IsTerminal, stderr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::standard_error;
use crate::statistics::{Counts, Statistics};

/// Shows the counts once a second: on a terminal in one line that changes, elsewhere line by line.
pub(crate) async fn show(statistics: Arc<Statistics>) {
    let terminal = stderr().is_terminal();
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = statistics.counts();
    loop {
        ticks.tick().await;
        let now = statistics.counts();
        let line = line(last, now);
        // To the line's start, then what is left of the one before is erased.
        let text = if terminal { format!("\r{line}\x1b[K") } else { format!("{line}\n") };
        standard_error::write(text);
        last = now;
    }
}

fn line(last: Counts, now: Counts) -> String {
    let seconds = (now.uptime - last.uptime).as_secs_f64().max(0.001);
    let rate = |from: u64, to: u64| (to - from) as f64 / seconds;
    format!(
        "{} open, {} in all, {} failed; in {} ({}/s), out {} ({}/s)",
        now.now,
        now.total,
        now.failed,
        bytes(now.bytes_in as f64),
        bytes(rate(last.bytes_in, now.bytes_in)),
        bytes(now.bytes_out as f64),
        bytes(rate(last.bytes_out, now.bytes_out)),
    )
}

fn bytes(count: f64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut count = count;
    let mut unit = 0;
    while count >= 999.5 && unit + 1 < units.len() {
        count /= 1000.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0 && count < 99.95);
    format!("{count:.decimals$} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_short() {
        assert_eq!(
            [0.0, 999.0, 1000.0, 123_456.0, 5e9].map(bytes),
            ["0 B", "999 B", "1.0 kB", "123 kB", "5.0 GB"]
        );
    }

    #[test]
    fn rates_are_those_since_the_last_line() {
        let counts = |bytes_in, seconds| Counts {
            now: 1,
            total: 2,
            failed: 0,
            bytes_in,
            bytes_out: 0,
            uptime: Duration::from_secs(seconds),
        };
        let line = line(counts(1000, 1), counts(5000, 3));
        assert_eq!(line, "1 open, 2 in all, 0 failed; in 5.0 kB (2.0 kB/s), out 0 B (0 B/s)");
    }
}
