//! Byte strings, lent and owned.

use abi_stable::StableAbi;

/// Bytes lent for the length of a call; not necessarily UTF-8.
#[repr(C)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct RSlice {
    /// Where they begin; may be dangling or null where `len` is 0.
    pub ptr: *const u8,
    /// How many they are.
    pub len: usize,
}

impl RSlice {
    /// Lends `bytes`; the caller keeps them alive for as long as the callee may look.
    #[must_use]
    pub const fn new(bytes: &[u8]) -> Self {
        Self { ptr: bytes.as_ptr(), len: bytes.len() }
    }

    /// The bytes.
    ///
    /// # Safety
    /// The lender keeps `ptr..ptr + len` readable and unchanged for `'a`.
    #[must_use]
    pub unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.ptr.is_null() || self.len == 0 {
            return &[];
        }
        // SAFETY: by this function's contract.
        unsafe { std::slice::from_raw_parts(self.ptr, self.len) }
    }
}

/// Bytes that the receiver owns; freed by the image that made them.
#[repr(C)]
#[derive(Debug, StableAbi)]
pub struct RBytes {
    /// Where they begin; may be null where `len` is 0.
    ptr: *mut u8,
    /// How many they are.
    len: usize,
    /// The maker's own: the size of its allocation, say.
    capacity: usize,
    /// Frees them; called once, with the three words above. Null where there is nothing to free.
    free: Option<extern "C" fn(ptr: *mut u8, len: usize, capacity: usize)>,
}

// SAFETY: owned plain bytes; `free` may be called from any thread.
unsafe impl Send for RBytes {}
// SAFETY: shared access only reads the bytes.
unsafe impl Sync for RBytes {}

impl RBytes {
    /// No bytes.
    pub const EMPTY: Self = Self { ptr: std::ptr::null_mut(), len: 0, capacity: 0, free: None };

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the maker gave up `ptr..ptr + len` to this value, which is borrowed for the result's life.
        unsafe { RSlice { ptr: self.ptr, len: self.len }.bytes() }
    }

    /// The bytes as text, with replacement characters where they are not UTF-8.
    #[must_use]
    pub fn to_text(&self) -> String {
        String::from_utf8_lossy(self.as_slice()).into_owned()
    }

    /// The bytes as a line for a person, whatever the other side wrote: control characters become spaces, and what is
    /// longer than 4 KiB is cut.
    #[must_use]
    pub fn to_line(&self) -> String {
        line(self.as_slice())
    }
}

impl Default for RBytes {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl From<Vec<u8>> for RBytes {
    fn from(bytes: Vec<u8>) -> Self {
        if bytes.capacity() == 0 {
            return Self::EMPTY;
        }
        let mut bytes = std::mem::ManuallyDrop::new(bytes);
        Self { ptr: bytes.as_mut_ptr(), len: bytes.len(), capacity: bytes.capacity(), free: Some(free_vec) }
    }
}

impl From<String> for RBytes {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl Drop for RBytes {
    fn drop(&mut self) {
        if let Some(free) = self.free.take() {
            free(self.ptr, self.len, self.capacity);
        }
    }
}

/// The most bytes that a line of the other side's has here.
const LONGEST_LINE: usize = 4096;

/// What the other side wrote for people, as one line that can be shown and logged: a line break or a sequence for a
/// terminal would tell of things that never happened. Control characters become spaces, what is not UTF-8 replacement
/// characters, and what is longer than 4 KiB is cut.
#[must_use]
pub fn line(bytes: &[u8]) -> String {
    let kept = &bytes[..bytes.len().min(LONGEST_LINE)];
    let text = String::from_utf8_lossy(kept);
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if kept.len() < bytes.len() {
        line.push('…');
    }
    line
}

extern "C" fn free_vec(ptr: *mut u8, len: usize, capacity: usize) {
    // SAFETY: called once, with the words of the vector that `From<Vec<u8>>` took apart in this same image.
    drop(unsafe { Vec::from_raw_parts(ptr, len, capacity) });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_harmless_and_short() {
        assert_eq!(line("fünf words".as_bytes()), "fünf words");
        assert_eq!(line(b"one\ntwo\r\x1b[31m\xff\0"), "one two  [31m\u{fffd} ");
        let long = line(&[b'x'; 10_000]);
        assert!(long.len() < 5000 && long.ends_with('…'), "{}", long.len());
    }
}
