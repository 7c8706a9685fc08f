//! The line that shows what the relay does.

use std::io::stderr;
use std::sync::Arc;
use std::time::Duration;

use rustix::termios::tcgetwinsize;
use tokio::time::{MissedTickBehavior, interval};

use crate::standard_error;
use crate::statistics::{Counts, Statistics};

/// Shows the counts once a second, until it is dropped: on a terminal in one line that changes, elsewhere line by line.
pub(crate) async fn show(statistics: Arc<Statistics>) {
    let terminal = standard_error::is_terminal();
    let _cleared = Cleared;
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = statistics.counts();
    loop {
        ticks.tick().await;
        let now = statistics.counts();
        let mut line = line(&last, &now);
        if terminal {
            line.truncate(columns());
            standard_error::set_live_line(line);
        } else {
            standard_error::write(format!("{line}\n"));
        }
        last = now;
    }
}

struct Cleared;

impl Drop for Cleared {
    fn drop(&mut self) {
        standard_error::set_live_line(String::new());
    }
}

/// How much a line may have without being continued on the next one, which would stay there. The last column is left
/// alone, since terminals differ in what comes of it.
fn columns() -> usize {
    match tcgetwinsize(stderr()).map(|size| usize::from(size.ws_col)) {
        Ok(columns @ 1..) => columns - 1,
        // It does not say.
        _ => usize::MAX,
    }
}

fn line(last: &Counts, now: &Counts) -> String {
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
            bytes_in,
            uptime: Duration::from_secs(seconds),
            ..Counts::default()
        };
        let line = line(&counts(1000, 1), &counts(5000, 3));
        assert_eq!(line, "1 open, 2 in all, 0 failed; in 5.0 kB (2.0 kB/s), out 0 B (0 B/s)");
    }
}
