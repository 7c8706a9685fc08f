//! What several tests of endpoints share.

pub mod laws;
