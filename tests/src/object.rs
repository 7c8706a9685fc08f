//! Plugins in files as tests need them: what the workspace built, and what is made from that, sound or not. Everything
//! here panics where it fails, as tests do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The shared object of a plugin's crate, built beside the test that runs.
#[must_use]
pub fn built(plugin: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test's own file");
    let profile = test.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST");
    let file = profile.join(file_name(plugin));
    assert!(file.is_file(), "there is no {}: run `cargo build --workspace` first", file.display());
    file
}

/// What the shared object of a crate is called.
#[must_use]
pub fn file_name(plugin: &str) -> String {
    format!("lib{plugin}.so")
}

/// Writes a changed copy of a plugin.
pub fn patched(plugin: &str, to: &Path, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    write(to, &change(fs::read(built(plugin)).expect("the plugin")));
}

/// Writes a file with the rights of a plugin.
pub fn write(to: &Path, bytes: &[u8]) {
    fs::write(to, bytes).expect("a file");
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).expect("its mode");
}

/// Puts `new` in the place of all `count` occurrences of `old`, which must be as long.
#[must_use]
pub fn replaced(mut bytes: Vec<u8>, old: &str, new: &str, count: usize) -> Vec<u8> {
    assert_eq!(old.len(), new.len(), "{old} and {new}");
    let places = places(&bytes, old.as_bytes());
    assert_eq!(places.len(), count, "occurrences of {old}");
    for place in places {
        bytes[place..place + new.len()].copy_from_slice(new.as_bytes());
    }
    bytes
}

/// Writes bytes into the head of the manifest record, so many bytes after its beginning.
#[must_use]
pub fn in_record(mut bytes: Vec<u8>, at: usize, new: &[u8]) -> Vec<u8> {
    let text = b"{\"build\":{\"name\":";
    let records = places(&bytes, b"endpoints-plugin");
    let record = records.into_iter().find(|place| bytes[place + 24..].starts_with(text)).expect("a record");
    bytes[record + at..record + at + new.len()].copy_from_slice(new);
    bytes
}

/// Writes the fixture `edition` as a build of another version, which its manifest and its code say.
pub fn edition(version: &str, to: &Path) {
    const BUILT: &[u8] = b"1.0.0-first.build";
    assert_eq!(version.len(), BUILT.len(), "{version}");
    patched("endpoints_fixture_edition", to, |mut bytes| {
        let places = places(&bytes, BUILT);
        assert!(places.len() > 2, "the record, the module's manifest, and what the code says: {places:?}");
        for place in places {
            bytes[place..place + BUILT.len()].copy_from_slice(version.as_bytes());
        }
        bytes
    });
}

/// The manifest record of a text.
#[must_use]
pub fn record(text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("a short text");
    [b"endpoints-plugin", &1_u32.to_le_bytes()[..], &length.to_le_bytes(), text].concat()
}

/// The text of a record: how the plugin `name` was built, and what it declares.
#[must_use]
pub fn manifest(name: &str, plugin: &str) -> String {
    format!(
        r#"{{"build":{{"name":"{name}","version":"1.0.0","api":"1.0.0","requires":"1.0.0","panic":"unwind","entry":"endpoints_plugin_v1_made"}},"plugin":{plugin}}}"#
    )
}

/// Compiles C source to a shared object with these bytes as its manifest section. It has the symbol that [`manifest`]
/// names as the entry, with nothing behind it.
pub fn compiled(to: &Path, section: &[u8], source: &str) {
    linked(to, section, source, &[]);
}

/// As [`compiled`], with more arguments for the compiler.
pub fn linked(to: &Path, section: &[u8], source: &str, arguments: &[&str]) {
    // Beside the result, by a name that is no plugin's.
    let folder = to.with_extension("build");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("section"), section).expect("a file");
    let all = format!(
        "__asm__(\".pushsection .epplugin,\\\"a\\\"\\n.incbin \\\"section\\\"\\n.popsection\");\n\
         const char endpoints_plugin_v1_made[64];\n{source}"
    );
    fs::write(folder.join("made.c"), all).expect("a file");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o", "made.so", "made.c"]).args(arguments).current_dir(&folder);
    let made = compiler.output().expect("a C compiler, which linking needs too");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    write(to, &fs::read(folder.join("made.so")).expect("what was made"));
    fs::remove_dir_all(folder).expect("it is not needed any more");
}

/// Writes another size into the header of a section (of a 64-bit ELF file), and makes the file as long, with a hole.
pub fn enlarged(file: &Path, section: &str, size: u64) {
    let mut bytes = fs::read(file).expect("a file");
    let number = |bytes: &[u8], at: usize, len: usize| {
        let mut word = [0; 8];
        word[..len].copy_from_slice(&bytes[at..at + len]);
        usize::try_from(u64::from_le_bytes(word)).expect("a small number")
    };
    // Fields of Elf64_Ehdr and Elf64_Shdr, see elf(5).
    let (headers, count) = (number(&bytes, 0x28, 8), number(&bytes, 0x3c, 2));
    let header = |place: usize| headers + 64 * place;
    let names = number(&bytes, header(number(&bytes, 0x3e, 2)) + 0x18, 8);
    let wanted = (0..count).map(header).find(|header| {
        let name = names + number(&bytes, *header, 4);
        bytes[name..].starts_with(format!("{section}\0").as_bytes())
    });
    let wanted = wanted.expect("the section");
    let offset = number(&bytes, wanted + 0x18, 8);
    bytes[wanted + 0x20..wanted + 0x28].copy_from_slice(&size.to_le_bytes());
    write(file, &bytes);
    let opened = fs::OpenOptions::new().write(true).open(file).expect("the file");
    opened.set_len(offset as u64 + size).expect("a hole");
}

fn places(bytes: &[u8], what: &[u8]) -> Vec<usize> {
    let first = what[0];
    let starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == first).map(|(place, _)| place);
    starts.filter(|place| bytes[*place..].starts_with(what)).collect()
}
