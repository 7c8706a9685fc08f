//! Random courses of connections, each with an oracle that looks at every byte and both ends.
//!
//! `ENDPOINTS_TEST_SEED` says with which seed they begin, `ENDPOINTS_TEST_SCHEDULES` how many there are.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::read_link;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::joined::{End, Joined, Kind, Told};
use crate::schedule::{Cut, FIRST, Schedule, Send, Side};
use crate::support::World;

#[test]
fn schedules() {
    run(300);
}

#[test]
#[ignore = "takes minutes: the same with 10,000 of them"]
fn thousands_of_schedules() {
    run(10_000);
}

/// Connections at a time. Each has relays of its own.
const AT_A_TIME: u64 = 8;

/// Longer than a relay goes on for a peer that is gone.
const LIMIT: Duration = Duration::from_secs(40);

fn run(count: u64) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let first = number("ENDPOINTS_TEST_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    let count = number("ENDPOINTS_TEST_SCHEDULES").unwrap_or(count);
    println!("{count} schedules from the seed {first} on");
    let pairs: Arc<[_]> = Kind::pairs().collect();
    let next = Arc::new(AtomicU64::new(first));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let workers: Vec<_> = (0..AT_A_TIME)
            .map(|_| tokio::spawn(work(Arc::clone(&next), first + count, Arc::clone(&pairs))))
            .collect();
        for worker in workers {
            worker.await.expect("no schedule fails");
        }
        // A few may be all of kinds that the kernel does not move.
        assert!(count < 100 || pipes() > 0, "nothing was moved by the kernel");
    });
}

/// Pipes of this process beside those of its standard input and output; the relay keeps some.
fn pipes() -> usize {
    let folder = Path::new("/proc/self/fd");
    let standard = ["0", "1", "2"].map(|number| read_link(folder.join(number)).ok());
    let entries = std::fs::read_dir(folder).expect("the descriptors");
    let links = entries.filter_map(|entry| read_link(entry.ok()?.path()).ok());
    let pipes = links.filter(|link| link.to_string_lossy().starts_with("pipe:"));
    pipes.filter(|link| !standard.iter().flatten().any(|other| other == link)).count() / 2
}

async fn work(next: Arc<AtomicU64>, end: u64, pairs: Arc<[(Kind, Kind)]>) {
    let worlds = [World::built_in(), World::loaded()];
    let mut relays = HashMap::new();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            break;
        }
        let schedule = Schedule::new(seed, &pairs);
        let world = &worlds[usize::from(schedule.loaded)];
        let key = (schedule.front as usize, schedule.back as usize, schedule.loaded);
        let joined = match relays.entry(key) {
            Entry::Occupied(relay) => relay.into_mut(),
            Entry::Vacant(place) => place.insert(Joined::new(world, schedule.front, schedule.back).await),
        };
        let failed = match timeout(LIMIT, check(world, joined, &schedule)).await {
            Ok(result) => result.err(),
            Err(_) => Some("it does not end".to_owned()),
        };
        if let Some(failed) = failed {
            panic!(
                "{failed}\n{schedule:?}\nagain: ENDPOINTS_TEST_SEED={seed} ENDPOINTS_TEST_SCHEDULES=1 cargo test -p \
                 endpoints-tests --test relaying schedules"
            );
        }
    }
    for joined in relays.into_values() {
        joined.end().await;
    }
}

/// What one end has seen of the other.
#[derive(Debug)]
struct Seen {
    /// Bytes that came, each the right one.
    bytes: usize,
    end: Result<(), io::ErrorKind>,
}

/// What one end has done.
#[derive(Debug, Default)]
struct Done {
    sent: usize,
    has_ended: bool,
    /// It could not send all of it.
    has_failed: bool,
    /// It went away.
    cut: bool,
    seen: Option<Seen>,
}

async fn check(world: &World, joined: &mut Joined, schedule: &Schedule) -> Result<(), String> {
    let forth = Pattern::new(1);
    let back = Pattern::new(2);
    let (near, far) = joined.pair(world, forth.at(0, FIRST), schedule.window).await;
    let (near, far) = tokio::join!(
        play(near, &schedule.near, &forth, FIRST, &back),
        play(far, &schedule.far, &back, 0, &forth)
    );
    let (near, far) = (near?, far?);
    let told = joined.told().await;
    let judged = judge(schedule, &near, &far, &told);
    judged.map_err(|what| format!("{what}\nnear: {near:?}\nfar: {far:?}\ntold: {told:?}"))
}

fn judge(schedule: &Schedule, near: &Done, far: &Done, told: &Told) -> Result<(), String> {
    if !near.cut && !far.cut {
        let all = (schedule.near.sent() + FIRST, schedule.far.sent());
        let seen = |done: &Done| match &done.seen {
            Some(Seen { bytes, end: Ok(()) }) => Some(*bytes),
            _ => None,
        };
        if (seen(far), seen(near)) != (Some(all.0), Some(all.1)) {
            return Err(format!("{all:?} bytes were sent, and ended"));
        }
        if (told.bytes_in, told.bytes_out) != (all.0 as u64, all.1 as u64) || told.error.is_some() {
            return Err("other counts, or an error".to_owned());
        }
        return Ok(());
    }
    let (gone, kind, left, left_kind) = if near.cut {
        (near, schedule.front, far, schedule.back)
    } else {
        (far, schedule.back, near, schedule.front)
    };
    match &left.seen {
        None => Err("nothing was seen".to_owned()),
        Some(seen) if seen.bytes > gone.sent => Err("more came than was sent".to_owned()),
        Some(Seen { end: Err(_), .. }) => Ok(()),
        // A socket tells an error once.
        Some(_) if left.has_failed => Ok(()),
        // One that went away had ended its own sending before, and that was passed on.
        Some(seen) if gone.has_ended && seen.bytes == gone.sent => Ok(()),
        // A Unix socket cannot be cut, and is just closed: what was sent is there.
        Some(seen) if !kind.can_be_cut() && seen.bytes == gone.sent => Ok(()),
        // Nor can it be said on one that the other was cut.
        Some(_) if !left_kind.can_be_cut() => Ok(()),
        Some(_) => Err("a connection that was cut looks as if it had ended".to_owned()),
    }
}

/// Bytes of which no part repeats soon.
struct Pattern(Vec<u8>);

impl Pattern {
    const PERIOD: usize = 1_000_003;

    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = vec![0; Self::PERIOD];
        random.fill(&mut bytes);
        // What is asked for at the end of it goes on at its beginning.
        bytes.extend_from_within(..400_000);
        Self(bytes)
    }

    fn at(&self, offset: usize, count: usize) -> &[u8] {
        &self.0[offset % Self::PERIOD..][..count]
    }
}

/// Does what one end is to do, and looks at all that comes.
async fn play(
    mut end: End,
    side: &Side,
    sends: &Pattern,
    first: usize,
    receives: &Pattern,
) -> Result<Done, String> {
    let mut done = Done::default();
    let sent = AtomicUsize::new(first);
    {
        let (read, write) = split(&mut end);
        let (has_ended, ended) = watch::channel(false);
        let mut sending = pin!(send(write, side, sends, &sent, ended));
        let mut receiving = pin!(receive(read, side, receives));
        let mut sends = true;
        while !done.cut && (sends || done.seen.is_none()) {
            tokio::select! {
                sent = &mut sending, if sends => {
                    sends = false;
                    (done.has_ended, done.has_failed) = (sent == Sent::Ended, sent == Sent::Failed);
                    done.cut = sent == Sent::Cut;
                }
                seen = &mut receiving, if done.seen.is_none() => {
                    done.seen = seen?;
                    done.cut = done.seen.is_none();
                    let _ = has_ended.send(true);
                }
            }
        }
    }
    done.sent = sent.into_inner();
    if done.cut {
        end.cut();
    }
    Ok(done)
}

/// How sending came to its end.
#[derive(PartialEq)]
enum Sent {
    Ended,
    /// It is to go away.
    Cut,
    Failed,
}

async fn send(
    mut to: WriteHalf<&mut End>,
    side: &Side,
    pattern: &Pattern,
    sent: &AtomicUsize,
    mut ended: watch::Receiver<bool>,
) -> Sent {
    for step in &side.sends {
        match *step {
            Send::Piece(bytes) => {
                let until = sent.load(Ordering::Relaxed) + bytes;
                loop {
                    let so_far = sent.load(Ordering::Relaxed);
                    if so_far == until {
                        break;
                    }
                    let Ok(count) = to.write(pattern.at(so_far, until - so_far)).await else {
                        return Sent::Failed;
                    };
                    sent.store(so_far + count, Ordering::Relaxed);
                }
                if to.flush().await.is_err() {
                    return Sent::Failed;
                }
            }
            Send::Rest(time) => sleep(time).await,
            Send::AwaitEnd => {
                let _ = ended.wait_for(|ended| *ended).await;
            }
        }
    }
    if side.cut.is_some() {
        return Sent::Cut;
    }
    if to.shutdown().await.is_ok() { Sent::Ended } else { Sent::Failed }
}

/// Reads to the end, or until it is to go away.
async fn receive(
    mut from: ReadHalf<&mut End>,
    side: &Side,
    pattern: &Pattern,
) -> Result<Option<Seen>, String> {
    let mut buf = vec![0; 64 * 1024];
    let mut bytes = 0;
    let mut phases = side.receives.iter().copied();
    let mut phase = phases.next();
    loop {
        if let Some(Cut::Received(limit)) = side.cut
            && bytes >= limit
        {
            return Ok(None);
        }
        let most = phase.map_or(buf.len(), |phase| phase.piece.min(buf.len()));
        if let Some(rest) = phase.map(|phase| phase.rest).filter(|rest| !rest.is_zero()) {
            sleep(rest).await;
        }
        match from.read(&mut buf[..most]).await {
            Ok(0) => return Ok(Some(Seen { bytes, end: Ok(()) })),
            Ok(count) if buf[..count] == *pattern.at(bytes, count) => {
                bytes += count;
                if let Some(now) = &mut phase {
                    now.bytes = now.bytes.saturating_sub(count);
                    if now.bytes == 0 {
                        phase = phases.next();
                    }
                }
            }
            Ok(count) => return Err(format!("wrong bytes among {count} after {bytes}")),
            Err(error) => return Ok(Some(Seen { bytes, end: Err(error.kind()) })),
        }
    }
}
