//! A version of the boundary that is yet to come, made of this one: what old and new plugins and hosts make of each other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::checked::{built, passes, root, target};
use crate::kept::kept;

/// What makes version 1.1 of this one: something more at the end of each sort of thing that grows, as
/// `docs/src/abi.md` says it is done.
const CHANGES: &[(&str, &str, &str)] = &[
    ("plugin-api/Cargo.toml", "version = \"1.0.0\"", "version = \"1.1.0\""),
    // The module.
    (
        "plugin-api/src/abi/module.rs",
        "    pub create: Create,\n}",
        "    pub create: Create,\n    /// Since 1.1.\n    #[sabi(missing_field(option))]\n    pub edition: u64,\n}",
    ),
    ("plugin-api/src/lib.rs", "create: create::<P> }", "create: create::<P>, edition: 11 }"),
    (
        "host/src/loader/open.rs",
        "    // SAFETY: the module was checked.",
        "    assert_eq!(module.edition().unwrap_or(11), 11);\n    // SAFETY: the module was checked.",
    ),
    // A table of the host, and one of both sides.
    (
        "plugin-api/src/abi/host.rs",
        "    pub log: unsafe extern \"C\" fn(data: *const (), level: u32, line: RSlice),\n}",
        "    pub log: unsafe extern \"C\" fn(data: *const (), level: u32, line: RSlice),\n    \
         /// Since 1.1.\n    pub edition: unsafe extern \"C\" fn(data: *const ()) -> u64,\n}",
    ),
    (
        "plugin-api/src/abi/services.rs",
        "        log: log::<S>,\n    };\n}",
        "        log: log::<S>,\n        edition,\n    };\n}\n\nunsafe extern \"C\" fn edition(_data: *const ()) -> u64 {\n    11\n}",
    ),
    (
        "plugin-api/src/services.rs",
        "    /// Whether a message of that level would be seen.\n",
        "    /// The edition of the host, where it tells.\n    #[must_use]\n    pub fn edition(&self) -> Option<u64> {\n        \
         use crate::abi::host::HostVt;\n        \
         let end = std::mem::offset_of!(HostVt, edition) + size_of::<usize>();\n        \
         // SAFETY: a valid handle; what the table's size does not reach is not read.\n        \
         unsafe { ((*self.0.vt).size >= end).then(|| ((*self.0.vt).edition)(self.0.data)) }\n    }\n\n    \
         /// Whether a message of that level would be seen.\n",
    ),
    (
        "plugin-api/src/abi/stream.rs",
        "    /// Closes and frees it.\n    pub drop: unsafe extern \"C\" fn(data: *mut ()),\n}",
        "    /// Closes and frees it.\n    pub drop: unsafe extern \"C\" fn(data: *mut ()),\n    /// Since 1.1.\n    pub edition: u64,\n}",
    ),
    (
        "plugin-api/src/abi/stream.rs",
        "            drop: drop_box::<Self>,\n",
        "            drop: drop_box::<Self>,\n            edition: 11,\n",
    ),
    // A structure that one side writes into the other's memory, and one that is lent.
    (
        "plugin-api/src/abi/conn.rs",
        "    pub handshake: RFuture,\n}",
        "    pub handshake: RFuture,\n    /// Since 1.1.\n    pub edition: u64,\n}",
    ),
    (
        "plugin-api/src/abi/conn.rs",
        "        conn.facts = taken.facts;\n",
        "        conn.facts = taken.facts;\n        conn.edition = 11;\n",
    ),
    (
        "plugin-api/src/abi/endpoint.rs",
        "    pub origin: RSlice,\n}",
        "    pub origin: RSlice,\n    /// Since 1.1.\n    pub edition: u64,\n}",
    ),
    (
        "plugin-api/src/abi/endpoint.rs",
        "origin: RSlice::new(origin) };",
        "origin: RSlice::new(origin), edition: 11 };",
    ),
    (
        "plugin-api/src/abi/entry.rs",
        "    pub create: Option<unsafe extern \"C\" fn(host: RHost, out: *mut RCreated)>,\n}",
        "    pub create: Option<unsafe extern \"C\" fn(host: RHost, out: *mut RCreated)>,\n    /// Since 1.1.\n    pub edition: u64,\n}",
    ),
    (
        "plugin-api/src/abi/module.rs",
        "    pub vt: *const PluginVt,\n}",
        "    pub vt: *const PluginVt,\n    /// Since 1.1.\n    pub edition: u64,\n}",
    ),
    (
        "plugin-api/src/abi/module.rs",
        "    /// Frees the instance; its endpoints live on.\n    pub drop: unsafe extern \"C\" fn(data: *mut ()),\n}",
        "    /// Frees the instance; its endpoints live on.\n    pub drop: unsafe extern \"C\" fn(data: *mut ()),\n    /// Since 1.1.\n    pub edition: u64,\n}",
    ),
    (
        "plugin-api/src/abi/module.rs",
        "drop: super::drop_box::<P> };",
        "drop: super::drop_box::<P>, edition: 11 };",
    ),
    (
        "plugin-api/src/abi/module.rs",
        "    pub endpoint: REndpoint,\n}",
        "    pub endpoint: REndpoint,\n    /// Since 1.1.\n    pub edition: u64,\n}",
    ),
    (
        "plugin-api/src/abi/instance.rs",
        "ForeignEndpoint::into_raw),\n",
        "ForeignEndpoint::into_raw),\n                edition: 11,\n",
    ),
    (
        "plugin-api/src/abi/listener.rs",
        "    /// Stops listening and frees it.\n    pub drop: unsafe extern \"C\" fn(data: *mut ()),\n}",
        "    /// Stops listening and frees it.\n    pub drop: unsafe extern \"C\" fn(data: *mut ()),\n    /// Since 1.1.\n    pub edition: u64,\n}",
    ),
    (
        "plugin-api/src/abi/listener.rs",
        "        drop: drop_box::<Self>,\n",
        "        drop: drop_box::<Self>,\n        edition: 11,\n",
    ),
    (
        "plugin-api/src/abi/future.rs",
        "    pub error: RError,\n}\n\n// SAFETY: `repr(C)`, size first; a zero `RError` is none.",
        "    pub error: RError,\n    /// Since 1.1.\n    pub edition: u64,\n}\n\n// SAFETY: `repr(C)`, size first; a zero `RError` is none.",
    ),
    // A plugin that uses it where it is there.
    (
        "tests/fixtures/mutants/src/lib.rs",
        "        let settings = Settings::read(arguments, true)?;\n",
        "        let mut settings = Settings::read(arguments, true)?;\n        \
         let edition = self.shared.host.edition().map_or(\"none\".to_owned(), |edition| edition.to_string());\n        \
         settings.described.push(\"mutant.edition\", edition);\n",
    ),
];

/// What the newer version is built from, and where its parts lie then.
const PARTS: [&str; 6] =
    ["Cargo.lock", "host", "plugin-api", "plugins", "tests/fixtures/mutants", "LICENSE-MIT"];
const MEMBERS: &str = "members = [\"host\", \"host/check\", \"host/cli\", \"plugin-api\", \"plugins/*\", \"tests/fixtures/mutants\"]";

/// Builds version 1.1: the command, and the sound plugin of the checks.
fn newer() -> (PathBuf, PathBuf) {
    let folder = target().join("compatibility/rehearsal");
    let source = folder.join("source");
    let _ = fs::remove_dir_all(&source);
    for part in PARTS {
        copy(&root().join(part), &source.join(part));
    }
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the workspace");
    let (before, members) = manifest.split_once("members = [").expect("its members");
    let (_, after) = members.split_once(']').expect("their end");
    fs::write(source.join("Cargo.toml"), [before, MEMBERS, after].concat()).expect("a workspace");
    for (file, old, new) in CHANGES {
        let path = source.join(file);
        let text = fs::read_to_string(&path).expect("a source file");
        assert_eq!(
            text.matches(old).count(),
            1,
            "{file} has changed; what is rehearsed must change with it: {old}"
        );
        fs::write(&path, text.replace(old, new)).expect("a changed file");
    }
    for arguments in [&["-p", "endpoints-cli"][..], &["-p", "endpoints-fixture-mutants", "--examples"]] {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(&source).args(["build", "--quiet", "--offline"]).args(arguments);
        cargo.arg("--target-dir").arg(folder.join("target"));
        assert!(cargo.status().expect("cargo").success(), "version 1.1 does not build");
    }
    let built = folder.join("target/debug");
    (built.join("endpoints"), built.join("examples/libmutants.so"))
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        for entry in fs::read_dir(from).expect("a folder") {
            let entry = entry.expect("an entry");
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        fs::copy(from, to).expect("a copy");
    }
}

#[test]
#[ignore = "builds the command once more; `tests/run --full` does it"]
fn old_and_new_work_together() {
    let (new_host, new_plugin) = newer();
    let (old_host, old_plugin) = (built("debug/endpoints"), built("debug/examples/libmutants.so"));
    assert_eq!(api(&old_host, &new_plugin), "1.1.0");
    assert_eq!(api(&new_host, &old_plugin), "1.0.0");

    passes(&new_host, &new_plugin, &[], &[]);
    passes(&new_host, &old_plugin, &[], &[]);
    passes(&old_host, &new_plugin, &[], &[]);
    let (_folder, released) = kept();
    for plugin in released {
        passes(&new_host, &plugin, &[], &[]);
    }

    // What is new is used where both sides have it.
    assert_eq!(edition(&new_host, &new_plugin), "11");
    assert_eq!(edition(&old_host, &new_plugin), "none");
    assert_eq!(edition(&new_host, &old_plugin), "");

    // A plugin that cannot do without it says so, and is refused where it is not there.
    let refused = |host: &Path| {
        let (_, document) =
            run(host, &["check-plugin", "--json", "--only", "api-version"], &needing(&new_plugin));
        document["files"][0]["results"][0]["message"].as_str().map(str::to_owned)
    };
    assert_eq!(refused(&new_host), None);
    assert!(refused(&old_host).is_some_and(|message| message.contains("1.1.0")));
}

/// The version of the boundary that a host finds a plugin to be built with.
fn api(host: &Path, plugin: &Path) -> String {
    let (_, document) = run(host, &["inspect", "--json"], plugin);
    document["build"]["api"].as_str().unwrap_or_default().to_owned()
}

/// The edition of its host that a plugin tells.
fn edition(host: &Path, plugin: &Path) -> String {
    let folder = plugin.parent().expect("a folder").to_str().expect("a path");
    let arguments = ["explain", "--json", "--plugin-path", folder, "--client"];
    let (done, document) = run(host, &arguments, Path::new("mutant:name=x"));
    assert!(done, "{}: {document}", host.display());
    document["facts"]["mutant.edition"][0].as_str().unwrap_or_default().to_owned()
}

/// Whether a command succeeds, and its result.
fn run(host: &Path, arguments: &[&str], last: &Path) -> (bool, Value) {
    let mut command = Command::new(host);
    command.args(arguments).arg(last).env_clear().env("XDG_DATA_HOME", "/nonexistent");
    let output = command.output().expect("the command");
    (output.status.success(), serde_json::from_slice(&output.stdout).unwrap_or_default())
}

/// A copy that requires version 1.1.
fn needing(plugin: &Path) -> PathBuf {
    let (old, new) = (b"\"requires\":\"1.0.0\"", b"\"requires\":\"1.1.0\"");
    let mut bytes = fs::read(plugin).expect("the plugin");
    let places: Vec<usize> = bytes
        .windows(old.len())
        .enumerate()
        .filter(|(_, text)| text == old)
        .map(|(place, _)| place)
        .collect();
    assert!(!places.is_empty(), "no manifest says what it requires");
    for place in places {
        bytes[place..place + new.len()].copy_from_slice(new);
    }
    let copy = plugin.with_file_name("libneeding.so");
    fs::write(&copy, bytes).expect("a copy");
    copy
}
