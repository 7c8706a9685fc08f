//! The plugins of this repository pass.

use std::ffi::OsString;
use std::path::Path;

use endpoints_tests::c::build_plugin;
use endpoints_tests::make_certificates;
use tempfile::TempDir;

use crate::harness::{built, others, results, run};

/// Nothing fails and nothing is warned of; gives the names of the checks that passed, and those that were skipped.
fn passes(file: &Path, arguments: &[OsString]) -> (usize, Vec<String>) {
    let mut all = vec![file.as_os_str().to_owned(), "--json".into(), "--strict".into()];
    all.extend_from_slice(arguments);
    let output = run(all);
    let results = results(&output);
    assert_eq!(others(&results, &["passed", "skipped"]), Vec::<String>::new(), "{}", file.display());
    assert!(output.status.success());
    let named = |outcome: &str| {
        let of_outcome = results.iter().filter(|one| one["outcome"] == *outcome);
        of_outcome.map(|one| one["check"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    (named("passed").len(), named("skipped"))
}

#[test]
fn transports_pass() {
    for name in ["tcp", "unix"] {
        let (passed, skipped) = passes(&built(&format!("libendpoints_plugin_{name}.so")), &[]);
        assert!(passed >= 55, "{name}: {passed}");
        assert!(skipped.iter().all(|check| check.starts_with("secrets")), "{name}: {skipped:?}");
    }
}

#[test]
fn plugins_in_c_pass() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["ctcp", "cxor"] {
        let file = folder.path().join(format!("{name}.so"));
        build_plugin(name, &["-O1"], &file).expect("the plugin is built");
        let (passed, skipped) = passes(&file, &[]);
        assert!(passed >= 55, "{name}: {passed}");
        assert_eq!(skipped, ["secrets", "secrets-told"], "{name}");
    }
}

#[test]
fn wrappers_pass() {
    for name in ["endpoints_plugin_haproxy", "endpoints_fixture_pass"] {
        let (passed, skipped) = passes(&built(&format!("lib{name}.so")), &[]);
        assert!(passed >= 60, "{name}: {passed}");
        assert_eq!(skipped, ["secrets", "secrets-told"], "{name}");
    }
    // It has a client side alone; there its secret counts.
    let (passed, skipped) = passes(&built("libendpoints_plugin_socks5.so"), &[]);
    assert!(passed >= 20 && !skipped.contains(&"secrets".to_owned()), "{passed}, {skipped:?}");
}

/// The arguments for the plugin of TLS that the book shows, and the folder with the files that they name.
fn certificates_of_ones_own() -> (TempDir, Vec<OsString>) {
    let folder = tempfile::tempdir().expect("a folder");
    make_certificates(folder.path()).expect("certificates");
    let page = include_str!("../../docs/src/checking.md").replace("\\\n", "");
    let command =
        page.lines().find_map(|line| line.strip_prefix("endpoints check-plugin libendpoints_plugin_tls.so "));
    let words = command.expect("the page checks the plugin of TLS").split_whitespace();
    let within = |word: &str| match word.split_once('=') {
        Some((name, value)) if folder.path().join(value).exists() => {
            let mut argument = OsString::from(format!("{name}="));
            argument.push(folder.path().join(value));
            argument
        }
        _ => word.into(),
    };
    let arguments = words.map(within).collect();
    (folder, arguments)
}

#[test]
fn tls_passes_with_certificates_of_ones_own() {
    let (_folder, arguments) = certificates_of_ones_own();
    let (passed, _) = passes(&built("libendpoints_plugin_tls.so"), &arguments);
    assert!(passed >= 110, "{passed}");
}

#[test]
#[ignore = "takes minutes; `tests/run --full` does it"]
fn ten_thousand_connections_leave_nothing() {
    let stress = ["--level".into(), "stress".into(), "--time-limit".into(), "600".into()];
    for name in ["plugin_tcp", "plugin_unix", "plugin_haproxy", "fixture_pass"] {
        passes(&built(&format!("libendpoints_{name}.so")), &stress);
    }
    let (_folder, arguments) = certificates_of_ones_own();
    passes(&built("libendpoints_plugin_tls.so"), &[&stress[..], &arguments].concat());
}
