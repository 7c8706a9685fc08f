//! Driving a plugin with a host that somebody else has built.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The folder that cargo builds into.
pub(crate) fn target() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let folder = test.parent().and_then(Path::parent).and_then(Path::parent);
    folder.expect("target/<profile>/deps").to_owned()
}

/// A file that is built by now.
pub(crate) fn built(path: &str) -> PathBuf {
    let file = target().join(path);
    assert!(file.exists(), "{} is not there: run `tests/run --full`, or build it first", file.display());
    file
}

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Drives a plugin through the checks, with the command of that host: all pass, but for those that are named here, which
/// fail.
pub(crate) fn passes(host: &Path, plugin: &Path, failing: &[&str], arguments: &[&str]) {
    let mut command = Command::new(host);
    command.args(["check-plugin", "--json"]).args(arguments).arg(plugin);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("XDG_DATA_HOME", "/nonexistent");
    let output = command.output().expect("the command");
    let document: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let report = &document["files"][0];
    let results = report["results"].as_array().expect("results");
    let failed: Vec<&Value> =
        results.iter().filter(|one| one["outcome"] == "failed" || one["outcome"] == "warned").collect();
    let names: Vec<&str> = failed.iter().filter_map(|one| one["check"].as_str()).collect();
    let (host, plugin) = (host.display(), plugin.display());
    assert!(names.iter().all(|name| failing.contains(name)), "{plugin} in {host}: {failed:#?}");
    assert!(
        failing.iter().all(|name| names.contains(name)),
        "{plugin} in {host}: of {failing:?} only {names:?} fail"
    );
    assert!(report["passed"].as_u64() >= Some(50), "{plugin} in {host}: {report:#}");
}
