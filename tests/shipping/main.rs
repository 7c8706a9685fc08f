//! What operators rely on: rights that the environment must not borrow, files that end the process that loads them,
//! packages, and upgrades beside a running host.

mod deadly;
mod debian;
#[expect(dead_code, reason = "shared with the tests of the command, which need all of it")]
#[path = "../command/harness.rs"]
mod harness;
mod page;
mod privileges;
mod upgrade;

use std::io::{self, Write as _};

/// Whether a test that needs this goes without it: said on screen, and a failure where nothing may be missing.
fn skip(what: &str, why: &str) {
    let required = std::env::var_os("ENDPOINTS_TEST_REQUIRE_PEERS").is_some_and(|value| value == "1");
    assert!(!required, "{what} cannot be tested: {why}");
    let _ = writeln!(io::stderr(), "not tested: {what}: {why}");
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
