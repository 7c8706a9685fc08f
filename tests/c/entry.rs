//! The entry of plugins in C: what hosts accept, and what they refuse and why.

use std::fs;
use std::path::Path;
use std::process::Command;

use endpoints::{ErrorKind, Origin, PluginState, Refusal, RefusalKind, Registry};
use endpoints_tests::c::{build_folder, cpp_compiler, headers};

use crate::support::{built, exchange};
use crate::world::World;

const MANIFEST: &str = r#"{ "summary": "A test", "schemes": [ { "scheme": "odd", "kind": "transport",
    "client": { "examples": ["odd"], "parameters": [] } } ] }"#;

/// What all files begin with: a record, and a constructor that gives an error of its own.
const BEGIN: &str = r#"
#include "endpoints_plugin_helpers.h"
ENDPOINTS_RECORD(odd, "1.2.3", "plugin.json");
__attribute__((unused)) static void create(struct endpoints_host host, struct endpoints_created *out)
{
    struct endpoints_created created;
    ENDPOINTS_INIT(&created);
    created.error = endpoints_error(ENDPOINTS_ERROR_KIND_OTHER, "it was called");
    endpoints_host_release(host);
    ENDPOINTS_WRITE(out, &created);
}
#define ENTRY __attribute__((visibility("default"))) const struct endpoints_entry endpoints_plugin_c1_odd
"#;

/// A registry of one plugin, made of this code after the beginning that all have.
fn registry(code: &str, flags: &[&str], folder: &Path) -> Registry {
    let source = folder.join("source");
    fs::create_dir(&source).expect("a folder");
    fs::write(source.join("plugin.json"), MANIFEST).expect("a manifest");
    fs::write(source.join("odd.c"), format!("{BEGIN}{code}")).expect("code");
    build_folder(&source, flags, &folder.join("odd.so")).unwrap_or_else(|words| panic!("{code}:\n{words}"));
    Registry::builder()
        .no_built_in()
        .default_plugin_path(false)
        .plugin_path(folder)
        .build()
        .expect("a registry")
}

/// What using the plugin says: why it is refused when it is loaded, or what its constructor says.
fn using(code: &str, flags: &[&str]) -> endpoints::Error {
    let folder = tempfile::tempdir().expect("a folder");
    let registry = registry(code, flags, folder.path());
    assert_eq!(registry.plugins()[0].state, PluginState::Available, "the file looks sound");
    registry.client("odd").expect_err("there is no instance")
}

/// Why the plugin is refused before any of it is loaded.
fn listed(code: &str) -> Refusal {
    let folder = tempfile::tempdir().expect("a folder");
    match registry(code, &[], folder.path()).plugins().remove(0).state {
        PluginState::Refused(refusal) => refusal,
        state => panic!("{state:?}"),
    }
}

const SOUND: &str =
    "ENTRY = {sizeof(struct endpoints_entry), ENDPOINTS_ENTRY_ABI, 0, endpoints_record_odd, create};";

#[test]
fn a_sound_table_leads_to_the_constructor() {
    let error = using(SOUND, &[]);
    assert!(error.message().contains("it was called"), "{error}");
    // A later version may know more fields at the end.
    let larger = "struct larger { struct endpoints_entry entry; uint64_t more[4]; };
        __attribute__((visibility(\"default\"))) const struct larger endpoints_plugin_c1_odd =
            {{sizeof(struct larger), ENDPOINTS_ENTRY_ABI, 0, endpoints_record_odd, create}, {1, 2, 3, 4}};";
    assert!(using(larger, &[]).message().contains("it was called"));
}

#[test]
fn unsound_tables_are_refused() {
    // A copy of the record that says something else, and one that is shorter than it says.
    let other = r#"
        static uint8_t other[65536];
        __attribute__((constructor)) static void copy(void) {
            memcpy(other, endpoints_record_odd, 1024);
            AT
        }
        ENTRY = {sizeof(struct endpoints_entry), ENDPOINTS_ENTRY_ABI, 0, other, create};"#;
    let other = |at: &str| other.replace("AT", at);
    let with = |fields: &str| format!("ENTRY = {{{fields}}};");
    let stale = "carries another manifest than the file";
    for (code, words) in [
        (
            with("sizeof(struct endpoints_entry), 2, 0, endpoints_record_odd, create"),
            "it is of version 2, and this host knows 1",
        ),
        (with("sizeof(struct endpoints_entry), 0, 0, endpoints_record_odd, create"), "it is of version 0"),
        (with("sizeof(struct endpoints_entry) - 1, 1, 0, endpoints_record_odd, create"), "it has 31 bytes"),
        (with("0, 1, 0, endpoints_record_odd, create"), "it has 0 bytes"),
        (
            with("sizeof(struct endpoints_entry), 1, 0, endpoints_record_odd, NULL"),
            "no function to make an instance",
        ),
        (with("sizeof(struct endpoints_entry), 1, 0, NULL, create"), stale),
        (with("sizeof(struct endpoints_entry), 1, 0, (const uint8_t *)\"endpoints\", create"), stale),
        (other("other[300] ^= 1;"), stale),
        (other("other[16] = 2;"), stale),
        (other("other[20] ^= 1;"), stale),
        (other("other[0] = 'E';"), stale),
    ] {
        let error = using(&code, &[]);
        assert_eq!(error.kind(), ErrorKind::PluginRefused, "{code}: {error}");
        assert!(error.message().contains(words), "{code}: {error}");
    }
    assert!(using(&other(""), &[]).message().contains("it was called"), "the copy itself is as good");
}

#[test]
fn entries_that_lead_nowhere_are_refused() {
    // A symbol of the right kind and size, so that it looks well from outside.
    let at = |place: &str| {
        let name = "endpoints_plugin_c1_odd";
        format!(
            "__asm__(\".globl {name}\\n.type {name}, %object\\n.size {name}, 32\\n{name} = {place}\\n\");"
        )
    };
    assert_eq!(listed(&at("0")).kind, RefusalKind::NoEntry);
    let room = "__attribute__((visibility(\"default\"), aligned(8))) const char room[64];";
    let error = using(&format!("{room}{}", at("room + 1")), &[]);
    assert!(error.message().contains("it leads nowhere"), "{error}");
}

#[test]
fn entries_of_other_forms_are_refused_before_anything_is_loaded() {
    let refusal = listed("");
    assert_eq!(refusal.kind, RefusalKind::NoEntry, "{refusal}");
    // The same record, with the name of its entry changed.
    for (prefix, kind) in [
        ("endpoints_plugin_c2_", RefusalKind::BadManifest),
        ("endpoints_plugin_x1_", RefusalKind::BadManifest),
        ("endpoints_plugin_v1_", RefusalKind::NoEntry),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        drop(registry(SOUND, &[], folder.path()));
        let file = folder.path().join("odd.so");
        let bytes = fs::read(&file).expect("the plugin");
        let (old, new) = (br#""entry":"endpoints_plugin_c1_"#, format!(r#""entry":"{prefix}"#));
        let at = bytes.windows(old.len()).position(|bytes| bytes == old).expect("the entry's name");
        let changed = [&bytes[..at], new.as_bytes(), &bytes[at + old.len()..]].concat();
        fs::write(&file, changed).expect("a changed plugin");
        let registry =
            Registry::builder().no_built_in().default_plugin_path(false).plugin_path(folder.path());
        let state = registry.build().expect("a registry").plugins().remove(0).state;
        let PluginState::Refused(refusal) = state else { panic!("{prefix}: {state:?}") };
        assert_eq!(refusal.kind, kind, "{prefix}: {refusal}");
        assert!(refusal.message.contains(prefix), "{refusal}");
        assert!(
            kind != RefusalKind::BadManifest || refusal.message.contains("endpoints_plugin_c1_"),
            "{refusal}"
        );
    }
}

#[tokio::test]
async fn the_record_tells_how_it_was_built() {
    let world = World::new();
    let (manifest, origin) = world.registry.manifest("cxor").expect("a manifest");
    assert!(matches!(origin, Origin::File(_)));
    let build = &manifest.build;
    assert_eq!((build.name.as_str(), build.version.to_string().as_str()), ("cxor", "0.1.0"));
    assert_eq!((build.api.to_string().as_str(), build.rustc.as_str()), (endpoints_plugin_api::VERSION, ""));
    assert!(build.compiler.starts_with("gcc ") || build.compiler.contains("lang"), "{}", build.compiler);
    assert_eq!(build.entry, "endpoints_plugin_c1_cxor");
}

#[test]
fn the_command_tells_how_it_was_built() {
    let (world, command) = (World::new(), built("endpoints_fixture_pass").with_file_name("endpoints"));
    let run = |arguments: &[&str]| {
        let mut endpoints = Command::new(&command);
        let output =
            endpoints.arg("--plugin-path").arg(world.folder()).args(arguments).output().expect("the command");
        assert!(output.status.success(), "{arguments:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let text = run(&["inspect", "cxor"]);
    assert!(
        text.lines().any(|line| line.starts_with("built with") && line.len() > "built with  ".len()),
        "{text}"
    );
    assert!(!text.contains("\npanics"), "there are none in C: {text}");
    let document: serde_json::Value = serde_json::from_str(&run(&["list-plugins", "--json"])).expect("JSON");
    let plugins = document["plugins"].as_array().expect("an array");
    let plugin = plugins.iter().find(|plugin| plugin["name"] == "cxor").expect("it is listed");
    assert!(plugin["rustc"].is_null() && plugin["state"] == "available", "{plugin}");
}

/// Two plugins in one file: each has its record and its entry.
#[tokio::test]
async fn a_file_may_hold_several_plugins() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    fs::create_dir(&source).expect("a folder");
    fs::write(source.join("plugin.json"), MANIFEST.replace("\"odd\"", "\"even\"")).expect("a manifest");
    fs::write(source.join("first.json"), MANIFEST).expect("a manifest");
    let begin = BEGIN.replace("\"plugin.json\"", "\"first.json\"");
    fs::write(source.join("first.c"), format!("{begin}{SOUND}")).expect("code");
    fs::write(source.join("second.c"), format!("{BEGIN}{SOUND}").replace("odd", "even")).expect("code");
    build_folder(&source, &[], &folder.path().join("both.so")).unwrap_or_else(|words| panic!("{words}"));
    let registry = Registry::builder().no_built_in().default_plugin_path(false).plugin_path(folder.path());
    let registry = registry.build().expect("a registry");
    assert_eq!(registry.plugins().len(), 2);
    for scheme in ["odd", "even"] {
        let error = registry.client(scheme).expect_err("there is no instance");
        assert!(error.message().contains("it was called"), "{scheme}: {error}");
    }
}

#[test]
fn plugins_can_be_in_cpp() {
    let Some(mut compiler) = cpp_compiler("a plugin in C++") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("plugin.json"), MANIFEST).expect("a manifest");
    let code = BEGIN.replace("ENDPOINTS_RECORD(odd, \"1.2.3\", \"plugin.json\");", "");
    let code = format!("{code}ENDPOINTS_PLUGIN(odd, \"1.2.3\", \"plugin.json\", create);\n");
    fs::write(folder.path().join("odd.cc"), code).expect("code");
    compiler.current_dir(folder.path()).args([
        "-std=c++17",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-fPIC",
        "-shared",
    ]);
    compiler.args(["-fvisibility=hidden", "odd.cc", "-o", "odd.so", "-I"]).arg(headers());
    let built = compiler.output().expect("a compiler");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let registry = Registry::builder().no_built_in().default_plugin_path(false).plugin_path(folder.path());
    let error = registry.build().expect("a registry").client("odd").expect_err("there is no instance");
    assert!(error.message().contains("it was called"), "{error}");
}

/// Two registries have two instances of one image.
#[tokio::test]
async fn registries_share_an_image_and_no_more() {
    let (one, other) = (World::new(), World::new());
    let listener = one.listen(r"cxor:k:ctcp\:127.0.0.1\:0").await;
    let accepting = async { listener.accept().await.expect("accept").await.expect("handshake") };
    let client = crate::support::reachable(&listener);
    let (mut connected, mut accepted) = tokio::join!(other.connect(&client), accepting);
    drop(other);
    exchange(&mut connected, &mut accepted).await;
}
