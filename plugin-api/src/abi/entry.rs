//! The entry of plugins that are not written in Rust: a constant table behind a symbol of its own.

use super::module::Create;

/// What the entry symbol of a plugin in C is: a constant, `endpoints_plugin_c1_` and the plugin's name.
#[repr(C)]
#[derive(Debug)]
pub struct REntry {
    /// Bytes in this structure.
    pub size: usize,
    /// The version of this entry: [`ENTRY_ABI`].
    pub abi: u32,
    /// Zero, for later use.
    pub reserved: u32,
    /// The manifest record, from its first byte on, as it is in the file's section: so that a host can see that what is
    /// loaded is what it has read.
    pub record: *const u8,
    /// Makes an instance for a host; never null.
    pub create: Option<Create>,
}

// SAFETY: a constant of plain values.
unsafe impl Send for REntry {}
// SAFETY: likewise.
unsafe impl Sync for REntry {}

/// The version of the entry for plugins that are not written in Rust.
pub const ENTRY_ABI: u32 = 1;
