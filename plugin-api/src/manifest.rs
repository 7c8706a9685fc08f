//! The manifest record that every plugin carries, readable without running any of its code.
//!
//! A record lies in the section [`SECTION`] of the file: the 16 bytes of [`MAGIC`], the number of the form
//! ([`FORMAT`]) and the length of the text, both 32-bit little-endian, then the text, JSON:
//!
//! ```json
//! {"build": {"name": "…", "version": "…", "api": "1.0.0", "requires": "1.0.0", "rustc": "…", "target": "…",
//!            "panic": "unwind", "entry": "endpoints_plugin_v1_…"},
//!  "plugin": …the text of plugin.json…}
//! ```
//!
//! A file may hold several records, one for each plugin linked into it.

/// The section of an ELF file that holds the records.
pub const SECTION: &str = ".epplugin";

/// How a record begins.
pub const MAGIC: [u8; 16] = *b"endpoints-plugin";

/// The form of the record that this version writes.
pub const FORMAT: u32 = 1;

/// The bytes of a record before its text.
pub const HEAD: usize = 24;

/// The longest text that a host reads.
pub const MAX_TEXT: usize = 1 << 20;

/// What the name of the entry symbol of a plugin in Rust begins with; the crate's name follows.
pub const ENTRY_PREFIX: &str = "endpoints_plugin_v1_";

/// What the name of the entry symbol of a plugin in C begins with: the constant is an [`REntry`](crate::abi::entry::REntry).
pub const C_ENTRY_PREFIX: &str = "endpoints_plugin_c1_";

/// The oldest version of the API whose hosts can run plugins built with this one, unless they say otherwise.
pub const REQUIRES: &str = "1.0.0";

#[doc(hidden)]
pub const RUSTC: &str = env!("ENDPOINTS_RUSTC");
#[doc(hidden)]
pub const TARGET: &str = env!("ENDPOINTS_TARGET");

#[doc(hidden)]
#[must_use]
pub const fn length(parts: &[&str]) -> usize {
    let mut total = 0;
    let mut at = 0;
    while at < parts.len() {
        total += parts[at].len();
        at += 1;
    }
    total
}

/// Joins texts at compile time.
#[doc(hidden)]
#[must_use]
pub const fn join<const N: usize>(parts: &[&str]) -> [u8; N] {
    let mut out = [0; N];
    let (mut at, mut place) = (0, 0);
    while at < parts.len() {
        place = copy(&mut out, place, parts[at].as_bytes());
        at += 1;
    }
    assert!(place == N, "the length is that of the parts");
    out
}

/// Puts a record's head before its text at compile time.
#[doc(hidden)]
#[must_use]
pub const fn record<const N: usize>(text: &[u8]) -> [u8; N] {
    assert!(N == text.len() + HEAD && text.len() <= MAX_TEXT, "a manifest has at most 1 MiB");
    let mut out = [0; N];
    let mut place = copy(&mut out, 0, &MAGIC);
    place = copy(&mut out, place, &FORMAT.to_le_bytes());
    #[expect(clippy::cast_possible_truncation, reason = "at most MAX_TEXT")]
    let len = text.len() as u32;
    place = copy(&mut out, place, &len.to_le_bytes());
    copy(&mut out, place, text);
    out
}

const fn copy(out: &mut [u8], place: usize, bytes: &[u8]) -> usize {
    let mut at = 0;
    while at < bytes.len() {
        out[place + at] = bytes[at];
        at += 1;
    }
    place + bytes.len()
}
