//! What the host knows while a plugin makes an endpoint, on the thread that does: which endpoints the plugin has asked
//! for, and what belongs beneath it.

use std::cell::RefCell;
use std::sync::Arc;

use super::{Endpoint, RoleKind};
use crate::grammar::Description;
use crate::provider::SchemeEntry;
use crate::registry::Registry;

/// A preamble, such as a PROXY header, that was written around an encrypting scheme and belongs beneath it, where the
/// bytes are not encrypted yet.
pub(super) struct Preamble {
    pub(super) role: RoleKind,
    pub(super) description: Description,
    pub(super) entry: SchemeEntry,
    pub(super) registry: Registry,
    /// One that was written around this one, and belongs beneath it too.
    pub(super) outer: Option<Arc<Preamble>>,
}

#[derive(Default)]
struct Frame {
    asked_for: Vec<Arc<Endpoint>>,
    beneath: Option<Arc<Preamble>>,
}

thread_local! {
    static FRAMES: RefCell<Vec<Frame>> = const { RefCell::new(Vec::new()) };
}

/// What came of a call in which a plugin made an endpoint.
pub(super) struct Made<T> {
    pub(super) result: T,
    /// The endpoints that the plugin asked for during the call.
    pub(super) asked_for: Vec<Arc<Endpoint>>,
    /// What belongs beneath it, where it asked for none.
    pub(super) beneath: Option<Arc<Preamble>>,
}

/// Calls a plugin that makes an endpoint. The first endpoint that it asks for stands around `beneath`.
pub(super) fn watched<T>(beneath: Option<Arc<Preamble>>, call: impl FnOnce() -> T) -> Made<T> {
    /// Ends with the call, also when it panics.
    struct Watching;
    impl Drop for Watching {
        fn drop(&mut self) {
            FRAMES.with_borrow_mut(Vec::pop);
        }
    }

    FRAMES.with_borrow_mut(|frames| frames.push(Frame { asked_for: Vec::new(), beneath }));
    let _watching = Watching;
    let result = call();
    let frame = FRAMES.with_borrow_mut(|frames| frames.last_mut().map(std::mem::take)).unwrap_or_default();
    Made { result, asked_for: frame.asked_for, beneath: frame.beneath }
}

/// Takes what belongs beneath the endpoint that a plugin is making, for the one that it asks for now.
pub(super) fn take_beneath() -> Option<Arc<Preamble>> {
    FRAMES.with_borrow_mut(|frames| frames.last_mut()?.beneath.take())
}

/// Notes what a plugin has asked for, where it is making an endpoint.
pub(super) fn note(endpoint: &Arc<Endpoint>) {
    FRAMES.with_borrow_mut(|frames| {
        if let Some(frame) = frames.last_mut() {
            frame.asked_for.push(Arc::clone(endpoint));
        }
    });
}
