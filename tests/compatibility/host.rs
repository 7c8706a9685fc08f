//! The public items of the host library, as they were looked at last: a change of them is seen, and meant.

use std::collections::BTreeSet;
use std::fs;

use crate::api::reachable_items;
use crate::checked::root;

/// What programs can name, and the traits that it implements. How the host lends its own types to plugins (`Export`) is not
/// for programs, and what happens when something is dropped, nobody names.
fn public() -> BTreeSet<String> {
    let left_out = |line: &String| [" Export for ", " Drop for "].iter().any(|one| line.contains(one));
    reachable_items("host").into_iter().filter(|line| !left_out(line)).collect()
}

#[test]
fn it_is_what_it_was() {
    let path = root().join("tests/fixtures/api/host.txt");
    let now = public();
    assert!(now.len() > 200, "{}", now.len());
    if std::env::var_os("ENDPOINTS_API_UPDATE").is_some() {
        let text: String = now.iter().map(|item| format!("{item}\n")).collect();
        fs::write(&path, text).expect("it is written");
    }
    let text = fs::read_to_string(&path).expect("the items");
    let then: BTreeSet<String> = text.lines().map(str::to_owned).collect();
    let gone: Vec<&String> = then.difference(&now).collect();
    let new: Vec<&String> = now.difference(&then).collect();
    assert!(
        gone.is_empty() && new.is_empty(),
        "the public items have changed: gone are {gone:#?}, new are {new:#?}. Where that is meant, write \
         {} anew with ENDPOINTS_API_UPDATE=1, and tell of it in CHANGELOG.md",
        path.display()
    );
}

#[test]
fn what_plugins_are_loaded_with_is_not_seen() {
    let hidden =
        ["abi_stable", "libloading", "object ::", "RStr", "RString", "RVec", "ROption", "RResult", "RBytes"];
    for line in public() {
        let words: BTreeSet<&str> = line.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let seen: Vec<&&str> = hidden
            .iter()
            .filter(|one| words.contains(**one) || one.contains(' ') && line.contains(**one))
            .collect();
        assert!(seen.is_empty(), "{line}: {seen:?}");
    }
}
