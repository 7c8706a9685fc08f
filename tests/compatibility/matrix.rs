//! Other compilers and other profiles.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::checked::{built, passes, root, target};

/// The compiler of Debian's package `rustc-web`: another release than the one that the host is built with.
const DEBIAN: &str = "/usr/bin/rustc";

/// How a plugin is built: a name, what cargo is told, and the checks that cannot pass then.
type Profile = (&'static str, &'static [&'static str], &'static [&'static str]);

const DEBUG: Profile = ("debug", &[], &[]);
const RELEASE: Profile = ("release", &["--release"], &[]);
const PROFILES: [Profile; 5] = [
    DEBUG,
    RELEASE,
    (
        "lto",
        &[
            "--release",
            "--config",
            "profile.release.lto=\"fat\"",
            "--config",
            "profile.release.codegen-units=1",
        ],
        &[],
    ),
    (
        "small",
        &[
            "--release",
            "--config",
            "profile.release.opt-level=\"z\"",
            "--config",
            "profile.release.lto=\"thin\"",
        ],
        &[],
    ),
    // A panic ends the process, so hosts refuse it unless they are told otherwise; `check-plugin` goes on.
    ("abort", &["--release", "--config", "profile.release.panic=\"abort\""], &["panic-policy"]),
];

/// Builds the sound plugin of the checks, a transport and a wrapper.
fn plugin(compiler: Option<&str>, profile: Profile) -> PathBuf {
    // Profiles share a folder, and tests run at once.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (name, arguments, _) = profile;
    let compilation = if compiler.is_some() { "debian" } else { "ours" };
    let folder = target().join("compatibility").join(compilation);
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).args([
        "build",
        "--quiet",
        "--locked",
        "-p",
        "endpoints-fixture-mutants",
        "--examples",
    ]);
    cargo.args(arguments).arg("--target-dir").arg(&folder);
    if let Some(compiler) = compiler {
        cargo.env("RUSTC", compiler);
    }
    assert!(cargo.status().expect("cargo").success(), "{compilation}, {name}: the plugin is not built");
    let built_in = if arguments.is_empty() { "debug" } else { "release" };
    // The next profile puts its file into the same place.
    let (file, fresh) = (folder.join(format!("{name}.so")), folder.join(format!("{name}.so.new")));
    // Renamed, as somebody may have the earlier one loaded.
    fs::copy(folder.join(built_in).join("examples/libmutants.so"), &fresh)
        .and_then(|_| fs::rename(&fresh, &file))
        .expect("a copy");
    file
}

/// Whether Debian's compiler is there and another one than ours; where it has to be, it must.
fn has_debians_compiler() -> bool {
    let version = |compiler: &str| {
        let output = Command::new(compiler).arg("--version").output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        text.split_whitespace().nth(1).map(str::to_owned)
    };
    let (theirs, ours) = (version(DEBIAN), version("rustc"));
    if theirs.is_some() && theirs != ours {
        return true;
    }
    assert!(
        env::var_os("ENDPOINTS_TEST_REQUIRE_PEERS").is_none(),
        "{DEBIAN} is {theirs:?}, and ours {ours:?}: tests/install-peers installs another one"
    );
    eprintln!("skipped: {DEBIAN} is {theirs:?}, and ours {ours:?}");
    false
}

#[test]
fn a_plugin_of_debians_compiler_carries_traffic() {
    if has_debians_compiler() {
        passes(&built("debug/endpoints"), &plugin(Some(DEBIAN), RELEASE), &[], &[]);
    }
}

#[test]
#[ignore = "builds a dozen times; `tests/run --full` does it"]
fn every_plugin_passes_in_every_host() {
    let hosts = ["debug/endpoints", "release/endpoints", "lto/endpoints"].map(built);
    let compilers = if has_debians_compiler() { vec![None, Some(DEBIAN)] } else { vec![None] };
    for profile in PROFILES {
        for compiler in &compilers {
            let plugin = plugin(*compiler, profile);
            for host in &hosts {
                passes(host, &plugin, profile.2, &[]);
            }
        }
    }
}

#[test]
#[ignore = "builds the command once more; `tests/run --full` does it"]
fn a_host_whose_panics_abort_contains_those_of_plugins() {
    let folder = target().join("compatibility/abort");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).args(["build", "--quiet", "--locked", "--release", "-p", "endpoints-cli"]);
    cargo.args(["--config", "profile.release.panic=\"abort\"", "--target-dir"]).arg(&folder);
    assert!(cargo.status().expect("cargo").success(), "the command is not built");
    let host = folder.join("release/endpoints");
    // The panics of this check are the host's own.
    passes(&host, &plugin(None, DEBUG), &["inner-panic"], &[]);
    panics_are_contained(&host);
}

/// A plugin that panics while it makes an endpoint, in a host whose own panics would abort.
fn panics_are_contained(host: &Path) {
    let mut command = Command::new(host);
    command.args(["check-plugin", "--json", "--only", "odd-values"]).arg(plugin(None, DEBUG));
    command.env("ENDPOINTS_MUTANT", "panics-on-odd-values");
    let output = command.output().expect("the command");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("the plugin panicked while it made an endpoint"), "{text}");
}
