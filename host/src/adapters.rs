//! Endpoints in the terms of other crates, each behind a feature that is called as the crate.
//!
//! Where a trait of the other crate says it all, it is implemented for a type of this crate and nothing stands here: the
//! chapter on adapters of the book has a table.

#[cfg(feature = "axum")]
mod axum;
#[cfg(feature = "clap")]
pub mod clap;
#[cfg(feature = "futures-core")]
mod futures_core;
#[cfg(feature = "hyper-util")]
pub mod hyper_util;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(feature = "schemars")]
pub mod schemars;
#[cfg(feature = "serde")]
pub mod serde;
#[cfg(feature = "tokio-util")]
mod tokio_util;
#[cfg(feature = "tonic")]
mod tonic;
#[cfg(feature = "tower-service")]
mod tower_service;
