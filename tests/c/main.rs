//! Plugins in C: the header for their authors, and plugins that are built with it.

#[path = "../behaviour/support.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "the bodies here use a part of it")]
mod support;

mod alone;
mod checks;
mod entry;
mod header;
mod layout;
mod released;
mod streams;
mod transport;
mod world;
mod wrapper;
