//! The header `endpoints_plugin.h`, made from the definitions of the boundary in Rust.
//!
//! `ENDPOINTS_HEADER_UPDATE=1` writes it anew instead of comparing.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use cbindgen::{Builder, Config, EnumConfig, ExportConfig, ItemType, RenameRule, Style};

/// What the header has, by its name in Rust: what these refer to comes along.
const ITEMS: [&str; 13] = [
    "REntry", "RCreated", "RArgument", "RConnectContext", "RListenContext", "RListen", "RUnit", "RBytesResult",
    "RReadinessResult", "ErrorKind", "IoKind", "Level", "RIoSlice",
];

#[test]
fn generate() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut config = Config::default();
    config.language = cbindgen::Language::C;
    config.style = Style::Tag;
    config.cpp_compat = true;
    config.documentation_style = cbindgen::DocumentationStyle::Doxy;
    config.export.include = ITEMS.map(str::to_owned).to_vec();
    config.enumeration = EnumConfig { rename_variants: RenameRule::QualifiedScreamingSnakeCase, ..EnumConfig::default() };
    let mut builder = Builder::new().with_config(config);
    for f in fs::read_dir(root.join("plugin-api/src/abi")).unwrap() { builder = builder.with_src(f.unwrap().path()); }
    builder = builder.with_src(root.join("plugin-api/src/error.rs")).with_src(root.join("plugin-api/src/services.rs"));
    let b = builder.generate().unwrap();
    b.write_to_file("/tmp/cb/out.h");
}
