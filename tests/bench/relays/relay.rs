//! A relay that runs: where it is reached, and what it uses.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use nix::time::clock_getcpuclockid;
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::raw;
use crate::work::Front;

/// Where a relay listens and connects to, each in a number of ways, and on which processors it runs.
pub(crate) struct Place {
    pub(crate) folder: PathBuf,
    /// The first of its ports: plain or TLS, then behind PROXY headers.
    pub(crate) port: u16,
    /// The port of what it relays to.
    pub(crate) backend: u16,
    /// Threads or processes that relay.
    pub(crate) workers: u16,
    /// Those that it runs on, as taskset(1) takes them.
    pub(crate) processors: &'static str,
}

impl Place {
    pub(crate) fn unix(&self) -> PathBuf {
        self.folder.join("front")
    }

    pub(crate) fn unix_backend(&self) -> PathBuf {
        self.folder.parent().expect("a folder of its own").join("backend")
    }
}

/// A relay that runs, with all its processes in a group.
pub(crate) struct Relay {
    pub(crate) name: &'static str,
    pub(crate) place: Place,
    processes: Vec<Child>,
}

impl Relay {
    /// Waits until it listens.
    pub(crate) fn new(name: &'static str, place: Place, processes: Vec<Child>, unix: bool) -> Self {
        let relay = Self { name, place, processes };
        let listens = || {
            TcpStream::connect(("127.0.0.1", relay.place.port)).is_ok()
                && (!unix || UnixStream::connect(relay.place.unix()).is_ok())
        };
        let begun = Instant::now();
        while !listens() {
            assert!(begun.elapsed() < Duration::from_secs(10), "{name} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        relay.settle();
        relay.stay();
        relay
    }

    /// Puts all its threads where they belong: hitch chooses a processor for each of its workers by itself.
    fn stay(&self) {
        let mut processors = CpuSet::new();
        self.place.processors.split(',').flat_map(str::parse).for_each(|number| processors.set(number));
        for id in self.processes().into_iter().flat_map(tasks_of).filter_map(Pid::from_raw) {
            let _ = sched_setaffinity(Some(id), &processors);
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.place.port).into()
    }

    pub(crate) fn front(&self) -> Front {
        Front::Tcp(self.address())
    }

    /// Where it takes connections that begin with this PROXY header.
    pub(crate) fn proxied(&self, header: &[u8]) -> Front {
        Front::Proxied(([127, 0, 0, 1], self.place.port + 1).into(), header.into())
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.name.starts_with("endpoints")
    }

    /// One that splices resets a connection at its end, now and then: the others are measured all the same.
    pub(crate) fn may_fail(&self) -> bool {
        self.name.starts_with("HAProxy, ")
    }

    /// One to be compared with: that people use, and that loses nothing.
    pub(crate) fn is_peer(&self) -> bool {
        !self.is_ours() && !self.cuts() && !self.is_raw()
    }

    /// It loses what still comes from one side when the other has ended.
    pub(crate) fn cuts(&self) -> bool {
        self.name == "nginx, cutting"
    }

    pub(crate) fn takes_proxy(&self) -> bool {
        self.name != "socat" && !self.is_raw()
    }

    fn is_raw(&self) -> bool {
        [raw::NAME, raw::LARGE, raw::NO_RELAY].contains(&self.name)
    }

    /// The processes of all its groups.
    fn processes(&self) -> Vec<u32> {
        let groups: Vec<u32> = self.processes.iter().map(Child::id).collect();
        let all = fs::read_dir("/proc").expect("/proc").flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|id| group_of(*id).is_some_and(|group| groups.contains(&group)))
            .collect()
    }

    /// CPU time so far of each thread, in nanoseconds.
    pub(crate) fn threads(&self) -> Vec<u64> {
        let tasks = self.processes().into_iter().flat_map(tasks_of);
        tasks
            .filter_map(|task| fs::read_to_string(format!("/proc/{task}/schedstat")).ok())
            .filter_map(|stat| stat.split_whitespace().next()?.parse().ok())
            .collect()
    }

    /// How often one of its threads has gone to sleep so far.
    pub(crate) fn sleeps(&self) -> u64 {
        let sleeps = |task: i32| {
            let status = fs::read_to_string(format!("/proc/{task}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            line.trim().parse::<u64>().ok()
        };
        self.processes().into_iter().flat_map(tasks_of).filter_map(sleeps).sum()
    }

    /// CPU time so far, of what runs, of its threads that have ended, and of children that have ended.
    pub(crate) fn cpu(&self) -> Duration {
        let running: Duration = self.processes().into_iter().filter_map(cpu_of).sum();
        let ended: u64 = self.processes.iter().filter_map(|child| ticks_of_children(child.id())).sum();
        // A tick is 10 ms.
        running + Duration::from_millis(ended * 10)
    }

    /// Waits until it has nothing left to do.
    pub(crate) fn settle(&self) {
        let mut before = self.cpu();
        loop {
            std::thread::sleep(Duration::from_millis(50));
            let now = self.cpu();
            if now - before < Duration::from_millis(1) {
                return;
            }
            before = now;
        }
    }

    /// Whether it has both ends of a pipe, as it has for splice(2), and keeps for the next connection.
    pub(crate) fn has_pipes(&self) -> bool {
        self.processes().into_iter().any(|id| {
            let descriptors = fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten().flatten();
            let mut ends: Vec<_> = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
            ends.retain(|end| end.to_string_lossy().starts_with("pipe:"));
            ends.sort_unstable();
            ends.windows(2).any(|two| two[0] == two[1])
        })
    }

    /// What it holds of memory that is its own, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let own = |id: u32| {
            let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).ok()?;
            let sum = rollup
                .lines()
                .filter(|line| line.starts_with("Private_"))
                .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
                .sum::<u64>();
            Some(sum * 1024)
        };
        self.processes().into_iter().filter_map(own).sum()
    }
}

/// Threads of a process.
fn tasks_of(id: u32) -> impl Iterator<Item = i32> {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| task.file_name().to_str()?.parse().ok())
}

fn cpu_of(id: u32) -> Option<Duration> {
    let clock = clock_getcpuclockid(nix::unistd::Pid::from_raw(id.try_into().ok()?)).ok()?;
    Some(clock.now().ok()?.into())
}

/// The fields of `/proc/PID/stat` from the state on; see proc(5).
fn stat(id: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

fn group_of(id: u32) -> Option<u32> {
    stat(id)?.get(2)?.parse().ok()
}

fn ticks_of_children(id: u32) -> Option<u64> {
    let stat = stat(id)?;
    let field = |place: usize| stat.get(place)?.parse::<u64>().ok();
    Some(field(13)? + field(14)?)
}

impl Drop for Relay {
    fn drop(&mut self) {
        for process in &mut self.processes {
            if let Some(group) = i32::try_from(process.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = process.wait();
        }
    }
}
