//! The chapter on plugins in C: its excerpts are parts of plugins that are built and tested, its command builds one.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use endpoints::{PluginState, Registry};

use crate::page;

const PAGE: &str = "docs/src/plugins-in-c.md";

/// The blocks of the page with a mark of this kind, each with what the mark says.
fn blocks(mark: &str) -> Vec<(String, String)> {
    let text = page::read(PAGE);
    let mut lines = text.lines();
    let mut blocks = Vec::new();
    while let Some(line) = lines.next() {
        let said = line.strip_prefix(&format!("<!-- {mark}: ")).and_then(|rest| rest.strip_suffix(" -->"));
        let Some(said) = said else { continue };
        assert!(lines.next().is_some_and(|fence| fence.starts_with("```")), "{line}: no block follows");
        let block: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        blocks.push((said.to_owned(), block.join("\n") + "\n"));
    }
    blocks
}

#[test]
fn excerpts_are_parts_of_the_files() {
    let excerpts = blocks("part of");
    assert!(excerpts.len() > 5, "{}", excerpts.len());
    for (file, excerpt) in excerpts {
        assert!(page::read(&file).contains(&excerpt), "{file} has no such part:\n{excerpt}");
    }
}

#[test]
fn the_command_builds_a_plugin() {
    let (folder, command) = blocks("build").remove(0);
    let around = tempfile::tempdir().expect("a folder");
    let copy = around.path().join("plugin");
    fs::create_dir(&copy).expect("a folder");
    for entry in fs::read_dir(page::root().join(&folder)).expect("the plugin") {
        let entry = entry.expect("a file");
        fs::copy(entry.path(), copy.join(entry.file_name())).expect("a copy");
    }
    symlink(page::root(), around.path().join("endpoints")).expect("a link to the repository");
    let built = Command::new("sh").arg("-c").arg(&command).current_dir(&copy).output().expect("a shell");
    assert!(built.status.success(), "{command}{}", String::from_utf8_lossy(&built.stderr));
    let registry =
        Registry::builder().default_plugin_path(false).plugin_path(&copy).build().expect("a registry");
    let plugin =
        registry.plugins().into_iter().find(|plugin| plugin.origin.path().is_some()).expect("it is found");
    assert_eq!(plugin.state, PluginState::Available);
    for scheme in &plugin.manifest.expect("a manifest").plugin.schemes {
        for example in scheme.client.iter().flat_map(|role| &role.examples) {
            registry.client(example.as_str()).unwrap_or_else(|error| panic!("{example}: {error}"));
        }
        for example in scheme.server.iter().flat_map(|role| &role.examples) {
            registry.server(example.as_str()).unwrap_or_else(|error| panic!("{example}: {error}"));
        }
    }
}
