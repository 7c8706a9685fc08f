//! Task contexts and wakers across the boundary, without an allocation per poll.
//!
//! A waker crosses as the two raw words of the owner's `std::task::Waker` and a table of the image that owns it. Only
//! that image interprets the words, so a host that polls its own stream through any number of plugins gets its very
//! own waker back (and `will_wake` holds). A plugin that merely forwards a poll passes the context's address on; only
//! one that keeps the waker clones it, into an [`Arc`] that a [`WakerCache`] re-uses from poll to poll.

use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, RawWaker, RawWakerVTable, Waker};

use super::guard;

/// A waker of either side.
#[repr(C)]
#[derive(Debug)]
pub struct RWaker {
    /// The owner's first word.
    pub data: *const (),
    /// The owner's second word.
    pub aux: *const (),
    /// The owner's functions; never null.
    pub vtable: *const RWakerVTable,
}

/// What can be done with a waker; each function may be called from any thread, at any time, also after the task ended.
#[repr(C)]
#[derive(Debug)]
pub struct RWakerVTable {
    /// Bytes in this table.
    pub size: usize,
    /// Another handle to the same waker, which the caller must drop.
    pub clone: unsafe extern "C" fn(waker: *const RWaker) -> RWaker,
    /// Wakes the task and leaves the handle as it is.
    pub wake_by_ref: unsafe extern "C" fn(waker: *const RWaker),
    /// Gives the handle back.
    pub drop: unsafe extern "C" fn(waker: *mut RWaker),
}

/// What a poll is given: the task to wake. Lent for the length of the call.
#[repr(C)]
#[derive(Debug)]
pub struct RContext {
    /// Bytes in this structure.
    pub size: usize,
    /// The task's waker, lent: clone it to keep it.
    pub waker: RWaker,
}

/// Calls `f` with `cx` in the form that crosses the boundary.
#[inline]
pub fn lend<R>(cx: &mut Context<'_>, f: impl FnOnce(*const RContext) -> R) -> R {
    let waker = cx.waker();
    let vtable: *const RawWakerVTable = waker.vtable();
    if std::ptr::eq(vtable, &raw const BORROWED) {
        // SAFETY: a waker with this table is made by `enter` alone, over a `Slot` that outlives the borrow of `cx`.
        let slot = unsafe { &*waker.data().cast::<Slot<'_>>() };
        return f(slot.context);
    }
    let waker = if std::ptr::eq(vtable, &raw const KEPT) {
        // SAFETY: a waker with this table holds a count of an `Arc<Kept>`, borrowed here for the call.
        let kept = unsafe { &*waker.data().cast::<Kept>() };
        RWaker { ..kept.0 }
    } else {
        RWaker { data: waker.data(), aux: vtable.cast(), vtable: &raw const OWN }
    };
    // Lent, not given: the callee clones it to keep it, and nobody drops this copy.
    f(&RContext { size: size_of::<RContext>(), waker })
}

/// Calls `f` with `raw` as a `Context`; `cache` is that of the object and direction being polled.
///
/// # Safety
/// `raw` is a valid context, lent for the length of this call.
#[inline]
pub unsafe fn enter<R>(raw: *const RContext, cache: &WakerCache, f: impl FnOnce(&mut Context<'_>) -> R) -> R {
    // SAFETY: valid by contract.
    let waker = unsafe { &(*raw).waker };
    if std::ptr::eq(waker.vtable, &raw const OWN) {
        // SAFETY: this image's own table stands for the two words of a std waker, alive while the context is lent.
        let own = unsafe { ManuallyDrop::new(std_waker(waker)) };
        return f(&mut Context::from_waker(&own));
    }
    let slot = Slot { context: raw, cache };
    // SAFETY: the functions of `BORROWED` treat the word as a `Slot`, which outlives the waker: it is only lent to
    // `f`, a clone does not refer to the slot, and it is never dropped.
    let borrowed = ManuallyDrop::new(unsafe { Waker::new((&raw const slot).cast(), &BORROWED) });
    f(&mut Context::from_waker(&borrowed))
}

/// The last foreign waker that code behind this boundary kept, for re-use while the same task polls.
#[derive(Debug, Default)]
pub struct WakerCache(Mutex<Option<Arc<Kept>>>);

impl WakerCache {
    fn keep(&self, waker: &RWaker) -> Arc<Kept> {
        // Compared with the words of the kept clone: it is alive, so equal words mean the same waker.
        if let Some(kept) = &*self.lock() {
            if kept.0.data == waker.data
                && kept.0.aux == waker.aux
                && std::ptr::eq(kept.0.vtable, waker.vtable)
            {
                return Arc::clone(kept);
            }
        }
        // SAFETY: `waker` is lent and valid; its table is its owner's.
        let kept = Arc::new(Kept(unsafe { ((*waker.vtable).clone)(waker) }));
        // The owner's functions run without the lock: dropping the last waker of a task may drop the task.
        let _earlier = self.lock().replace(Arc::clone(&kept));
        kept
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Kept>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A foreign waker that this image keeps.
#[derive(Debug)]
struct Kept(RWaker);

// SAFETY: the contract of `RWakerVTable` allows every function from any thread.
unsafe impl Send for Kept {}
// SAFETY: likewise.
unsafe impl Sync for Kept {}

impl Drop for Kept {
    fn drop(&mut self) {
        // SAFETY: this value owns the handle and is its last user.
        unsafe { ((*self.0.vtable).drop)(&raw mut self.0) }
    }
}

/// What the data word of a borrowed waker points to.
struct Slot<'a> {
    context: *const RContext,
    cache: &'a WakerCache,
}

static BORROWED: RawWakerVTable =
    RawWakerVTable::new(borrowed_clone, borrowed_wake_by_ref, borrowed_wake_by_ref, |_| {});
static KEPT: RawWakerVTable = RawWakerVTable::new(kept_clone, kept_wake, kept_wake_by_ref, kept_drop);

// SAFETY (all six): std calls them with the data word of a waker that has their table.
unsafe fn borrowed_clone(data: *const ()) -> RawWaker {
    // SAFETY: see `enter`.
    let slot = unsafe { &*data.cast::<Slot<'_>>() };
    // SAFETY: the context is lent for as long as the slot lives.
    let kept = slot.cache.keep(unsafe { &(*slot.context).waker });
    RawWaker::new(Arc::into_raw(kept).cast(), &KEPT)
}

unsafe fn borrowed_wake_by_ref(data: *const ()) {
    // SAFETY: as above.
    unsafe {
        let waker = &raw const (*(*data.cast::<Slot<'_>>()).context).waker;
        ((*(*waker).vtable).wake_by_ref)(waker);
    }
}

unsafe fn kept_clone(data: *const ()) -> RawWaker {
    // SAFETY: the word is a count of an `Arc<Kept>`.
    unsafe { Arc::increment_strong_count(data.cast::<Kept>()) };
    RawWaker::new(data, &KEPT)
}

unsafe fn kept_wake(data: *const ()) {
    // SAFETY: the caller gives up the count.
    unsafe {
        kept_wake_by_ref(data);
        kept_drop(data);
    }
}

unsafe fn kept_wake_by_ref(data: *const ()) {
    // SAFETY: the word is a live `Kept`.
    unsafe {
        let waker = &raw const (*data.cast::<Kept>()).0;
        ((*(*waker).vtable).wake_by_ref)(waker);
    }
}

unsafe fn kept_drop(data: *const ()) {
    // SAFETY: the caller gives up the count.
    drop(unsafe { Arc::from_raw(data.cast::<Kept>()) });
}

/// This image's own wakers: the words are those of a `std::task::Waker`.
static OWN: RWakerVTable = RWakerVTable {
    size: size_of::<RWakerVTable>(),
    clone: own_clone,
    wake_by_ref: own_wake_by_ref,
    drop: own_drop,
};

/// # Safety
/// `waker` has this image's table, so its words came from a live `Waker`; the result must not be dropped unless the
/// caller owns the handle.
unsafe fn std_waker(waker: &RWaker) -> Waker {
    // SAFETY: by contract; the second word was made from a `&'static RawWakerVTable`.
    unsafe { Waker::new(waker.data, &*waker.aux.cast::<RawWakerVTable>()) }
}

unsafe extern "C" fn own_clone(waker: *const RWaker) -> RWaker {
    // SAFETY: called with a handle of this table, lent for the call.
    let waker = unsafe { ManuallyDrop::new(std_waker(&*waker)) };
    let clone = guard(None, || Some(Waker::clone(&waker))).unwrap_or_else(|| Waker::noop().clone());
    let clone = ManuallyDrop::new(clone);
    RWaker {
        data: clone.data(),
        aux: std::ptr::from_ref::<RawWakerVTable>(clone.vtable()).cast(),
        vtable: &raw const OWN,
    }
}

unsafe extern "C" fn own_wake_by_ref(waker: *const RWaker) {
    // SAFETY: as above.
    let waker = unsafe { ManuallyDrop::new(std_waker(&*waker)) };
    guard((), || waker.wake_by_ref());
}

unsafe extern "C" fn own_drop(waker: *mut RWaker) {
    // SAFETY: the caller gives up the handle.
    let waker = unsafe { std_waker(&*waker) };
    guard((), || drop(waker));
}
