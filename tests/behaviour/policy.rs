//! Rules about plugins in files: what they match, and that nothing of a denied plugin is loaded.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use endpoints::{ErrorKind, PluginRule, PluginState, RefusalKind, Registry};

use crate::support::{copy, file_name, folder_with};
use endpoints_tests::object::{in_record, patched};

const TCP: &str = "endpoints_plugin_tcp";
const UNIX: &str = "endpoints_plugin_unix";

/// A registry of the files in a folder, with rules that allow and rules that deny.
fn registry(folder: &Path, allow: &[&str], deny: &[&str]) -> Registry {
    let rule = |text: &&str| text.parse::<PluginRule>().unwrap_or_else(|error| panic!("{error}"));
    let builder = Registry::builder().no_built_in().default_plugin_path(false).plugin_path(folder);
    let builder = allow.iter().map(rule).fold(builder, endpoints::RegistryBuilder::allow_plugin);
    let builder = deny.iter().map(rule).fold(builder, endpoints::RegistryBuilder::deny_plugin);
    builder.build().expect("a registry")
}

/// Whether the one plugin that provides `tcp` is used; else the message of the refusal.
#[track_caller]
fn verdict(registry: &Registry, folder: &Path) -> Result<(), String> {
    let plugins = registry.plugins();
    let found = |name: &str| {
        let called = |report: &&endpoints::PluginReport| {
            report.manifest.as_ref().is_some_and(|manifest| manifest.build.name == name)
        };
        plugins.iter().find(called).unwrap_or_else(|| panic!("{name}: {plugins:?}")).state.clone()
    };
    match found("endpoints-plugin-tcp") {
        PluginState::Available => {
            registry.client("tcp:h:80").expect("it can be used");
            assert!(is_loaded(&folder.join(file_name(TCP))));
            Ok(())
        }
        PluginState::Refused(refusal) => {
            assert_eq!(refusal.kind, RefusalKind::Denied, "{refusal}");
            let error = registry.client("tcp:h:80").expect_err("it is denied");
            assert!(matches!(error.kind(), ErrorKind::UnknownScheme | ErrorKind::PluginRefused), "{error}");
            assert!(error.message().contains(&refusal.message), "{error} does not say: {refusal}");
            assert!(!is_loaded(&folder.join(file_name(TCP))));
            Err(refusal.message)
        }
        state => panic!("{state:?}"),
    }
}

/// Whether code of a file has been mapped.
fn is_loaded(file: &Path) -> bool {
    let real = fs::canonicalize(file).expect("a file");
    fs::read_to_string("/proc/self/maps").expect("maps").contains(real.to_str().expect("text"))
}

/// The rule for a file's SHA-256, which another program computes.
fn by_digest(file: &Path) -> String {
    let output = Command::new("sha256sum").arg("-b").arg(file).output().expect("sha256sum");
    let text = String::from_utf8(output.stdout).expect("text");
    format!("sha256:{}", text.split(' ').next().expect("a digest"))
}

#[test]
fn each_rule_matches_by_what_it_names() {
    let folder = folder_with(&[TCP, UNIX]);
    let file = folder.path().join(file_name(TCP));
    let (inside, outside) = (folder.path().display(), format!("{}-other", folder.path().display()));
    fs::create_dir(&outside).expect("a folder");
    for (matching, other) in [
        ("name:endpoints-plugin-tcp".to_owned(), "name:endpoints-plugin-tc".to_owned()),
        (format!("path:{}", file.display()), format!("path:{}x", file.display())),
        // A folder that is called as another begins is another.
        (format!("path:{inside}"), format!("path:{outside}")),
        (by_digest(&file), by_digest(&folder.path().join(file_name(UNIX)))),
    ] {
        let (matching, other) = (matching.as_str(), other.as_str());
        for (allow, deny, expected) in [
            (&[matching][..], &[][..], None),
            (&[other, matching], &[], None),
            (&[other], &[], Some("no rule allows it; these would: path:")),
            (&[], &[other], None),
            (&[], &[matching], Some(matching)),
            (&[matching], &[matching], Some("denies it")),
        ] {
            // Another file each time: what one registry may use stays loaded.
            let fresh = folder_with(&[TCP, UNIX]);
            let moved = |rules: &[&str]| -> Vec<String> {
                let from = folder.path().to_str().expect("text");
                let to = fresh.path().to_str().expect("text");
                rules.iter().map(|rule| rule.replace(from, to)).collect()
            };
            let (allow, deny) = (moved(allow), moved(deny));
            let as_texts = |rules: &[String]| rules.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
            let said = format!("allow {}; deny {}", as_texts(&allow), as_texts(&deny));
            let allow: Vec<&str> = allow.iter().map(String::as_str).collect();
            let deny: Vec<&str> = deny.iter().map(String::as_str).collect();
            let verdict = verdict(&registry(fresh.path(), &allow, &deny), fresh.path());
            let expected = expected.map(|text| moved(&[text]).remove(0));
            match (verdict, expected) {
                (Ok(()), None) => {}
                (Err(message), Some(text)) => assert!(message.contains(&text), "{said}: {message}"),
                (verdict, expected) => panic!("{said}: {verdict:?}, not {expected:?}"),
            }
        }
    }
    fs::remove_dir(outside).expect("it is empty");
}

#[test]
fn links_are_followed() {
    let elsewhere = folder_with(&[TCP]);
    let folder = tempfile::tempdir().expect("a folder");
    symlink(elsewhere.path().join(file_name(TCP)), folder.path().join(file_name(TCP))).expect("a link");
    let place = format!("path:{}", folder.path().display());
    verdict(&registry(folder.path(), &[&place], &[]), folder.path()).expect_err("it lies elsewhere");
    let real = format!("path:{}", elsewhere.path().display());
    verdict(&registry(folder.path(), &[], &[&real]), folder.path()).expect_err("that is where it lies");
    let way = folder.path().join("way");
    symlink(elsewhere.path(), &way).expect("a link");
    let way = format!("path:{}", way.display());
    verdict(&registry(folder.path(), &[&way], &[]), folder.path()).expect("the rule leads there");
}

#[test]
fn what_is_put_in_place_of_an_allowed_file_is_not_loaded() {
    let folder = folder_with(&[TCP]);
    let file = folder.path().join(file_name(TCP));
    let registry = registry(folder.path(), &[&by_digest(&file)], &[]);
    assert_eq!(registry.plugins()[0].state, PluginState::Available);
    // The same plugin with a byte more: no other check finds anything.
    let other = folder.path().join("other");
    copy(TCP, &other);
    let mut bytes = fs::read(&other).expect("a file");
    bytes.push(0);
    fs::write(&other, bytes).expect("write");
    fs::rename(&other, &file).expect("rename");
    let error = registry.client("tcp:h:80").expect_err("it is another file");
    assert_eq!(error.kind(), ErrorKind::PluginRefused, "{error}");
    assert!(error.message().contains("no rule allows it"), "{error}");
    assert!(!is_loaded(&file));
}

#[test]
fn rules_are_asked_again_when_a_plugin_is_loaded() {
    let folders = [folder_with(&[TCP]), folder_with(&[UNIX])];
    let file = folders[0].path().join(file_name(TCP));
    let link = folders[1].path().join("denied");
    symlink(folders[1].path(), &link).expect("a link");
    let registry = registry(folders[0].path(), &[], &[&format!("path:{}", link.display())]);
    assert_eq!(registry.plugins()[0].state, PluginState::Available);
    fs::remove_file(&link).expect("remove");
    symlink(folders[0].path(), &link).expect("a link");
    let error = registry.client("tcp:h:80").expect_err("the rule has come to mean it");
    assert_eq!(error.kind(), ErrorKind::PluginRefused, "{error}");
    assert!(error.message().contains("denies it"), "{error}");
    assert!(!is_loaded(&file));
    let inspected = registry.inspect_file(&file).expect("it can be looked at");
    assert!(
        matches!(&inspected[0].state, PluginState::Refused(refusal) if refusal.kind == RefusalKind::Denied)
    );
}

#[test]
fn a_file_is_denied_by_its_other_names_too() {
    let folder = folder_with(&[TCP]);
    let elsewhere = tempfile::tempdir_in(folder.path()).expect("a folder");
    let other = elsewhere.path().join("other");
    fs::hard_link(folder.path().join(file_name(TCP)), &other).expect("a link");
    let rule = format!("path:{}", other.display());
    verdict(&registry(folder.path(), &[], &[&rule]), folder.path()).expect_err("it is that file");
}

#[test]
fn what_was_written_to_after_it_was_loaded_is_not_taken_for_new() {
    let folder = folder_with(&[TCP]);
    let file = folder.path().join(file_name(TCP));
    verdict(&registry(folder.path(), &[], &[]), folder.path()).expect("it may be used");
    let mut bytes = fs::OpenOptions::new().append(true).open(&file).expect("a file");
    std::io::Write::write_all(&mut bytes, b"more").expect("write");
    drop(bytes);
    let registry = registry(folder.path(), &[&by_digest(&file)], &[]);
    let error = registry.client("tcp:h:80").expect_err("what is in memory is something else");
    assert!(error.message().contains("after this process had loaded it"), "{error}");
}

#[test]
fn a_preference_holds_though_one_of_that_name_is_denied() {
    // Called otherwise than the built-in one, which comes first unless another is preferred.
    let folders = [(), ()].map(|()| {
        let folder = tempfile::tempdir().expect("a folder");
        patched(TCP, &folder.path().join(file_name(TCP)), |bytes| in_record(bytes, 24 + 18, b"fndpoints"));
        folder
    });
    let deny = format!("path:{}", folders[0].path().display());
    let builder = Registry::builder().default_plugin_path(false).prefer("tcp", "fndpoints-plugin-tcp");
    let builder = folders.iter().fold(builder, |builder, folder| builder.plugin_path(folder.path()));
    let registry = builder.deny_plugin(deny.parse().expect("a rule")).build().expect("a registry");
    let (_, origin) = registry.manifest("tcp").expect("somebody provides it");
    assert_eq!(origin.path(), Some(folders[1].path().join(file_name(TCP)).as_path()));
}

#[test]
fn a_denied_file_leaves_its_name_to_another() {
    let folders = [folder_with(&[TCP]), folder_with(&[TCP])];
    let deny = format!("path:{}", folders[0].path().display());
    let builder = Registry::builder().no_built_in().default_plugin_path(false);
    let builder = folders.iter().fold(builder, |builder, folder| builder.plugin_path(folder.path()));
    let registry = builder.deny_plugin(deny.parse().expect("a rule")).build().expect("a registry");
    registry.client("tcp:h:80").expect("the other one provides it");
    let states: Vec<_> = registry.plugins().into_iter().map(|plugin| plugin.state).collect();
    assert!(matches!(&states[..], [PluginState::Refused(_), PluginState::Available]), "{states:?}");
}

#[test]
fn a_preference_for_what_is_denied_tells_the_rule() {
    let folder = folder_with(&[TCP]);
    let builder = Registry::builder().no_built_in().default_plugin_path(false).plugin_path(folder.path());
    let rule: PluginRule = "name:endpoints-plugin-tcp".parse().expect("a rule");
    let builder = builder.prefer("tcp", "endpoints-plugin-tcp").deny_plugin(rule);
    let error = builder.build().expect_err("it cannot be had");
    assert_eq!(error.kind(), ErrorKind::InvalidSetting, "{error}");
    assert!(error.message().contains("the rule name:endpoints-plugin-tcp denies it"), "{error}");
}

#[test]
fn a_built_in_plugin_is_not_denied_in_vain() {
    let build = |change: fn(endpoints::RegistryBuilder) -> endpoints::RegistryBuilder| {
        let rule: PluginRule = "name:endpoints-plugin-tcp".parse().expect("a rule");
        change(Registry::builder().default_plugin_path(false)).deny_plugin(rule).build()
    };
    for used in [build(|builder| builder), build(|builder| builder.without_built_in("tcp"))] {
        let error = used.expect_err("its schemes would go on");
        assert_eq!(error.kind(), ErrorKind::InvalidSetting, "{error}");
        assert!(error.message().contains("--no-built-in=tcp,tcp6"), "{error}");
    }
    // A file may have the name of one that is left out.
    build(endpoints::RegistryBuilder::no_built_in).expect("nothing is built in");
    build(|builder| builder.without_built_in("tcp").without_built_in("TCP6")).expect("it is left out");
    let allow = |rule: &str| Registry::builder().allow_plugin(rule.parse().expect("a rule")).build();
    allow("name:endpoints-plugin-tcp").expect("it is used in any case");
}
