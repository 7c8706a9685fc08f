//! Laws: what must hold for every input whatever. Property tests, fuzz targets and the replay of a fuzz target's seeds
//! call the same ones.

pub mod grammar;
mod grammar_model;
pub mod proxy;
