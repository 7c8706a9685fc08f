//! The pages of the schemes, whose tables are made from the manifests.
//!
//! `<!-- parameters: SCHEME ROLE -->` stands before a table. With `ENDPOINTS_BOOK_UPDATE=1` the tables are written anew.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use endpoints::Registry;
use endpoints::manifest::{Parameter, Role};
use tempfile::TempDir;

use crate::page;

/// All plugins of the project: the built-in ones, and `socks5` from its file in a folder such as hosts trust.
fn registry() -> (Registry, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let name = "libendpoints_plugin_socks5.so";
    let file = folder.path().join(name);
    fs::copy(page::profile_folder().join(name), &file).expect("a copy of the plugin");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("its mode");
    let builder = Registry::builder().default_plugin_path(false).plugin_path(folder.path());
    (builder.build().expect("a registry"), folder)
}

#[test]
fn tables_are_those_of_the_manifests() {
    let (registry, _folder) = registry();
    let update = env::var_os("ENDPOINTS_BOOK_UPDATE").is_some();
    let mut seen = 0;
    for report in registry.plugins() {
        for scheme in report.manifest.expect("a manifest").plugin.schemes {
            let path = format!("docs/src/schemes/{}.md", scheme.name);
            let text = page::read(&path);
            assert!(page::read("docs/src/SUMMARY.md").contains(&format!("schemes/{}.md", scheme.name)));
            let mut written = text.clone();
            for (name, role) in [("client", &scheme.client), ("server", &scheme.server)] {
                let Some(role) = role else { continue };
                let mark = format!("<!-- parameters: {} {name} -->\n", scheme.name);
                let (before, after) =
                    written.split_once(&mark).unwrap_or_else(|| panic!("{path}: no {mark}"));
                let rest: String = after
                    .lines()
                    .skip_while(|line| line.starts_with('|'))
                    .map(|line| format!("{line}\n"))
                    .collect();
                written = format!("{before}{mark}{}{rest}", table(role));
                seen += 1;
            }
            if update {
                fs::write(page::root().join(&path), &written).expect("the page is written");
            } else {
                assert!(text == written, "{path}: ENDPOINTS_BOOK_UPDATE=1 writes the tables anew");
            }
        }
    }
    assert!(seen >= 13, "{seen} tables");
}

/// Every example of a manifest is one that the grammar and the manifest take.
#[test]
fn examples_are_right() {
    let (registry, _folder) = registry();
    let mut seen = 0;
    for report in registry.plugins() {
        for scheme in report.manifest.expect("a manifest").plugin.schemes {
            for (role, is_client) in [(&scheme.client, true), (&scheme.server, false)] {
                for example in role.iter().flat_map(|role| &role.examples) {
                    let made = if is_client {
                        registry.client(example).map(drop)
                    } else {
                        registry.server(example).map(drop)
                    };
                    // Files and sockets that only others have are no mistake of the description.
                    if let Err(error) = made {
                        let said = error.to_string();
                        let elsewhere =
                            ["cannot read", "there is no socket", "no socket has the name", "no .pem"];
                        assert!(elsewhere.iter().any(|words| said.contains(words)), "{example}: {said}");
                    }
                    seen += 1;
                }
            }
        }
    }
    assert!(seen >= 22, "{seen} examples");
}

fn table(role: &Role) -> String {
    if role.parameters.is_empty() {
        return String::new();
    }
    let mut table = "| Argument | Type | Position | Default | |\n|---|---|---|---|---|\n".to_owned();
    for parameter in &role.parameters {
        let names: Vec<_> = std::iter::once(&parameter.name)
            .chain(&parameter.aliases)
            .map(|name| format!("`{name}`"))
            .collect();
        let position =
            parameter.position.map_or_else(|| "by name".to_owned(), |position| position.to_string());
        let mut about = parameter.description.clone();
        if !parameter.requires.is_empty() {
            let _ = write!(about, " Needs `{}`.", parameter.requires.join("`, `"));
        }
        if let Some(example) = &parameter.example {
            let _ = write!(about, " For example `{example}`.");
        }
        let _ = writeln!(
            table,
            "| {} | {} | {position} | {} | {} |",
            names.join(", "),
            kind(parameter),
            default(parameter),
            about.replace('|', "\\|")
        );
    }
    table
}

fn kind(parameter: &Parameter) -> String {
    let kind = serde_json::to_value(parameter.kind).expect("a name");
    let mut kind = kind.as_str().expect("a name").to_owned();
    if !parameter.choices.is_empty() {
        kind = parameter.choices.iter().map(|choice| format!("`{choice}`")).collect::<Vec<_>>().join(" or ");
    }
    match (parameter.min, parameter.max) {
        (None, None) => {}
        (min, Some(max)) => kind.push_str(&format!(", {} to {max}", min.unwrap_or(0))),
        (Some(min), None) => kind.push_str(&format!(", from {min}")),
    }
    if parameter.list { format!("list of {kind}") } else { kind }
}

fn default(parameter: &Parameter) -> String {
    let unit = parameter.unit.as_deref().map(|unit| format!(" {unit}")).unwrap_or_default();
    match (&parameter.default, &parameter.default_from) {
        _ if parameter.required => "required".into(),
        (Some(default), _) if default.is_empty() => "empty".into(),
        (Some(default), _) => format!("`{default}`{unit}"),
        (None, Some(source)) => format!("as `{source}`"),
        (None, None) => String::new(),
    }
}
