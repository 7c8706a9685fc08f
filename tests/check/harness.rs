//! Running the checks.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

/// The folder of what this profile built.
pub(crate) fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let folder = test.parent().and_then(|deps| deps.parent()).expect("target/<profile>/deps");
    let path = folder.join(name);
    assert!(path.exists(), "{} is not there: run `cargo build --workspace` first", path.display());
    path
}

/// The file of the sound plugin, which the variable `ENDPOINTS_MUTANT` makes another.
pub(crate) fn mutants() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        // `cargo test` of this package alone does not build it.
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).args(["build", "--quiet", "--locked"]);
        let status = cargo.args(["-p", "endpoints-fixture-mutants", "--examples"]).status().expect("cargo");
        assert!(status.success(), "the plugin with the mutants is not built");
        built("examples/libmutants.so")
    })
}

/// `endpoints check-plugin`, in an environment that says nothing.
pub(crate) fn command<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(built("endpoints"));
    command.arg("check-plugin").args(arguments);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("XDG_DATA_HOME", "/nonexistent");
    command
}

pub(crate) fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Output {
    command(arguments).output().expect("the command")
}

/// The results of the one file that was checked.
pub(crate) fn results(output: &Output) -> Vec<Value> {
    let document: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    document["files"][0]["results"].as_array().expect("results").clone()
}

/// The results that came to something else than a pass, as text.
pub(crate) fn others(results: &[Value], but: &[&str]) -> Vec<String> {
    let other = results.iter().filter(|one| !but.contains(&one["outcome"].as_str().unwrap_or_default()));
    other.map(ToString::to_string).collect()
}
