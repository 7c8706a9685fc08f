//! What several tests of endpoints share.

use std::path::Path;
use std::process::Command;

pub mod build;
pub mod c;
pub mod laws;
pub mod object;

/// Makes throw-away certificates in a folder, by way of openssl.
///
/// # Errors
/// What the script said, or why it could not run.
pub fn make_certificates(folder: &Path) -> Result<(), String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/conformance/make_pki.sh");
    let made =
        Command::new("bash").arg(script).arg(folder).output().map_err(|error| format!("bash: {error}"))?;
    if made.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&made.stderr).into_owned()) }
}

/// The program of the README, as a documentation test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
