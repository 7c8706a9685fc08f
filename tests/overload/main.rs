//! The command under more than it can take: it bounds what it holds, tells at once what it cannot do, and recovers.
//!
//! What a process takes is measured, so the tests run one by one; `process.rs` measures, `load.rs` has what they share.

#[path = "../command/harness.rs"]
#[allow(dead_code, reason = "the tests here use a part of it")]
mod harness;
#[path = "../behaviour/support.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "the tests here use a part of it")]
mod support;

mod backends;
mod descriptors;
mod handshakes;
mod limits;
mod load;
mod memory;
mod process;
mod signals;
mod soak;
