//! Relays side by side; started by `tests/bench/relay`, which sets the network up.

mod idle;
mod loaded;
mod peers;
mod raw;
mod relay;
mod rows;
mod slow;
mod spread;
mod table;
mod tls;
mod work;

use std::cell::Cell;
use std::fs;
use std::future::pending;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use relay::Place;
use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// What it is told to do.
#[derive(Default)]
struct Arguments {
    quick: bool,
    /// The command, where it is not beside this program.
    command: Option<PathBuf>,
    /// Another build of it, to be compared.
    beside: Option<PathBuf>,
    /// Where the plugins are that it loads.
    plugins: Option<PathBuf>,
    /// Parts of the names of rows; none stands for all.
    wanted: Vec<String>,
}

impl Arguments {
    fn read() -> Self {
        let mut read = Self::default();
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                // From cargo.
                "--bench" => {}
                "--quick" => read.quick = true,
                "--command" => read.command = Some(arguments.next().expect("--command FILE").into()),
                "--beside" => {
                    let file = arguments.next().expect("--beside FILE");
                    read.beside =
                        Some(fs::canonicalize(&file).unwrap_or_else(|error| panic!("{file}: {error}")));
                }
                "--plugins" => read.plugins = Some(arguments.next().expect("--plugins DIR").into()),
                _ if argument.starts_with('-') => panic!("there is no option {argument}"),
                _ => read.wanted.push(argument),
            }
        }
        read
    }
}

/// What relays are started with, and what loads them.
struct Bench {
    runtime: Runtime,
    /// What keeps the load from sleeping.
    busy: JoinHandle<()>,
    /// Of temporary files: each relay's, the backend's socket, certificates.
    folder: PathBuf,
    endpoints: PathBuf,
    beside: Option<PathBuf>,
    plugins: Option<PathBuf>,
    /// This program, which can be a relay too.
    itself: PathBuf,
    /// The port of the backend.
    backend: u16,
    quick: bool,
    wanted: Vec<String>,
    /// The first port of the next relay.
    port: Cell<u16>,
}

impl Bench {
    /// Whether a row of this name is asked for.
    fn wants(&self, name: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|one| name.contains(one.as_str()))
    }

    /// Lets the load go on for so long.
    fn wait(&self, time: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }

    /// A place for a relay of its own. One worker has the second processor, as whoever loads it has the first; two share both with
    /// the load.
    fn place(&self, workers: u16) -> Place {
        let port = self.port.replace(self.port.get() + 10);
        let folder = self.folder.join(port.to_string());
        fs::create_dir(&folder).expect("a folder");
        let processors = if workers == 1 { "1" } else { "0,1" };
        Place { folder, port, backend: self.backend, workers, processors }
    }

    /// From here on clients and backend have a thread each, which run where relays with two workers do, and sleep as others do: else they
    /// would be what the relay waits for, or take a processor from it while they have nothing to do.
    fn use_both_processors(&mut self) {
        self.busy.abort();
        let mut all = CpuSet::new();
        (0..2).for_each(|processor| all.set(processor));
        sched_setaffinity(None, &all).expect("two processors");
        let (begun, begins) = mpsc::channel();
        let unix = self.folder.join("backend-apart");
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                begun.send(work::backend(&unix).await.expect("a port")).expect("a receiver");
                pending::<()>().await;
            });
        });
        self.backend = begins.recv().expect("a port");
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(raw::ARGUMENT) {
        return raw::run(arguments);
    }
    let Arguments { quick, command, beside, plugins, wanted } = Arguments::read();
    if fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").is_ok_and(|used| used.trim() != "reno")
    {
        println!("relays are measured by tests/bench/relay, in a network of their own");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut first = CpuSet::new();
    first.set(0);
    sched_setaffinity(None, &first).expect("the first processor");
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    // The load never sleeps: waking an idle processor takes longer than all that a relay does for a small message, is paid by who
    // wakes it, and is different each time.
    let busy = runtime.spawn(async {
        loop {
            tokio::task::yield_now().await;
        }
    });
    let backend = runtime.block_on(work::backend(&folder.path().join("backend"))).expect("a port");
    let executable = std::env::current_exe().expect("the bench has a path");
    let endpoints = command.unwrap_or_else(|| {
        executable.ancestors().nth(2).expect("target/release/deps/relays").join("endpoints")
    });
    let mut bench = Bench {
        runtime,
        busy,
        folder: folder.path().to_owned(),
        endpoints,
        beside,
        plugins,
        itself: executable,
        backend,
        quick,
        wanted,
        port: Cell::new(20_000),
    };
    rows::run(&bench);
    tls::run(&bench);
    loaded::run(&bench);
    idle::beside(&bench);
    slow::run(&bench);
    // The last one: it changes where this process runs.
    spread::run(&mut bench);
}
