//! Plugins in files: where they are found, which one counts, and when they are loaded.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use endpoints::{ErrorKind, Origin, Place, PlaceOutcome, PlaceSource, PluginState, RefusalKind, Registry};

use crate::support::{assert_kind, built, copy, exchange, file_name, files, folder_with, port};
use endpoints_tests::object::{patched, replaced};

const TCP: &str = "endpoints_plugin_tcp";
const UNIX: &str = "endpoints_plugin_unix";
const PASS: &str = "endpoints_fixture_pass";

/// Who provides a scheme.
fn provider(registry: &Registry, scheme: &str) -> Origin {
    registry.manifest(scheme).expect(scheme).1
}

/// What became of a file.
fn state(registry: &Registry, file: &Path) -> PluginState {
    let plugins = registry.plugins();
    let found = plugins.iter().find(|plugin| plugin.origin.path() == Some(file));
    found.unwrap_or_else(|| panic!("{} is not listed", file.display())).state.clone()
}

/// A plugin like tcp, but with a name of its own.
fn tcp_called(name: &str, to: &Path) {
    assert_eq!(name.len(), "endpoints-plugin-tcp".len());
    let named = |name: &str| format!("{{\"build\":{{\"name\":\"{name}\"");
    patched(TCP, to, |bytes| replaced(bytes, &named("endpoints-plugin-tcp"), &named(name), 2));
}

#[test]
fn earlier_folders_win() {
    let (first, second) = (folder_with(&[TCP]), folder_with(&[UNIX]));
    tcp_called("endpoints-plugin-tcq", &second.path().join("other.so"));
    let absent = first.path().join("absent");
    let registry = files(&[first.path(), &absent, second.path()]);
    assert_eq!(provider(&registry, "tcp"), Origin::File(first.path().join(file_name(TCP))));
    assert_eq!(provider(&registry, "unix"), Origin::File(second.path().join(file_name(UNIX))));
    let shadowed = registry.plugins().into_iter().find(|plugin| plugin.state == PluginState::Shadowed);
    let shadowed = shadowed.expect("the second tcp");
    assert_eq!(shadowed.origin, Origin::File(second.path().join("other.so")));
    let winner = format!("endpoints-plugin-tcp ({})", first.path().join(file_name(TCP)).display());
    assert_eq!(shadowed.lost, [("tcp".to_owned(), winner.clone()), ("tcp6".to_owned(), winner)]);

    let places = registry.places();
    assert!(places.iter().all(|place| place.source == PlaceSource::Given));
    let outcomes: Vec<_> = places.into_iter().map(|place| (place.directory, place.outcome)).collect();
    assert_eq!(
        outcomes,
        [
            (first.path().to_owned(), PlaceOutcome::Read(1)),
            (absent, PlaceOutcome::Absent),
            (second.path().to_owned(), PlaceOutcome::Read(2)),
        ]
    );
    let turned = files(&[second.path(), first.path()]);
    assert_eq!(provider(&turned, "tcp"), Origin::File(second.path().join("other.so")));
}

#[test]
fn names_order_the_files_of_a_folder() {
    let folder = folder_with(&[]);
    tcp_called("endpoints-plugin-tcq", &folder.path().join("b.so"));
    copy(TCP, &folder.path().join("a.so"));
    assert_eq!(provider(&files(&[folder.path()]), "tcp"), Origin::File(folder.path().join("a.so")));
    fs::rename(folder.path().join("a.so"), folder.path().join("c.so")).expect("rename");
    assert_eq!(provider(&files(&[folder.path()]), "tcp"), Origin::File(folder.path().join("b.so")));
}

#[test]
fn other_names_are_no_plugins() {
    let folder = folder_with(&[]);
    for name in ["tcp.so.1", "tcp", "tcp.SO", "tcp.so.bak"] {
        copy(TCP, &folder.path().join(name));
    }
    let registry = files(&[folder.path()]);
    assert!(registry.plugins().is_empty());
    let error = registry.client("tcp:h:80").expect_err("no plugin");
    assert_kind(&error, ErrorKind::UnknownScheme);
    assert!(error.message().contains("no plugin was found"), "{error}");
}

#[test]
fn built_in_plugins_come_first() {
    let folder = folder_with(&[TCP, PASS]);
    let builder = || Registry::builder().default_plugin_path(false).plugin_path(folder.path());
    let file = folder.path().join(file_name(TCP));
    let all = builder().build().expect("a registry");
    assert_eq!(provider(&all, "tcp"), Origin::BuiltIn);
    assert_eq!(state(&all, &file), PluginState::Shadowed);
    assert_eq!(provider(&all, "pass"), Origin::File(folder.path().join(file_name(PASS))));

    let none = builder().no_built_in().build().expect("a registry");
    assert_eq!(provider(&none, "tcp"), Origin::File(file.clone()));
    assert_kind(&none.manifest("unix").expect_err("nobody"), ErrorKind::UnknownScheme);
    assert!(none.plugins().iter().all(|plugin| plugin.origin != Origin::BuiltIn));

    let one = builder().without_built_in("TCP").build().expect("a registry");
    assert_eq!(provider(&one, "tcp"), Origin::File(file.clone()));
    assert_eq!((provider(&one, "tcp6"), provider(&one, "unix")), (Origin::BuiltIn, Origin::BuiltIn));
    assert_eq!(one.server("tcp6:0").expect("built in").scheme(), "tcp6");
}

#[test]
fn what_is_left_out_cannot_be_preferred() {
    let builder = Registry::builder().default_plugin_path(false).without_built_in("tcp");
    let error = builder.prefer("tcp", "endpoints-plugin-tcp").build().expect_err("tcp is left out");
    assert_kind(&error, ErrorKind::InvalidSetting);
}

#[test]
fn preferences_turn_the_order_round() {
    let folder = folder_with(&[TCP]);
    let other = folder.path().join("other.so");
    tcp_called("endpoints-plugin-tcq", &other);
    let builder = || Registry::builder().default_plugin_path(false).plugin_path(folder.path());
    let file = folder.path().join(file_name(TCP));
    for (plugin, expected) in [
        ("endpoints-plugin-tcq", &other),
        (other.to_str().expect("UTF-8"), &other),
        (file.to_str().expect("UTF-8"), &file),
    ] {
        let registry = builder().prefer("TCP", plugin).build().expect("a registry");
        assert_eq!(provider(&registry, "tcp"), Origin::File(expected.clone()), "{plugin}");
        assert_eq!(provider(&registry, "tcp6"), Origin::BuiltIn, "only what was named");
        registry.client("tcp:h:80").expect("it can be used");
    }
    let registry = builder().prefer("tcp", "endpoints-plugin-tcp").build().expect("a registry");
    assert_eq!(provider(&registry, "tcp"), Origin::BuiltIn, "the first of that name");
    for (scheme, plugin) in
        [("tcp", "nobody"), ("unix", "endpoints-plugin-tcq"), ("nope", "endpoints-plugin-tcp")]
    {
        assert_kind(&builder().prefer(scheme, plugin).build().expect_err(plugin), ErrorKind::InvalidSetting);
    }
}

#[test]
fn a_preferred_file_is_known_by_any_path_and_told_by_its_own() {
    let (folder, links) = (folder_with(&[TCP]), folder_with(&[]));
    let file = folder.path().join(file_name(TCP));
    symlink(folder.path(), links.path().join("folder")).expect("a link");
    symlink(&file, links.path().join("tcp")).expect("a link");
    let builder = || Registry::builder().default_plugin_path(false).plugin_path(folder.path());
    for path in [links.path().join("folder").join(file_name(TCP)), links.path().join("tcp"), file.clone()] {
        let registry = builder().prefer("tcp", path.to_str().expect("UTF-8")).build().expect("a registry");
        assert_eq!(provider(&registry, "tcp"), Origin::File(file.clone()), "{}", path.display());
    }
    // The built-in one has the same name: the file is told by its path.
    let error = builder().prefer("tcp", file_name(TCP)).build().expect_err("no such file here");
    let path = file.to_str().expect("UTF-8");
    assert_eq!(error.expected(), ["endpoints-plugin-tcp", path]);
    assert_eq!(error.suggestion(), Some(path));
    assert!(error.message().ends_with(&format!("provides tcp: endpoints-plugin-tcp, {path}")), "{error}");
}

#[test]
fn a_name_counts_once() {
    let (first, second) = (folder_with(&[TCP]), folder_with(&[TCP]));
    let registry = files(&[first.path(), second.path()]);
    let PluginState::Refused(refusal) = state(&registry, &second.path().join(file_name(TCP))) else {
        panic!("{:?}", registry.plugins());
    };
    assert_eq!(refusal.kind, RefusalKind::DuplicatePlugin);
    assert!(refusal.message.contains(first.path().to_str().expect("UTF-8")), "{refusal}");
    assert_eq!(state(&registry, &first.path().join(file_name(TCP))), PluginState::Available);
}

#[test]
fn links_lead_to_plugins() {
    let (real, links) = (folder_with(&[TCP]), folder_with(&[]));
    symlink(real.path().join(file_name(TCP)), links.path().join("link.so")).expect("a link");
    let registry = files(&[links.path()]);
    assert_eq!(provider(&registry, "tcp"), Origin::File(links.path().join("link.so")));
    registry.client("tcp:h:80").expect("it can be used");
}

#[test]
fn files_are_read_without_being_listed() {
    let registry = Registry::builder().default_plugin_path(false).build().expect("a registry");
    let reports = registry.inspect_file(built(UNIX)).map_err(|refusal| refusal.kind);
    // The target folder's rights are its owner's affair.
    match reports {
        Ok(reports) => {
            assert_eq!(reports[0].manifest.as_ref().expect("one").build.name, "endpoints-plugin-unix");
        }
        Err(kind) => assert_eq!(kind, RefusalKind::Untrusted),
    }
    assert_eq!(registry.inspect_file("/no/such.so").expect_err("absent").kind, RefusalKind::Io);
}

/// Whether a file is mapped into this process.
fn is_mapped(file: &Path) -> bool {
    let maps = fs::read_to_string("/proc/self/maps").expect("the maps");
    maps.contains(file.to_str().expect("UTF-8"))
}

#[tokio::test]
async fn plugins_are_loaded_on_first_use() {
    let folder = folder_with(&[TCP, UNIX, PASS]);
    let file = |plugin: &str| folder.path().join(file_name(plugin));
    let registry = files(&[folder.path()]);
    assert_eq!(registry.plugins().len(), 3);
    registry.manifest("tcp").expect("tcp");
    registry.inspect_file(file(TCP)).expect("tcp");
    registry.client("tcp:h").expect_err("the port is missing");
    registry.client("tcp6:h:80").expect_err("there is no such side");
    registry.client("pass:nope").expect_err("there is no such scheme");
    for plugin in [TCP, UNIX, PASS] {
        assert!(!is_mapped(&file(plugin)), "{plugin} was loaded for nothing");
    }
    let server = registry.server("tcp6:0:interface=localhost").expect("tcp6");
    assert!(is_mapped(&file(TCP)), "now it is needed");
    assert!(!is_mapped(&file(UNIX)) && !is_mapped(&file(PASS)));
    drop(server);
    drop(registry);
    assert!(is_mapped(&file(TCP)), "a plugin is never unloaded");
}

#[tokio::test]
async fn a_changed_file_is_not_loaded() {
    let folder = folder_with(&[TCP, UNIX]);
    let file = folder.path().join(file_name(TCP));
    let registry = files(&[folder.path()]);
    assert!(!registry.plugins().is_empty(), "it is listed");
    let swapped = folder.path().join("new");
    tcp_called("endpoints-plugin-tcq", &swapped);
    fs::rename(&swapped, &file).expect("rename");
    let error = registry.client("tcp:h:80").expect_err("it is another file");
    assert_kind(&error, ErrorKind::PluginRefused);
    assert!(
        error.message().contains("changed") && error.message().contains(file.to_str().expect("UTF-8")),
        "{error}"
    );
    assert!(!is_mapped(&file));
    registry.server("unix:/a").expect("another plugin");
    // A registry that lists it anew takes it.
    files(&[folder.path()]).client("tcp:h:80").expect("the new file");
}

#[tokio::test]
async fn a_file_that_went_is_refused() {
    let folder = folder_with(&[TCP]);
    let registry = files(&[folder.path()]);
    assert!(!registry.plugins().is_empty(), "it is listed");
    fs::remove_file(folder.path().join(file_name(TCP))).expect("remove");
    assert_kind(&registry.client("tcp:h:80").expect_err("it is gone"), ErrorKind::PluginRefused);
}

#[tokio::test]
async fn the_same_content_in_a_new_file_is_fine() {
    let folder = folder_with(&[TCP]);
    let file = folder.path().join(file_name(TCP));
    let registry = files(&[folder.path()]);
    assert!(!registry.plugins().is_empty(), "it is listed");
    let swapped = folder.path().join("new");
    copy(TCP, &swapped);
    fs::rename(&swapped, &file).expect("rename");
    let listener = registry.server("tcp:0:interface=127.0.0.1").expect("tcp").listen().await.expect("listen");
    let client = registry.client(format!("tcp:127.0.0.1:{}", port(&listener))).expect("tcp");
    let mut client = client.connect().await.expect("connect");
    let mut accepted = listener.accept().await.expect("accept").await.expect("handshake");
    exchange(&mut client, &mut accepted).await;
}

#[tokio::test]
async fn versions_of_a_plugin_live_side_by_side() {
    // A new version under the same path, while the old one is loaded and in use.
    let folder = folder_with(&[TCP]);
    let file = folder.path().join(file_name(TCP));
    let old = files(&[folder.path()]);
    let listener = old.server("tcp:0:interface=127.0.0.1").expect("tcp").listen().await.expect("listen");
    let swapped = folder.path().join("new");
    tcp_called("endpoints-plugin-tcq", &swapped);
    fs::rename(&swapped, &file).expect("rename");
    let new = files(&[folder.path()]);
    assert_eq!(new.manifest("tcp").expect("tcp").0.build.name, "endpoints-plugin-tcq");
    let client = new.client(format!("tcp:127.0.0.1:{}", port(&listener))).expect("tcp");
    let mut client = client.connect().await.expect("connect");
    let mut accepted = listener.accept().await.expect("accept").await.expect("handshake");
    exchange(&mut client, &mut accepted).await;
    old.client("tcp:h:80").expect("the old one is as it was");
}

/// What tells the test below that it is the child, and what it is to find.
const EXPECTED: &str = "ENDPOINTS_TEST_EXPECTED_PLACES";

#[test]
fn the_environment_names_places() {
    if let Some(expected) = env::var_os(EXPECTED) {
        let registry = Registry::builder().plugin_path("/given").build().expect("a registry");
        let places = registry.places();
        let found: Vec<_> =
            places.iter().map(|place| (place.directory.as_path(), place.source.name())).collect();
        let folders: Vec<_> = env::split_paths(&expected).collect();
        let named = "ENDPOINTS_PLUGIN_PATH";
        let sources = ["given", named, named, named, "user data", "system", "system"];
        let expected: Vec<_> = folders.iter().map(PathBuf::as_path).zip(sources).collect();
        assert_eq!(found, expected);
        assert_eq!(
            provider(&registry, "pass"),
            Origin::File(folders[1].join(file_name(PASS))),
            "the first wins"
        );
        assert_eq!(provider(&registry, "tcp"), Origin::BuiltIn);
        assert_eq!(places[2].outcome, PlaceOutcome::Relative, "the working directory has plugins");
        let problems: Vec<String> = places.iter().filter_map(Place::problem).collect();
        assert_eq!(problems.len(), 2, "{problems:?}");
        let error = registry.client("nobody:").expect_err("an unknown scheme");
        for problem in problems {
            assert!(error.message().contains(&problem), "{error}");
        }
        registry.client("pass:tcp\\:h\\:80").expect("it can be used");
        return;
    }
    // A process of its own, as the environment belongs to all threads.
    let (first, second, data) = (folder_with(&[PASS]), folder_with(&[PASS]), folder_with(&[]));
    let [first, second, data] = [&first, &second, &data].map(tempfile::TempDir::path);
    let system = ["/usr/local/lib/endpoints/plugins", "/usr/lib/endpoints/plugins"].map(Path::new);
    let user = data.join("endpoints/plugins");
    let expected = [Path::new("/given"), first, Path::new("."), second, &user, system[0], system[1]];
    let child = Command::new(env::current_exe().expect("this test"))
        .args(["--exact", "loader::the_environment_names_places"])
        .env(EXPECTED, env::join_paths(expected).expect("paths"))
        // The empty part would be the working directory, as the one after it is.
        .env(
            "ENDPOINTS_PLUGIN_PATH",
            env::join_paths([first, Path::new(""), Path::new("."), second]).expect("paths"),
        )
        .env("XDG_DATA_HOME", data)
        .current_dir(second)
        .output()
        .expect("the child");
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
}
