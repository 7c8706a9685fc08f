//! Shared objects with something wrong in them, made from sound ones.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::built;

/// Writes a changed copy of a plugin.
pub(crate) fn patched(plugin: &str, to: &Path, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    write(to, &change(fs::read(built(plugin)).expect("the plugin")));
}

/// Writes a file with the rights of a plugin.
pub(crate) fn write(to: &Path, bytes: &[u8]) {
    fs::write(to, bytes).expect("a file");
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).expect("its mode");
}

/// Puts `new` in the place of all `count` occurrences of `old`, which must be as long.
pub(crate) fn replaced(mut bytes: Vec<u8>, old: &str, new: &str, count: usize) -> Vec<u8> {
    assert_eq!(old.len(), new.len(), "{old} and {new}");
    let places = places(&bytes, old.as_bytes());
    assert_eq!(places.len(), count, "occurrences of {old}");
    for place in places {
        bytes[place..place + new.len()].copy_from_slice(new.as_bytes());
    }
    bytes
}

/// Writes bytes into the head of the manifest record, so many bytes after its beginning.
pub(crate) fn in_record(mut bytes: Vec<u8>, at: usize, new: &[u8]) -> Vec<u8> {
    let text = b"{\"build\":{\"name\":";
    let records = places(&bytes, b"endpoints-plugin");
    let record = records.into_iter().find(|place| bytes[place + 24..].starts_with(text)).expect("a record");
    bytes[record + at..record + at + new.len()].copy_from_slice(new);
    bytes
}

fn places(bytes: &[u8], what: &[u8]) -> Vec<usize> {
    let first = what[0];
    let starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == first).map(|(place, _)| place);
    starts.filter(|place| bytes[*place..].starts_with(what)).collect()
}
