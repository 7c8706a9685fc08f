//! Memory for records: what a thread lends while it works on some, and what a connection keeps in between.

use std::cell::Cell;
use std::thread::LocalKey;

use rustls::unbuffered::{EncodeError, EncodeTlsData};

/// The most that a record holds (RFC 8446, section 5.1).
pub(super) const RECORD: usize = 16 * 1024;

/// What encryption adds to it: the header, the number and the tag of TLS 1.2; in TLS 1.3 it is less.
pub(super) const OVERHEAD: usize = 5 + 8 + 16;

/// Bytes that are encrypted, or decrypted, and passed on at once.
pub(super) const BATCH: usize = 4 * RECORD;

/// The most that is kept of what cannot be decrypted yet: a message of the handshake has 64 KiB at most, and is not taken out
/// of its records before it is complete.
pub(super) const KEPT: usize = 80 * 1024;

type Memory = Cell<Option<Box<[u8]>>>;

thread_local! {
    static INCOMING: Memory = const { Cell::new(None) };
    static OUTGOING: Memory = const { Cell::new(None) };
}

/// Lends memory for records to decrypt: what is kept of a connection, and [`BATCH`] bytes more.
pub(super) fn with_incoming<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    lend(&INCOMING, KEPT + BATCH + BATCH / RECORD * OVERHEAD, |memory| work(memory))
}

/// Lends memory for records to send: for [`BATCH`] bytes, and what else may have to be said.
pub(super) fn with_outgoing<T>(work: impl FnOnce(&mut Outgoing<'_>) -> T) -> T {
    lend(&OUTGOING, BATCH + RECORD, |memory| work(&mut Outgoing { memory, filled: 0 }))
}

/// Taken out for so long, as the stream below may be one of TLS too.
fn lend<T>(place: &'static LocalKey<Memory>, size: usize, work: impl FnOnce(&mut Box<[u8]>) -> T) -> T {
    let mut memory = place.take().unwrap_or_else(|| vec![0; size].into_boxed_slice());
    let done = work(&mut memory);
    // What had to be larger for once is not kept.
    if memory.len() == size {
        place.set(Some(memory));
    }
    done
}

/// Records to send.
pub(super) struct Outgoing<'m> {
    memory: &'m mut Box<[u8]>,
    filled: usize,
}

impl Outgoing<'_> {
    pub(super) fn filled(&self) -> &[u8] {
        &self.memory[..self.filled]
    }

    /// Has `write` put records behind the others; it says how many bytes they have.
    pub(super) fn append<E>(&mut self, write: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<(), E> {
        self.filled += write(&mut self.memory[self.filled..])?;
        Ok(())
    }

    /// Appends what rustls has to say, however long it is.
    pub(super) fn encode<D>(&mut self, mut data: EncodeTlsData<'_, D>) -> Result<(), EncodeError> {
        match self.append(|room| data.encode(room)) {
            Err(EncodeError::InsufficientSize(needed)) => {
                let mut larger = vec![0; self.filled + needed.required_size].into_boxed_slice();
                larger[..self.filled].copy_from_slice(self.filled());
                *self.memory = larger;
                self.append(|room| data.encode(room))
            }
            done => done,
        }
    }
}

/// Bytes that wait for somebody to take them; without any, no memory is held, and little room for knowing where.
#[derive(Default)]
pub(super) struct Waiting(Option<Box<Queue>>);

struct Queue {
    bytes: Vec<u8>,
    taken: usize,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let queue = self.0.get_or_insert_with(|| Box::new(Queue { bytes: Vec::new(), taken: 0 }));
        queue.bytes.reserve_exact(bytes.len());
        queue.bytes.extend_from_slice(bytes);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_deref().map_or(&[], |queue| &queue.bytes[queue.taken..])
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.as_deref_mut().map_or(&mut [], |queue| &mut queue.bytes[queue.taken..])
    }

    /// The bytes of memory that are held.
    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.bytes.capacity())
    }

    /// Takes away the first `count` of [`bytes`](Self::bytes).
    pub(super) fn consume(&mut self, count: usize) {
        if let Some(queue) = &mut self.0 {
            queue.taken += count;
            if queue.taken == queue.bytes.len() {
                self.0 = None;
            }
        }
    }
}
