//! Plugins in C: the header for their authors, and plugins that are built with it.

mod header;
mod layout;
