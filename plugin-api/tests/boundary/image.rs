//! Another image: wakers whose table is not the crate's own, and futures and streams that are polled with them.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use endpoints_plugin_api::abi::Sized0;
use endpoints_plugin_api::abi::context::{RContext, RWaker, RWakerVTable};
use endpoints_plugin_api::abi::future::{PENDING, READY, RFuture};
use endpoints_plugin_api::abi::io::IoPoll;
use endpoints_plugin_api::abi::stream::RStream;

/// Calls `f` with `waker` as the other image lends it: by an address on its stack.
pub(crate) fn lend<R>(waker: &Waker, f: impl FnOnce(*const RContext) -> R) -> R {
    let waker = RWaker { data: std::ptr::from_ref(waker).cast(), aux: std::ptr::null(), vtable: &TABLE };
    f(&RContext { size: size_of::<RContext>(), waker })
}

static TABLE: RWakerVTable =
    RWakerVTable { size: size_of::<RWakerVTable>(), clone, wake_by_ref, drop: drop_waker };

/// # Safety
/// The word is the address of a live `Waker`.
unsafe fn waker<'a>(raw: *const RWaker) -> &'a Waker {
    // SAFETY: by contract.
    unsafe { &*(*raw).data.cast::<Waker>() }
}

unsafe extern "C" fn clone(raw: *const RWaker) -> RWaker {
    // SAFETY: a live handle, by the table's contract.
    let kept = Box::new(unsafe { waker(raw) }.clone());
    RWaker { data: Box::into_raw(kept).cast_const().cast(), aux: std::ptr::null(), vtable: &TABLE }
}

unsafe extern "C" fn wake_by_ref(raw: *const RWaker) {
    // SAFETY: as above.
    unsafe { waker(raw) }.wake_by_ref();
}

unsafe extern "C" fn drop_waker(raw: *mut RWaker) {
    // SAFETY: a handle from `clone`, given back.
    drop(unsafe { Box::from_raw((*raw).data.cast_mut().cast::<Waker>()) });
}

/// A future, awaited by the other image.
pub(crate) struct Awaited<R> {
    raw: RFuture,
    result: std::marker::PhantomData<fn() -> R>,
}

impl<R: Sized0 + 'static> Awaited<R> {
    pub(crate) fn new(future: impl Future<Output = R> + Send + 'static) -> Self {
        Self { raw: RFuture::new::<R, _>(future), result: std::marker::PhantomData }
    }
}

impl<R: Sized0> Future for Awaited<R> {
    type Output = Option<R>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<R>> {
        let mut out = R::absent();
        // SAFETY: a live future of an `R`.
        match lend(cx.waker(), |cx| unsafe {
            ((*self.raw.vt).poll)(self.raw.data, cx, (&raw mut out).cast())
        }) {
            PENDING => Poll::Pending,
            READY => Poll::Ready(Some(out)),
            _ => Poll::Ready(None),
        }
    }
}

// SAFETY: a future may be polled from any thread, one call at a time.
unsafe impl<R> Send for Awaited<R> {}

impl<R> Drop for Awaited<R> {
    fn drop(&mut self) {
        // SAFETY: owned.
        unsafe { ((*self.raw.vt).drop)(self.raw.data) }
    }
}

/// A stream, used by the other image.
pub(crate) struct Used(pub(crate) RStream);

impl Used {
    pub(crate) fn poll_read(&mut self, waker: &Waker, into: &mut [u8]) -> Poll<io::Result<usize>> {
        // SAFETY: a live stream; the memory is lent.
        let read = |cx| unsafe { ((*self.0.vt).poll_read)(self.0.data, cx, into.as_mut_ptr(), into.len()) };
        raise(lend(waker, read), into.len())
    }

    pub(crate) fn poll_write(&mut self, waker: &Waker, from: &[u8]) -> Poll<io::Result<usize>> {
        // SAFETY: a live stream; the bytes are lent.
        let write = |cx| unsafe { ((*self.0.vt).poll_write)(self.0.data, cx, from.as_ptr(), from.len()) };
        raise(lend(waker, write), from.len())
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        // SAFETY: owned.
        unsafe { ((*self.0.vt).drop)(self.0.data) }
    }
}

fn raise(polled: IoPoll, most: usize) -> Poll<io::Result<usize>> {
    polled.raise(most, || None)
}
