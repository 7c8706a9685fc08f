//! What the tests here share.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{LIMIT, Service, built, tcp};

pub(crate) const ANY: &str = "tcp:0:interface=127.0.0.1";

/// One test at a time: they measure, and may take all the processors there are. Lets this process have as many descriptors
/// as it may.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    static ALONE: Mutex<()> = Mutex::new(());
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("up to the hard limit");
    guard
}

/// A backend that sends back what comes, in this process; gives its description.
pub(crate) fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let description = describe(&listener);
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            thread::spawn(move || {
                let mut back = stream.try_clone().expect("a descriptor");
                io::copy(&mut stream, &mut back).and_then(|_| back.shutdown(std::net::Shutdown::Write))
            });
        }
    });
    description
}

pub(crate) fn describe(listener: &TcpListener) -> String {
    format!("tcp:127.0.0.1:{}", listener.local_addr().expect("its address").port())
}

/// Whether something comes back.
pub(crate) fn answers(stream: &mut TcpStream) -> bool {
    let mut back = [0; 4];
    stream.write_all(b"ping").is_ok() && stream.read_exact(&mut back).is_ok() && &back == b"ping"
}

/// Waits for the end of a connection, and says how long that took from `begun` on.
#[track_caller]
pub(crate) fn ended(mut stream: &TcpStream, begun: Instant) -> Duration {
    let read = stream.read(&mut [0]);
    let waited = read.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
    assert!(!waited && read.unwrap_or(0) == 0, "it is to end, after {:?}", begun.elapsed());
    begun.elapsed()
}

pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Sees to it that half of what is measured takes less than that. Where it takes more, that may be the machine's, which has
/// others to serve: it is measured anew, five times at most.
#[track_caller]
pub(crate) fn assert_median_below(limit: Duration, mut measure: impl FnMut() -> Vec<Duration>) {
    let mut all = Vec::new();
    while all.len() < 5 {
        let times = measure();
        let is_below = median(times.clone()) < limit;
        all.push(times);
        if is_below {
            return;
        }
    }
    panic!("it takes {limit:?} or more: {all:?}");
}

/// Sees to it that something takes as long as it is to, give or take a tenth.
#[track_caller]
pub(crate) fn assert_precise(limit: Duration, mut measure: impl FnMut() -> Vec<Duration>) {
    assert_median_below(limit + limit / 10, || {
        let times = measure();
        // Never earlier, but for the precision of timers: no machine is as busy as that.
        assert!(times.iter().all(|time| *time > limit - limit / 10), "{times:?}");
        times
    });
}

/// Starts the command with so many descriptors at most.
pub(crate) fn with_descriptors(most: usize, arguments: &[&str]) -> Service {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {most} && exec \"$0\" \"$@\"")]).arg(built("endpoints"));
    command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").env("XDG_DATA_HOME", "/nonexistent");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Service::started(command.spawn().expect("it starts"))
}

/// Connects again and again until one is served, and says how long that took.
#[track_caller]
pub(crate) fn served_after(port: u16) -> Duration {
    let begun = Instant::now();
    while !answers(&mut tcp(port)) {
        assert!(begun.elapsed() < LIMIT, "nobody is served");
        thread::sleep(Duration::from_millis(10));
    }
    begun.elapsed()
}
