//! Whether as many connections are open as may be, told so that it is noticed and floods nothing.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use super::event::{Event, Observer};

/// How many connections are open, where there is a limit.
pub(super) struct Occupancy {
    most: usize,
    /// Counted apart from the places of the limit: an acceptor takes one before there is a connection for it.
    open: AtomicUsize,
    /// How often there came to be as many as may be.
    fills: AtomicU64,
    /// Whether it was full until a connection ended, since that was last asked.
    was_full: AtomicBool,
    filled: Notify,
}

/// For how long there must have been room before that is told: at the limit, connections end and begin all the time.
const WHILE: Duration = Duration::from_secs(60);

impl Occupancy {
    pub(super) fn new(most: usize) -> Self {
        let (fills, was_full) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { most, open: AtomicUsize::new(0), fills, was_full, filled: Notify::new() }
    }

    /// One more connection is open.
    pub(super) fn occupy(self: &Arc<Self>) -> Occupied {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        if open >= self.most {
            self.fills.fetch_add(1, Ordering::Relaxed);
            self.filled.notify_one();
        }
        Occupied(Arc::clone(self))
    }

    /// Tells when there are as many as may be, and when there has been room again, for as long as `serving` takes.
    pub(super) async fn told_while(&self, serving: impl Future<Output = ()>, observer: &Observer) {
        tokio::select! {
            () = serving => {}
            () = self.tell(observer) => {}
        }
    }

    /// Never ends.
    async fn tell(&self, observer: &Observer) {
        let mut known = 0;
        loop {
            self.filled.notified().await;
            // It may be about what was told already.
            if self.fills.load(Ordering::Relaxed) == known {
                continue;
            }
            observer.tell(&Event::Full { most: self.most });
            loop {
                known = self.fills.load(Ordering::Relaxed);
                self.was_full.store(false, Ordering::Relaxed);
                sleep(WHILE).await;
                let was_full = self.was_full.load(Ordering::Relaxed) || self.is_full();
                if !was_full && self.fills.load(Ordering::Relaxed) == known {
                    break;
                }
            }
            observer.tell(&Event::HasRoom);
        }
    }

    fn is_full(&self) -> bool {
        self.open.load(Ordering::Relaxed) >= self.most
    }
}

/// A connection's place among those that are open, given back when it is dropped.
pub(super) struct Occupied(Arc<Occupancy>);

impl Drop for Occupied {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::Relaxed) >= self.0.most {
            // It was until now.
            self.0.was_full.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Mutex;

    use tokio::time::{Instant, advance};

    use super::*;

    /// What is told, with the seconds since the beginning.
    type Told = Arc<Mutex<Vec<(u64, bool)>>>;

    fn told_of(occupancy: &Arc<Occupancy>) -> Told {
        let told = Told::default();
        let (occupancy, begun, noted) = (Arc::clone(occupancy), Instant::now(), Arc::clone(&told));
        tokio::spawn(async move {
            let observer = Observer::new(move |event| {
                let is_full = matches!(event, Event::Full { most: 2 });
                assert!(is_full || matches!(event, Event::HasRoom), "{event:?}");
                noted.lock().unwrap().push((begun.elapsed().as_secs(), is_full));
            });
            occupancy.told_while(pending(), &observer).await;
        });
        told
    }

    async fn seconds(count: u64) {
        for _ in 0..count {
            tokio::task::yield_now().await;
            advance(Duration::from_secs(1)).await;
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_told_once_until_there_has_been_room_for_a_while() {
        let occupancy = Arc::new(Occupancy::new(2));
        let told = told_of(&occupancy);
        let _first = occupancy.occupy();
        seconds(100).await;
        assert_eq!(*told.lock().unwrap(), []);
        // It is full again and again.
        for _ in 0..200 {
            let _second = occupancy.occupy();
            seconds(1).await;
        }
        assert_eq!(*told.lock().unwrap(), [(100, true)]);
        let second = occupancy.occupy();
        seconds(1000).await;
        assert_eq!(told.lock().unwrap().len(), 1, "and still is");
        drop(second);
        seconds(1000).await;
        let over = told.lock().unwrap()[1..].to_vec();
        assert!(matches!(over[..], [(1360..=1421, false)]), "{over:?}");
        let _second = occupancy.occupy();
        seconds(10).await;
        assert_eq!(told.lock().unwrap()[2..], [(2300, true)]);
    }
}
