//! What several tests of endpoints share.

pub mod laws;

/// The program of the README, as a documentation test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
