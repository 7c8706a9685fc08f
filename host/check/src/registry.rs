//! The registry that checks use.

use endpoints::{Error, Registry};

use crate::memory;
use crate::task::Task;

/// The registry of a check: the file, the built-in schemes that it does not provide, and connections in memory.
pub(crate) fn registry(task: &Task) -> Result<Registry, Error> {
    let mut builder = Registry::builder()
        .default_plugin_path(false)
        .plugin_file(&task.file)
        .allow_abort(true)
        .compiled_in(&memory::PLUGIN);
    for directory in &task.plugin_path {
        builder = builder.plugin_path(directory);
    }
    for scheme in &task.schemes {
        if is_built_in(scheme) {
            builder = builder.without_built_in(scheme.clone());
        }
    }
    builder.build()
}

fn is_built_in(scheme: &str) -> bool {
    let built_in = Registry::builder().default_plugin_path(false).build();
    built_in.is_ok_and(|registry| registry.manifest(scheme).is_ok())
}
