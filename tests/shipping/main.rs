//! What operators rely on: rights that the environment must not borrow, files that end the process that loads them, files
//! that are swapped while they are loaded, packages, and upgrades beside a running host.
//!
//! Much of this builds, or keeps a processor busy; tests in which time matters are in other programs.

mod built;
mod deadly;
mod debian;
#[expect(dead_code, reason = "shared with the tests of the command, which need all of it")]
#[path = "../command/harness.rs"]
mod harness;
mod page;
mod privileges;
#[expect(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "shared with the tests of behaviour, which need all of it"
)]
#[path = "../behaviour/support.rs"]
mod support;
mod swaps;
mod upgrade;

use std::io::{self, Write as _};

/// Says on screen, past the test harness, that something was not tested.
fn skip(what: &str, why: &str) {
    let _ = writeln!(io::stderr(), "not tested: {what}: {why}");
}

/// The same where something is not installed: a failure where nothing may be missing.
fn missing(what: &str, why: &str) {
    let required = std::env::var_os("ENDPOINTS_TEST_REQUIRE_PEERS").is_some_and(|value| value == "1");
    assert!(!required, "{what} cannot be tested: {why}");
    skip(what, why);
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
