//! Endpoints described by text.

pub mod grammar;
