//! Benchmarks: what this library costs beside raw tokio, in one run, as ratios.
//!
//! `cargo bench -p endpoints-tests` after `cargo build --release --workspace` (the `.so` plugins come from there);
//! `--quick` for a short run. A timing is no test: nothing here fails for being slow.

mod descriptions;
mod measure;
mod proxy;
mod startup;
mod streams;
mod tls;

use std::path::PathBuf;

use endpoints::Registry;

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
    let plugins = Plugins::gather();
    if wants("descriptions") {
        descriptions::run(quick, &plugins);
    }
    if wants("proxy") {
        proxy::run(quick);
    }
    if wants("tls") {
        tls::run(quick, &plugins);
    }
    if wants("startup") {
        startup::run(quick, &plugins);
    }
    if wants("memory") {
        streams::memory(quick, &plugins);
    }
    if wants("streams") {
        streams::run(quick, &plugins);
    }
}

/// The plugins as `.so` files, in a folder that hosts trust.
struct Plugins {
    folder: tempfile::TempDir,
    profile: PathBuf,
}

impl Plugins {
    fn gather() -> Self {
        let executable = std::env::current_exe().expect("the bench has a path");
        let profile = executable.ancestors().nth(2).expect("target/release/deps/bench").to_owned();
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in
            ["plugin_tcp", "plugin_tls", "plugin_unix", "plugin_socks5", "fixture_pass", "fixture_memory"]
        {
            let file = format!("libendpoints_{name}.so");
            let source = profile.join(&file);
            std::fs::copy(&source, folder.path().join(&file)).unwrap_or_else(|error| {
                panic!("{}: {error}; run cargo build --release --workspace first", source.display())
            });
        }
        Self { folder, profile }
    }

    /// Built-in plugins, and the wrappers from files.
    fn built_in(&self) -> Registry {
        Registry::builder()
            .default_plugin_path(false)
            .plugin_path(self.folder.path())
            .build()
            .expect("a sound registry")
    }

    /// Plugins from files alone.
    fn loaded(&self) -> Registry {
        Registry::builder()
            .default_plugin_path(false)
            .no_built_in()
            .plugin_path(self.folder.path())
            .build()
            .expect("a sound registry")
    }
}
