//! Memory for bytes that move, which goes back to the kernel when nobody needs it.

use std::cell::RefCell;
use std::io;
use std::ops::{Deref, DerefMut, Range};

use memmap2::MmapMut;

/// What one read takes at most.
pub(super) const CHUNK: usize = 64 * 1024;

/// Buffers that a thread keeps for the next ones, at most.
const KEPT: usize = 4;

/// What is copied out of a buffer, so that few bytes do not hold all of it.
const FEW: usize = 4 * 1024;

thread_local! {
    /// What is not in use: what can be written at once never needs more than one, and an idle connection none.
    static KEEPER: RefCell<Vec<MmapMut>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of [`CHUNK`] bytes, which is kept for others when it is dropped.
///
/// It has pages of its own. An allocator keeps what many directions had that were stuck at the same time: it can
/// give back no more than what lies behind all that is still in use.
pub(super) struct Buffer(
    /// Until it is dropped.
    Option<MmapMut>,
);

impl Buffer {
    /// # Errors
    /// If the process may have no more memory.
    pub(super) fn take() -> io::Result<Self> {
        let kept = KEEPER.try_with(|keeper| keeper.borrow_mut().pop()).ok().flatten();
        Ok(Self(Some(kept.map_or_else(|| MmapMut::map_anon(CHUNK), Ok)?)))
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.as_deref_mut().unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // Where the thread has ended, it is unmapped.
        let _ = KEEPER.try_with(|keeper| {
            let mut keeper = keeper.borrow_mut();
            if keeper.len() < KEPT {
                keeper.extend(self.0.take());
            }
        });
    }
}

/// Bytes that were read and could not be written yet.
pub(super) enum Pending {
    Few(Vec<u8>, usize),
    Much(Buffer, Range<usize>),
}

impl Pending {
    /// Of what is in `buffer` those at `place`.
    pub(super) fn new(buffer: Buffer, place: Range<usize>) -> Self {
        if place.len() <= FEW { Self::Few(buffer[place].to_vec(), 0) } else { Self::Much(buffer, place) }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Few(bytes, written) => &bytes[*written..],
            Self::Much(buffer, place) => &buffer[place.clone()],
        }
    }

    /// Without the first `count` of them; nothing where that is all.
    pub(super) fn after(mut self: Box<Self>, count: usize) -> Option<Box<Self>> {
        match &mut *self {
            Self::Few(_, written) => *written += count,
            Self::Much(_, place) => place.start += count,
        }
        (!self.bytes().is_empty()).then_some(self)
    }
}
