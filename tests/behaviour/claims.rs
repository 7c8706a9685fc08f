//! Schemes and names that several claim: who loses is told, with the winner, and the winner serves.

use endpoints::{ErrorKind, Origin, PluginReport, PluginState, RefusalKind, Registry, RegistryBuilder};
use endpoints_tests::object::{patched, replaced};
use tempfile::TempDir;

use crate::support::{assert_tcp_works, copy, folder_with};

const TCP: &str = "endpoints_plugin_tcp";

/// A folder with two plugins that both claim `tcp` and `tcp6`: `a.so`, the real one, and `b.so`, which is called
/// `endpoints-plugin-tcq`.
fn rivals() -> TempDir {
    let folder = folder_with(&[]);
    copy(TCP, &folder.path().join("a.so"));
    let named = |name: &str| format!("{{\"build\":{{\"name\":\"{name}\"");
    patched(TCP, &folder.path().join("b.so"), |bytes| {
        replaced(bytes, &named("endpoints-plugin-tcp"), &named("endpoints-plugin-tcq"), 2)
    });
    folder
}

fn looking_at(folder: &TempDir) -> RegistryBuilder {
    Registry::builder().default_plugin_path(false).plugin_path(folder.path())
}

/// The plugins that come from files.
fn files(registry: &Registry) -> Vec<PluginReport> {
    registry.plugins().into_iter().filter(|plugin| plugin.origin.path().is_some()).collect()
}

#[track_caller]
fn assert_lost(report: &PluginReport, winner: &str) {
    assert_eq!(report.state, PluginState::Shadowed, "{report:?}");
    let expected = ["tcp", "tcp6"].map(|scheme| (scheme.to_owned(), winner.to_owned()));
    assert_eq!(report.lost, expected);
}

#[tokio::test]
async fn two_files_claim_a_scheme() {
    let folder = rivals();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let registry = looking_at(&folder).no_built_in().build().expect("a registry");
    let reports = files(&registry);
    assert_eq!(reports[0].state, PluginState::Available);
    assert_lost(&reports[1], &format!("endpoints-plugin-tcp ({})", file("a.so")));
    assert_tcp_works(&registry).await;
    assert_eq!(registry.manifest("tcp").expect("tcp").1, Origin::File(folder.path().join("a.so")));

    let builder = looking_at(&folder).no_built_in().prefer("tcp", "endpoints-plugin-tcq");
    let registry = builder.prefer("tcp6", file("b.so")).build().expect("a registry");
    let reports = files(&registry);
    assert_lost(&reports[0], &format!("endpoints-plugin-tcq ({})", file("b.so")));
    assert_eq!(reports[1].state, PluginState::Available);
    assert_tcp_works(&registry).await;
    assert_eq!(registry.manifest("tcp").expect("tcp").1, Origin::File(folder.path().join("b.so")));
}

#[tokio::test]
async fn a_file_claims_what_is_built_in() {
    let folder = rivals();
    let registry = looking_at(&folder).build().expect("a registry");
    for report in files(&registry) {
        assert_lost(&report, "endpoints-plugin-tcp (built-in)");
    }
    assert_eq!(registry.manifest("tcp").expect("tcp").1, Origin::BuiltIn);
    assert_tcp_works(&registry).await;
    let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
    assert!(!maps.contains(folder.path().to_str().expect("text")), "nothing of a file was loaded");
    // Who asks for it gets it.
    let registry = looking_at(&folder).prefer("tcp", "endpoints-plugin-tcq").build().expect("a registry");
    assert_eq!(registry.manifest("tcp").expect("tcp").1, Origin::File(folder.path().join("b.so")));
    assert_tcp_works(&registry).await;
}

#[tokio::test]
async fn a_file_has_the_name_of_another() {
    let folder = rivals();
    copy(TCP, &folder.path().join("c.so"));
    let registry = looking_at(&folder).no_built_in().build().expect("a registry");
    let reports = files(&registry);
    let PluginState::Refused(refusal) = &reports[2].state else { panic!("{reports:?}") };
    assert_eq!(refusal.kind, RefusalKind::DuplicatePlugin, "{refusal}");
    assert!(refusal.message.contains(&folder.path().join("a.so").display().to_string()), "{refusal}");
    assert_tcp_works(&registry).await;
    // A name that nobody has cannot be preferred.
    let error = looking_at(&folder).prefer("tcp", "endpoints-plugin-tcr").build().expect_err("nobody");
    assert_eq!(error.kind(), ErrorKind::InvalidSetting, "{error}");
}
