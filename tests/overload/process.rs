//! What a running command takes, as the kernel tells it.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::Service;

/// A running process.
#[derive(Clone)]
pub(crate) struct Process(PathBuf);

impl Process {
    pub(crate) fn of(service: &Service) -> Self {
        Self(format!("/proc/{}", service.child.id()).into())
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).expect("it runs")
    }

    /// Memory that is its own, in bytes.
    pub(crate) fn memory(&self) -> usize {
        let map = self.read("smaps_rollup");
        let lines = map.lines().filter_map(|line| line.strip_prefix("Private_"));
        lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok()).sum::<usize>() * 1024
    }

    pub(crate) fn threads(&self) -> usize {
        fs::read_dir(self.0.join("task")).expect("it runs").count()
    }

    /// What its descriptors are.
    fn open(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.join("fd")).expect("it runs");
        let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        links.map(|link| link.to_string_lossy().into_owned()).collect()
    }

    pub(crate) fn descriptors(&self) -> usize {
        self.open().len()
    }

    /// Pipes beside those of its standard input and output, each with two ends.
    pub(crate) fn pipes(&self) -> usize {
        let standard = ["0", "1", "2"].map(|number| fs::read_link(self.0.join("fd").join(number)).ok());
        let is_standard =
            |link: &String| standard.iter().flatten().any(|other| other.as_os_str() == link.as_str());
        self.open().iter().filter(|link| link.starts_with("pipe:") && !is_standard(link)).count() / 2
    }

    /// Processor time so far.
    fn time(&self) -> Duration {
        let stat = self.read("stat");
        // Behind the name, which may have anything in it.
        let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }

    /// The share of a processor that it takes for so long.
    pub(crate) fn load(&self, time: Duration) -> f64 {
        let (begun, before) = (Instant::now(), self.time());
        thread::sleep(time);
        (self.time() - before).as_secs_f64() / begun.elapsed().as_secs_f64()
    }
}

/// Waits until something is so, for as long as a test waits for anything.
#[track_caller]
pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < crate::harness::LIMIT, "{what}: it does not come to that");
        thread::sleep(Duration::from_millis(10));
    }
}
