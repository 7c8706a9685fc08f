//! Wakers: the host gets its own back, and none is lost or confused with another.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use endpoints_plugin_api::abi::Sized0;
use endpoints_plugin_api::abi::context::{RContext, RWaker, RWakerVTable, WakerCache, enter, lend};
use endpoints_plugin_api::abi::future::RUnit;

use crate::image;

/// A task that counts how often it is woken.
#[derive(Default)]
struct Task(AtomicUsize);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Task {
    fn new() -> (Arc<Self>, Waker) {
        let task = Arc::new(Self::default());
        (Arc::clone(&task), Waker::from(task))
    }

    fn woken(&self) -> usize {
        self.0.swap(0, Ordering::SeqCst)
    }
}

/// A table that counts what is cloned and given back, over words that are an `Arc<Counts>`.
#[derive(Default)]
struct Counts {
    cloned: AtomicUsize,
    dropped: AtomicUsize,
    woken: AtomicUsize,
}

static COUNTING: RWakerVTable =
    RWakerVTable { size: size_of::<RWakerVTable>(), clone, wake_by_ref, drop: drop_counted };

impl Counts {
    fn context(self: &Arc<Self>) -> RContext {
        let waker = RWaker { data: Arc::as_ptr(self).cast(), aux: std::ptr::null(), vtable: &COUNTING };
        RContext { size: size_of::<RContext>(), waker }
    }

    /// # Safety
    /// The word is that of a live `Arc`.
    unsafe fn of<'a>(raw: *const RWaker) -> &'a Self {
        // SAFETY: by contract.
        unsafe { &*(*raw).data.cast::<Self>() }
    }
}

unsafe extern "C" fn clone(raw: *const RWaker) -> RWaker {
    // SAFETY: a live handle, by the table's contract.
    unsafe {
        Counts::of(raw).cloned.fetch_add(1, Ordering::SeqCst);
        Arc::increment_strong_count((*raw).data.cast::<Counts>());
        RWaker { data: (*raw).data, aux: (*raw).aux, vtable: (*raw).vtable }
    }
}

unsafe extern "C" fn wake_by_ref(raw: *const RWaker) {
    // SAFETY: as above.
    unsafe { Counts::of(raw) }.woken.fetch_add(1, Ordering::SeqCst);
}

unsafe extern "C" fn drop_counted(raw: *mut RWaker) {
    // SAFETY: a handle from `clone`, given back.
    unsafe {
        Counts::of(raw).dropped.fetch_add(1, Ordering::SeqCst);
        Arc::decrement_strong_count((*raw).data.cast::<Counts>());
    }
}

fn counts(counts: &Counts) -> (usize, usize) {
    (counts.cloned.load(Ordering::SeqCst), counts.dropped.load(Ordering::SeqCst))
}

/// Enters a context for the length of `f`.
fn inside<R>(context: &RContext, cache: &WakerCache, f: impl FnOnce(&mut Context<'_>) -> R) -> R {
    // SAFETY: valid, and lent for the call.
    unsafe { enter(context, cache, f) }
}

#[test]
fn an_images_own_waker_comes_back_as_itself() {
    let (task, waker) = Task::new();
    let cache = WakerCache::default();
    let before = Arc::strong_count(&task);
    lend(&mut Context::from_waker(&waker), |raw| {
        // A plugin in another language may pass a copy of the words on.
        // SAFETY: lent for the call.
        let copy = unsafe {
            let waker =
                RWaker { data: (*raw).waker.data, aux: (*raw).waker.aux, vtable: (*raw).waker.vtable };
            RContext { size: size_of::<RContext>(), waker }
        };
        for raw in [raw, &raw const copy] {
            // SAFETY: both are lent for this call.
            unsafe { enter(raw, &cache, |cx| assert!(cx.waker().will_wake(&waker))) };
        }
    });
    assert_eq!(Arc::strong_count(&task), before, "nothing was cloned");
}

#[test]
fn a_forwarded_poll_hands_the_very_context_on() {
    let (own, cache) = (Arc::new(Counts::default()), WakerCache::default());
    let context = own.context();
    inside(&context, &cache, |cx| lend(cx, |raw| assert!(std::ptr::eq(raw, &raw const context))));
    // Also through a second layer.
    inside(&context, &cache, |cx| {
        // SAFETY: lent for the call.
        lend(cx, |raw| unsafe {
            enter(raw, &cache, |cx| lend(cx, |raw| assert!(std::ptr::eq(raw, &raw const context))));
        });
    });
    assert_eq!(counts(&own), (0, 0));
}

#[test]
fn a_kept_waker_is_cloned_once_and_lent_as_its_owners() {
    let (own, cache) = (Arc::new(Counts::default()), WakerCache::default());
    let context = own.context();
    let first = inside(&context, &cache, |cx| cx.waker().clone());
    let second = inside(&context, &cache, |cx| cx.waker().clone());
    assert!(first.will_wake(&second) && second.will_wake(&second.clone()));
    assert_eq!(counts(&own), (1, 0), "the clone was used again");
    lend(&mut Context::from_waker(&first), |raw| {
        // SAFETY: lent for the call.
        let waker = unsafe { &(*raw).waker };
        assert!(
            std::ptr::eq(waker.data, Arc::as_ptr(&own).cast())
                && std::ptr::eq(waker.vtable, &raw const COUNTING)
        );
    });
    assert_eq!(counts(&own), (1, 0));
    drop((first, cache));
    assert_eq!(counts(&own), (1, 0), "somebody has it still");
    let woken = || own.woken.load(Ordering::SeqCst);
    second.wake_by_ref();
    assert_eq!(woken(), 1, "the object that was polled is gone, its waker is not");
    std::thread::spawn(move || second.wake()).join().unwrap();
    assert_eq!((woken(), counts(&own)), (2, (1, 1)));
    assert_eq!(Arc::strong_count(&own), 1);
}

#[test]
fn another_task_gets_a_clone_of_its_own() {
    let (a, b, cache) = (Arc::new(Counts::default()), Arc::new(Counts::default()), WakerCache::default());
    let of_a = inside(&a.context(), &cache, |cx| cx.waker().clone());
    let of_b = inside(&b.context(), &cache, |cx| cx.waker().clone());
    assert!(!of_a.will_wake(&of_b));
    of_a.wake();
    assert_eq!((a.woken.load(Ordering::SeqCst), b.woken.load(Ordering::SeqCst)), (1, 0));
    assert_eq!((counts(&a), counts(&b)), ((1, 1), (1, 0)), "the cache holds the last one alone");
    inside(&b.context(), &cache, |cx| cx.waker().wake_by_ref());
    assert_eq!(b.woken.load(Ordering::SeqCst), 1);
    drop((of_b, cache));
    assert_eq!((Arc::strong_count(&a), Arc::strong_count(&b)), (1, 1));
}

#[test]
fn wakers_lent_from_the_same_place_are_not_confused() {
    let cache = WakerCache::default();
    let ((a, waker_a), (b, waker_b)) = (Task::new(), Task::new());
    // One place in memory, as successive frames of a stack have.
    let mut place = waker_a;
    // SAFETY: lent for the call.
    let keep =
        |waker: &Waker| image::lend(waker, |raw| unsafe { enter(raw, &cache, |cx| cx.waker().clone()) });
    let kept_a = keep(&place);
    place = waker_b;
    let kept_b = keep(&place);
    kept_a.wake();
    assert_eq!((a.woken(), b.woken()), (1, 0));
    kept_b.wake();
    assert_eq!((a.woken(), b.woken()), (0, 1));
}

/// Wakers that are kept as an `AtomicWaker` does it: replaced unless they would wake the same task.
#[derive(Default)]
struct Slot {
    set: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Slot {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut kept = self.waker.lock().unwrap();
        if self.set.swap(false, Ordering::SeqCst) {
            return Poll::Ready(());
        }
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(cx.waker())) {
            *kept = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    fn set(&self) {
        self.set.store(true, Ordering::SeqCst);
        let waker = self.waker.lock().unwrap().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Two tasks in the plugin, woken across the boundary by each other; a lost wake-up is a hang.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wake_up_is_lost_between_threads() {
    const ROUNDS: usize = if cfg!(miri) { 50 } else { 5_000 };
    let (ping, pong) = (Arc::new(Slot::default()), Arc::new(Slot::default()));
    let side = |mine: &Arc<Slot>, theirs: &Arc<Slot>, begins: bool| {
        let (mine, theirs) = (Arc::clone(mine), Arc::clone(theirs));
        image::Awaited::<RUnit>::new(async move {
            if begins {
                theirs.set();
            }
            for _ in 0..ROUNDS {
                poll_fn(|cx| mine.poll(cx)).await;
                theirs.set();
            }
            RUnit::absent()
        })
    };
    let both = async {
        let (a, b) = (spawn(side(&ping, &pong, true)), spawn(side(&pong, &ping, false)));
        (a.await.unwrap(), b.await.unwrap())
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(60), both).await, Ok((true, true)));
}

/// Whether it ended without a panic.
fn spawn(awaited: image::Awaited<RUnit>) -> tokio::task::JoinHandle<bool> {
    tokio::spawn(async move { awaited.await.is_some() })
}
