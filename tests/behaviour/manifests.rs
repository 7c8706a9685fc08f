//! Manifests that somebody made to do harm: what is too large, too deep, ambiguous or deceitful is refused, in one line,
//! and costs neither time nor memory.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use endpoints::{ErrorKind, PluginReport, PluginState, Refusal, RefusalKind, Registry};
use tempfile::TempDir;

use crate::support::{assert_tcp_works, folder_with};
use endpoints_tests::object::{compiled, enlarged, linked, manifest, record};

const SCHEMES: &str = r#"{"schemes":[{"scheme":"made","kind":"transport","client":{"parameters":[]}}]}"#;

/// A registry with everything compiled in, and what is made in the folder.
fn with(make: impl FnOnce(&Path)) -> (Registry, TempDir) {
    let folder = folder_with(&[]);
    make(&folder.path().join("made.so"));
    let builder = Registry::builder().default_plugin_path(false).plugin_path(folder.path());
    let begun = Instant::now();
    let registry = builder.build().expect("a registry");
    let _ = registry.plugins();
    assert!(begun.elapsed() < Duration::from_secs(10), "it took {:?} to look at", begun.elapsed());
    (registry, folder)
}

/// What became of the plugins in the file.
fn reports(registry: &Registry) -> Vec<PluginReport> {
    registry.plugins().into_iter().filter(|plugin| plugin.origin.path().is_some()).collect()
}

#[track_caller]
fn refusal(report: &PluginReport) -> Refusal {
    let PluginState::Refused(refusal) = &report.state else { panic!("{report:?}") };
    let message = &refusal.message;
    assert!(!message.contains(char::is_control) && message.len() < 5000, "{message:?}");
    refusal.clone()
}

/// The one refusal of a file with this section, after which TCP is still served.
async fn of_section(section: &[u8], mention: &str) -> Refusal {
    let (registry, _folder) = with(|file| compiled(file, section, ""));
    let reports = reports(&registry);
    assert_eq!(reports.len(), 1, "{reports:?}");
    let refusal = refusal(&reports[0]);
    assert!(refusal.message.contains(mention), "{mention:?} is not in: {refusal}");
    let error = registry.client("made:").expect_err("nobody provides it");
    assert!(matches!(error.kind(), ErrorKind::UnknownScheme | ErrorKind::PluginRefused), "{error}");
    assert_tcp_works(&registry).await;
    refusal
}

async fn of_text(text: &str, mention: &str) -> Refusal {
    let refusal = of_section(&record(text.as_bytes()), mention).await;
    assert_eq!(refusal.kind, RefusalKind::BadManifest, "{refusal}");
    refusal
}

#[tokio::test]
async fn a_sound_one_is_taken() {
    let (registry, _folder) = with(|file| compiled(file, &record(manifest("made", SCHEMES).as_bytes()), ""));
    assert_eq!(reports(&registry)[0].state, PluginState::Available);
    // Nothing is behind the entry, which is found when it is loaded.
    let error = registry.client("made:").expect_err("no module");
    assert_eq!(error.kind(), ErrorKind::PluginRefused, "{error}");
    assert!(error.message().contains("abi_stable"), "{error}");
    assert!(error.message().contains("build it with the released plugin API"), "{error}");
    assert!(error.message().len() < 300 && !error.message().contains('\n'), "{error}");
    assert_tcp_works(&registry).await;
}

#[tokio::test]
async fn json_that_is_too_much() {
    let deep = "[".repeat(200_000);
    of_text(&manifest("made", &deep), "unsound").await;
    let closed = format!("{deep}{}", "]".repeat(200_000));
    of_text(&closed, "unsound").await;
    // In a field that nobody knows.
    let unknown = SCHEMES.replace("{\"schemes\"", &format!("{{\"unknown\":{closed},\"schemes\""));
    let (registry, _folder) = with(|file| compiled(file, &record(manifest("made", &unknown).as_bytes()), ""));
    assert_eq!(reports(&registry)[0].state, PluginState::Available, "it is passed over");
    let parameter =
        |fields: &str| SCHEMES.replace("[]", &format!(r#"[{{"name":"p","type":"integer",{fields}}}]"#));
    for number in ["1e400", "99999999999999999999999999", "-1", "1.5"] {
        of_text(&manifest("made", &parameter(&format!(r#""max":{number}"#))), "plugin.json").await;
    }
    let position = parameter(r#""position":18446744073709551615"#);
    of_text(&manifest("made", &position), "positions").await;
    let long = format!(r#""unit":"{}","max":"x""#, "x".repeat(500_000));
    of_text(&manifest("made", &parameter(&long)), "plugin.json").await;
}

#[tokio::test]
async fn json_that_says_two_things() {
    let twice = SCHEMES.replace("\"kind\"", "\"scheme\":\"tcp\",\"kind\"");
    of_text(&manifest("made", &twice), "duplicate field").await;
    let schemes = SCHEMES.replace("{\"schemes\"", "{\"schemes\":[],\"schemes\"");
    of_text(&manifest("made", &schemes), "duplicate field").await;
    let build = manifest("made", SCHEMES).replace("\"plugin\"", "\"build\":{},\"plugin\"");
    of_text(&build, "duplicate field").await;
    of_text(&format!("{}{{}}", manifest("made", SCHEMES)), "trailing").await;
}

#[tokio::test]
async fn names_that_deceive() {
    for name in ["", "two\\nlines", "\\u001b[2J", "a b", "ünï", "name:x/../y", "a\\u0000"] {
        of_text(&manifest(name, SCHEMES), "cannot be a plugin's name").await;
    }
    let entry = |entry: &str| manifest("made", SCHEMES).replace("endpoints_plugin_v1_made", entry);
    for wrong in [
        "",
        "malloc",
        "_init",
        "endpoints_manifest_made",
        "endpoints_plugin_v1_a b",
        "endpoints_plugin_v1_\\n",
    ] {
        of_text(&entry(wrong), "cannot be an entry").await;
    }
    // What a file says is part of messages.
    let kind = SCHEMES.replace("transport", "a\\nb\\u001b[31m");
    of_text(&manifest("made", &kind), "unknown variant `a b [31m`").await;
    let absent = record(entry("endpoints_plugin_v1_absent").as_bytes());
    let absent = of_section(&absent, "endpoints_plugin_v1_absent").await;
    assert_eq!(absent.kind, RefusalKind::NoEntry);
}

#[tokio::test]
async fn several_records_of_which_one_is_damaged() {
    let text = |name: &str| manifest(name, &SCHEMES.replace("made", name));
    let sound = |name: &str| record(text(name).as_bytes());
    // Its text alone is damaged: the others are found, and used.
    let section = [sound("first"), record(b"{]"), vec![0; 7], sound("last")].concat();
    let (registry, _folder) = with(|file| compiled(file, &section, ""));
    let reports = reports(&registry);
    let states: Vec<_> = reports.iter().map(|report| report.state == PluginState::Available).collect();
    assert_eq!(states, [true, false, true], "{reports:?}");
    assert_eq!(refusal(&reports[1]).kind, RefusalKind::BadManifest);
    assert_tcp_works(&registry).await;
    // Of its head is, nobody can tell where the next begins.
    for (at, mention) in [(16, "of the form"), (23, "are the most")] {
        let mut damaged = [sound("first"), sound("last")].concat();
        damaged[sound("first").len() + at] = 0x7f;
        assert_eq!(of_section(&damaged, mention).await.kind, RefusalKind::BadManifest);
    }
    let mut short = [sound("first"), sound("last")].concat();
    short.truncate(short.len() - 40);
    assert_eq!(of_section(&short, "more than the section has").await.kind, RefusalKind::BadManifest);
    // A name that comes twice in a file counts once.
    let twice = [sound("first"), sound("first")].concat();
    let (registry, _folder) = with(|file| compiled(file, &twice, ""));
    assert_eq!(refusal(&self::reports(&registry)[1]).kind, RefusalKind::DuplicatePlugin);
}

#[tokio::test]
async fn more_plugins_than_a_file_may_have() {
    let records = |count: usize| -> Vec<u8> {
        let text = |number| {
            let name = format!("made{number}");
            manifest(&name, &SCHEMES.replace("made", &name))
        };
        (0..count).flat_map(|number| record(text(number).as_bytes())).collect()
    };
    let (registry, _folder) = with(|file| compiled(file, &records(64), ""));
    let states = reports(&registry);
    assert_eq!(states.len(), 64);
    assert!(states.iter().all(|report| report.state == PluginState::Available), "{states:?}");
    let refusal = of_section(&records(65), "more than 64 manifest records").await;
    assert_eq!(refusal.kind, RefusalKind::BadManifest);
}

#[tokio::test]
async fn more_entries_than_plugins_can_have() {
    let section = record(manifest("made", SCHEMES).as_bytes());
    let source = |count: usize| -> String {
        (0..count).map(|number| format!("char endpoints_plugin_c1_{number};\n")).collect()
    };
    // The one of the manifest comes with them.
    let (registry, _folder) = with(|file| compiled(file, &section, &source(1023)));
    assert_eq!(reports(&registry)[0].state, PluginState::Available);
    let (registry, _folder) = with(|file| compiled(file, &section, &source(1024)));
    let refusal = refusal(&reports(&registry)[0]);
    assert_eq!(refusal.kind, RefusalKind::BadManifest, "{refusal}");
    assert!(refusal.message.contains("more than 1024 entries"), "{refusal}");
}

#[tokio::test]
async fn files_with_holes_are_not_read_into_memory() {
    for (section, kind) in [
        (".epplugin", RefusalKind::BadManifest),
        (".dynsym", RefusalKind::NotAnObject),
        (".dynstr", RefusalKind::NotAnObject),
        (".symtab", RefusalKind::NotAnObject),
    ] {
        let (registry, folder) = with(|file| {
            compiled(file, &record(manifest("made", SCHEMES).as_bytes()), "");
            enlarged(file, section, 3 << 30);
        });
        assert_eq!(refusal(&reports(&registry)[0]).kind, kind, "{section}");
        assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 1);
        assert_tcp_works(&registry).await;
    }
}

#[tokio::test]
async fn symbols_that_nobody_has() {
    let source = "extern int nobody_has_this(void);\nint made(void) { return nobody_has_this(); }\n\
                  int (*at_once)(void) = nobody_has_this;";
    let (registry, _folder) =
        with(|file| compiled(file, &record(manifest("made", SCHEMES).as_bytes()), source));
    assert_eq!(reports(&registry)[0].state, PluginState::Available, "nobody has looked for them yet");
    for _ in 0..2 {
        let error = registry.client("made:").expect_err("it cannot be loaded");
        assert_eq!(error.kind(), ErrorKind::PluginRefused, "{error}");
        assert!(error.message().contains("nobody_has_this"), "{error}");
    }
    assert_tcp_works(&registry).await;
}

#[tokio::test]
async fn libraries_are_found_by_an_absolute_runpath_and_not_beside_the_plugin() {
    for (library, absolute) in [("needed1", true), ("needed2", false)] {
        let libraries = folder_with(&[]);
        let file = format!("lib{library}.so");
        compiled(&libraries.path().join(&file), b"", "int needed(void) { return 1; }");
        let place = libraries.path().to_str().expect("text");
        let (registry, folder) = with(|plugin| {
            let section = record(manifest("made", SCHEMES).as_bytes());
            let source = "extern int needed(void);\nint (*at_once)(void) = needed;";
            let runpath = format!("-Wl,-rpath,{}", if absolute { place } else { "$ORIGIN" });
            linked(plugin, &section, source, &["-L", place, &format!("-l{library}"), &runpath]);
        });
        if !absolute {
            fs::copy(libraries.path().join(&file), folder.path().join(&file)).expect("a copy");
        }
        // When the library is found, it shows that there is no module behind the entry.
        let expected = if absolute { "abi_stable" } else { &file };
        let error = registry.client("made:").expect_err("it is no plugin");
        assert!(error.message().contains(expected), "{library}: {error}");
        assert_tcp_works(&registry).await;
    }
}
