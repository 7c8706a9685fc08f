//! The boundary from both sides: what crosses comes out as it went in, and no fault of one side harms the other.
//!
//! Host and plugin are one image here, so each side's shortcut for its own wakers would always be taken; [`image`] plays
//! another image.
#![expect(unsafe_code, reason = "calls the tables as a host or plugin in another language does")]

mod arguments;
mod future;
mod handover;
mod image;
mod listener;
mod stream;
mod stream_faults;
mod values;
mod waker;
