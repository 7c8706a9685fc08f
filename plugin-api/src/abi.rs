//! The boundary between a host and a plugin: plain C values and tables, and the shims that carry Rust through them.
//!
//! Plugin authors need nothing of this module; the rest of the crate is its safe face. A host needs all of it. What
//! each table promises (who frees, which threads, what a null means) is written beside it and, normatively, in the
//! book's ABI chapter.
//!
//! Rules that hold for every table:
//! - its first field is its `size` in bytes; a field beyond it is absent, and readers ask through `size`; they read through
//!   the pointer, as a reference would promise all that this version knows;
//! - a function may be called from any thread, one call at a time per object unless it says otherwise;
//! - a panic never crosses: the shims on both sides catch it and turn it into an error;
//! - dropping a future or stream cancels what it was doing and frees it.
#![expect(unsafe_code, reason = "the boundary itself; every block names the invariant it rests on")]

pub mod bytes;
pub mod conn;
pub mod context;
pub mod endpoint;
pub mod entry;
pub mod error;
pub mod future;
pub mod host;
pub mod instance;
pub mod io;
pub mod listener;
pub mod module;
pub mod services;
pub mod stream;
mod table;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `call`, giving `fallback` when it panics: no panic may reach an `extern "C"` frame.
#[inline]
pub(crate) fn guard<T>(fallback: T, call: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(value) => value,
        Err(payload) => {
            discard(payload);
            fallback
        }
    }
}

/// Drops what a panic carried, which may panic in its turn.
#[cold]
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // This one could go on for ever.
        std::mem::forget(again);
    }
}

/// Drops what `pointer` owns, swallowing a panic in its destructor.
///
/// # Safety
/// `pointer` came from `Box::into_raw` of a `Box<T>` and is not used again.
pub(crate) unsafe extern "C" fn drop_box<T>(pointer: *mut ()) {
    // SAFETY: the caller hands over the box it was made from.
    guard((), || drop(unsafe { Box::from_raw(pointer.cast::<T>()) }));
}

/// A plain structure whose first field is its size, written by one side into the other's memory.
///
/// # Safety
/// The type is `repr(C)`, begins with a `usize` that holds the number of valid bytes, and all-zero bytes are a valid
/// value of every later field that means "absent".
pub unsafe trait Sized0: Sized {
    /// A value with every field absent and `size` that of this version of the type.
    #[must_use]
    fn absent() -> Self {
        // SAFETY: the trait's contract says that zeroes are valid, and that the first word is the size.
        unsafe {
            let mut value = std::mem::MaybeUninit::<Self>::zeroed();
            value.as_mut_ptr().cast::<usize>().write(size_of::<Self>());
            value.assume_init()
        }
    }

    /// Writes `self` into `out`, as much of it as `out` has room for.
    ///
    /// # Safety
    /// `out` points to a value made by [`Sized0::absent`] of any minor version of the type, owned by the caller.
    unsafe fn write_to(self, out: *mut Self) {
        let value = std::mem::ManuallyDrop::new(self);
        // SAFETY: `out` has as many bytes as its size says; both types share a prefix. The size stays the reader's.
        unsafe {
            let room = out.cast::<usize>().read().min(size_of::<Self>());
            let head = size_of::<usize>();
            std::ptr::copy_nonoverlapping(
                (&raw const *value).cast::<u8>().add(head),
                out.cast::<u8>().add(head),
                room.saturating_sub(head),
            );
        }
    }
}
