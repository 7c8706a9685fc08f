//! The entry of plugins that are not written in Rust: a constant table behind a symbol of its own.

use super::host::RHost;
use super::module::RCreated;

/// What the entry symbol of a plugin in C is: a constant, called `endpoints_plugin_c1_` and the plugin's name.
#[repr(C)]
#[derive(Debug)]
pub struct REntry {
    /// Bytes in this structure.
    pub size: usize,
    /// The version of this structure: [`ENTRY_ABI`].
    pub abi: u32,
    /// Zero, for later use.
    pub reserved: u32,
    /// The manifest record, from its first byte on, as it is in the file's section: so that a host can see that what is
    /// loaded is what it has read.
    pub record: *const u8,
    /// Makes an instance for a host; never null. The plugin owns the handle to the host, also where it fails, and writes
    /// the result.
    pub create: Option<unsafe extern "C" fn(host: RHost, out: *mut RCreated)>,
}

// SAFETY: a constant of plain values.
unsafe impl Send for REntry {}
// SAFETY: likewise.
unsafe impl Sync for REntry {}

/// The version of the entry of plugins in C.
pub const ENTRY_ABI: u32 = 1;
