//! Building what is written in C.

use std::env;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}

/// Where the headers for plugins in C lie.
#[must_use]
pub fn headers() -> PathBuf {
    root().join("plugin-api/include")
}

/// The C compiler: `$CC`, or `gcc`.
#[must_use]
pub fn compiler() -> Command {
    let mut command = Command::new(env::var_os("CC").unwrap_or_else(|| OsString::from("gcc")));
    // What a test has put before the plugins is not for the compiler.
    command.env_remove("LD_PRELOAD");
    command
}

/// The C++ compiler; none, and said on screen, where there is none.
///
/// # Panics
/// If there is none, and the environment says that what tests need must be there.
#[must_use]
pub fn cpp_compiler(what: &str) -> Option<Command> {
    if Command::new("g++").arg("--version").output().is_ok() {
        let mut command = Command::new("g++");
        command.env_remove("LD_PRELOAD");
        return Some(command);
    }
    let required = env::var_os("ENDPOINTS_TEST_REQUIRE_PEERS").is_some_and(|value| value == "1");
    assert!(!required, "g++ is not installed: run tests/install-peers");
    // Past the test harness, which keeps what is printed.
    let _ = writeln!(std::io::stderr(), "not tested: {what}: g++ is not installed");
    None
}

/// How plugins in C are compiled, but for the optimisation.
pub const FLAGS: [&str; 8] = [
    "-std=c11",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-Wl,--no-undefined",
];

/// Builds the plugin of a folder of `tests/fixtures/c`, with more flags, into a file.
///
/// # Errors
/// What the compiler said, or why it could not run.
pub fn build_plugin(name: &str, more: &[&str], to: &Path) -> Result<(), String> {
    build_folder(&root().join("tests/fixtures/c").join(name), more, to)
}

/// Builds a plugin of all C files of a folder, as [`build_plugin`] does.
///
/// # Errors
/// As those of [`build_plugin`].
pub fn build_folder(folder: &Path, more: &[&str], to: &Path) -> Result<(), String> {
    let in_folder = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(in_folder)? {
        let path = entry.map_err(in_folder)?.path();
        if path.extension().is_some_and(|extension| extension == "c") {
            sources.push(path);
        }
    }
    sources.sort();
    let mut command = compiler();
    // The manifest is named from the plugin's folder.
    command
        .current_dir(folder)
        .args(FLAGS)
        .args(more)
        .arg("-I")
        .arg(headers())
        .args(sources)
        .arg("-o")
        .arg(to);
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}
