//! Futures across the boundary: three functions and a place for the result.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::context::{RContext, WakerCache, enter, lend};
use super::error::RError;
use super::{Sized0, drop_box, guard};
use crate::error::Error;

/// A future; null `data` and `vt`: there is none. What it writes is fixed by who made it.
#[repr(C)]
#[derive(Debug)]
pub struct RFuture {
    /// The maker's own.
    pub data: *mut (),
    /// The maker's functions.
    pub vt: *const FutureVt,
}

/// The functions of a future.
#[repr(C)]
#[derive(Debug)]
pub struct FutureVt {
    /// Bytes in this table.
    pub size: usize,
    /// Polls it: [`PENDING`]; [`READY`], with the result written to `out`;
    /// or [`PANICKED`]. After either of the latter it may be polled again,
    /// and answers [`PANICKED`].
    pub poll: unsafe extern "C" fn(data: *mut (), cx: *const RContext, out: *mut ()) -> u32,
    /// Cancels and frees it.
    pub drop: unsafe extern "C" fn(data: *mut ()),
}

/// Not done; the context's waker will be called.
pub const PENDING: u32 = 0;
/// Done; the result is written.
pub const READY: u32 = 1;
/// It panicked, or was polled after its end; nothing is written.
pub const PANICKED: u32 = 2;

impl RFuture {
    /// No future.
    pub const NONE: Self = Self { data: std::ptr::null_mut(), vt: std::ptr::null() };

    /// Sends `future` across; the other side must know that its result, made from what the future gives, is an `R`.
    pub fn new<R, F>(future: F) -> Self
    where
        R: Sized0 + From<F::Output> + 'static,
        F: Future + Send + 'static,
    {
        let state =
            FutureBox { future: Some(future), cache: WakerCache::default(), result: PhantomData::<R> };
        Self { data: Box::into_raw(Box::new(state)).cast(), vt: &FutureBox::<F, R>::VT }
    }

    /// Whether there is no future.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.vt.is_null()
    }
}

/// A future of this image, as the table's functions see it.
struct FutureBox<F, R> {
    /// Gone once it ended or panicked.
    future: Option<F>,
    cache: WakerCache,
    result: PhantomData<R>,
}

impl<R: Sized0 + From<F::Output>, F: Future> FutureBox<F, R> {
    const VT: FutureVt = FutureVt { size: size_of::<FutureVt>(), poll: poll::<R, F>, drop: drop_box::<Self> };
}

unsafe extern "C" fn poll<R: Sized0 + From<F::Output>, F: Future>(
    data: *mut (),
    cx: *const RContext,
    out: *mut (),
) -> u32 {
    // SAFETY: `data` is the box that `RFuture::new` leaked; one call at a time.
    let state = unsafe { &mut *data.cast::<FutureBox<F, R>>() };
    let polled = guard(None, || {
        let future = state.future.as_mut()?;
        // SAFETY: the future stays in its box, and is dropped there, until the box is dropped.
        let future = unsafe { Pin::new_unchecked(future) };
        // SAFETY: the context is lent for this call.
        Some(unsafe { enter(cx, &state.cache, |cx| future.poll(cx)) }.map(R::from))
    });
    match polled {
        Some(Poll::Pending) => PENDING,
        Some(Poll::Ready(result)) => {
            guard((), || state.future = None);
            // SAFETY: whoever polls this future knows that it writes an `R`.
            unsafe { result.write_to(out.cast()) };
            READY
        }
        None => {
            guard((), || state.future = None);
            PANICKED
        }
    }
}

/// The other side's future, awaited here; the result is `None` when it panicked.
///
/// Dropping it cancels.
#[derive(Debug)]
pub struct Foreign<R> {
    raw: RFuture,
    result: PhantomData<fn() -> R>,
}

// SAFETY: the contract of the table allows use from any thread, one call at a time.
unsafe impl<R> Send for Foreign<R> {}
// SAFETY: `&Foreign` gives access to nothing.
unsafe impl<R> Sync for Foreign<R> {}

impl<R: Sized0> Foreign<R> {
    /// A future of this image, as the other side holds it.
    #[must_use]
    pub fn of<F>(future: F) -> Self
    where
        R: From<F::Output> + 'static,
        F: Future + Send + 'static,
    {
        Self { raw: RFuture::new::<R, F>(future), result: PhantomData }
    }

    /// Takes the future over.
    ///
    /// # Safety
    /// `raw` is valid, owned by the caller, and writes an `R`.
    #[must_use]
    pub unsafe fn new(raw: RFuture) -> Self {
        Self { raw, result: PhantomData }
    }

    /// Gives the future up.
    #[must_use]
    pub fn into_raw(self) -> RFuture {
        let this = std::mem::ManuallyDrop::new(self);
        RFuture { data: this.raw.data, vt: this.raw.vt }
    }
}

impl<R: Sized0> Future for Foreign<R> {
    type Output = Option<R>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<R>> {
        if self.raw.is_none() {
            return Poll::Ready(None);
        }
        let mut out = R::absent();
        // SAFETY: valid by the contract of `new`; `out` is an absent `R`.
        let state = lend(cx, |cx| unsafe { ((*self.raw.vt).poll)(self.raw.data, cx, (&raw mut out).cast()) });
        match state {
            PENDING => Poll::Pending,
            READY => Poll::Ready(Some(out)),
            _ => Poll::Ready(None),
        }
    }
}

impl<R> Drop for Foreign<R> {
    fn drop(&mut self) {
        if !self.raw.vt.is_null() {
            // SAFETY: owned, and not used again.
            unsafe { ((*self.raw.vt).drop)(self.raw.data) }
        }
    }
}

/// The result of a future that only succeeds or fails.
#[repr(C)]
#[derive(Debug)]
pub struct RUnit {
    /// Bytes in this structure.
    pub size: usize,
    /// Set where it failed.
    pub error: RError,
}

// SAFETY: `repr(C)`, size first; a zero `RError` is none.
unsafe impl Sized0 for RUnit {}

impl From<()> for RUnit {
    fn from((): ()) -> Self {
        Self::absent()
    }
}

impl From<Result<(), Error>> for RUnit {
    fn from(result: Result<(), Error>) -> Self {
        let mut unit = Self::absent();
        if let Err(error) = result {
            unit.error = error.into();
        }
        unit
    }
}

/// The result of a future that gives bytes.
#[repr(C)]
#[derive(Debug)]
pub struct RBytesResult {
    /// Bytes in this structure.
    pub size: usize,
    /// Set where it failed.
    pub error: RError,
    /// The bytes, where it did not.
    pub bytes: super::bytes::RBytes,
}

// SAFETY: `repr(C)`, size first; zeroes are no error and no bytes.
unsafe impl Sized0 for RBytesResult {}

impl From<Result<String, Error>> for RBytesResult {
    fn from(result: Result<String, Error>) -> Self {
        let mut out = Self::absent();
        match result {
            Ok(text) => out.bytes = text.into(),
            Err(error) => out.error = error.into(),
        }
        out
    }
}
