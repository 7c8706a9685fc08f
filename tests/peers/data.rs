//! Bytes to send, and how to tell that they came through.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{program, run};

pub(crate) const MEGABYTE: usize = 1_000_000;

/// So many bytes that look random and are the same for the same seed. No part of them repeats, so that bytes that are
/// lost, doubled or out of order are noticed.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    // Splitmix64.
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for chunk in bytes.chunks_mut(8) {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let word = (word ^ (word >> 31)).to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
    bytes
}

/// A file of so many bytes of noise. Each megabyte is the same but for its number at the beginning, as making noise takes
/// longer than all the rest of a test.
pub(crate) fn noise_file(folder: &Path, name: &str, length: usize, seed: u64) -> PathBuf {
    let path = folder.join(name);
    let mut file = File::create_new(&path).expect("a file");
    let mut block = noise(length.min(MEGABYTE), seed);
    for begin in (0..length).step_by(MEGABYTE) {
        block[..8].copy_from_slice(&begin.to_le_bytes());
        file.write_all(&block[..MEGABYTE.min(length - begin)]).expect("space for a file");
    }
    path
}

/// The SHA-256 of a file, by a program: this one is not optimised when tests are built.
pub(crate) fn hash(path: &Path) -> String {
    let said = run(&mut Command::new(program("sha256sum")), Some(path)).expect("sha256sum");
    String::from_utf8_lossy(&said).split_whitespace().next().expect("a hash").to_owned()
}
