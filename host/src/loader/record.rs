//! Reading manifest records from a file without running any of it.

use std::collections::HashSet;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use endpoints_plugin_api::manifest::{C_ENTRY_PREFIX, ENTRY_PREFIX, FORMAT, HEAD, MAGIC, MAX_TEXT, SECTION};
use object::read::elf::{ElfFile, FileHeader, SectionHeader as _, Sym as _};
use object::{Architecture, Object as _, ObjectKind, ObjectSection as _, ObjectSegment as _, ReadRef};
use rustix::fs::OFlags;
use rustix::io::Errno;
use semver::Version;

use super::{Refusal, RefusalKind};

/// A record of a file.
pub(super) struct Record {
    pub(super) text: String,
    /// The names of all entries that the file exports.
    pub(super) entries: Arc<HashSet<String>>,
}

/// Why a file is looked at, which says what to do where it is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Somebody named it.
    Named,
    /// It lies in a folder of plugins.
    Found,
}

/// Why a file that is open cannot be read.
pub(super) fn unreadable(error: &io::Error) -> Refusal {
    Refusal::new(RefusalKind::Io, format!("it cannot be read: {error}"))
}

/// Why a file cannot be opened, and what to do.
fn not_opened(path: &Path, reason: Reason, error: &io::Error) -> Refusal {
    let in_circles = Errno::from_io_error(error) == Some(Errno::LOOP);
    let message = match (error.kind(), std::fs::read_link(path), reason) {
        (io::ErrorKind::PermissionDenied, ..) => {
            format!("it cannot be read: {error}; let the running user read it")
        }
        (_, Ok(_), Reason::Found) if in_circles => {
            "it is a link that leads back to itself: take the link away".to_owned()
        }
        (io::ErrorKind::NotFound, Ok(target), Reason::Found) => {
            format!("it is a link to {}, which is not there: take the link away", target.display())
        }
        (io::ErrorKind::NotFound, Ok(target), Reason::Named) => {
            format!(
                "it is a link to {}, which is not there; give the path of a file that is",
                target.display()
            )
        }
        (io::ErrorKind::NotFound, Err(_), Reason::Found) => {
            format!("it cannot be read: {error}; it was taken away: install it anew")
        }
        (.., Reason::Named) => format!("it cannot be read: {error}; give the path of a file that is there"),
        (.., Reason::Found) => format!("it cannot be read: {error}"),
    };
    Refusal::new(RefusalKind::Io, message)
}

/// Opens a regular file. What is none is not opened at all: that waits for the other end of a FIFO, and for some devices
/// has effects.
pub(super) fn open(path: &Path, reason: Reason) -> Result<(File, Metadata), Refusal> {
    let io = |error: io::Error| not_opened(path, reason, &error);
    let flags = i32::try_from(OFlags::PATH.bits()).unwrap_or(0);
    let place = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(io)?;
    let there = place.metadata().map_err(io)?;
    if !there.is_file() {
        let message = match reason {
            Reason::Found => "it is not a regular file: take it away",
            Reason::Named if there.is_dir() => "it is a folder; give the file of a plugin",
            Reason::Named => "it is not a regular file; give the file of a plugin",
        };
        return Err(Refusal::new(RefusalKind::Io, message));
    }
    let file = File::open(format!("/proc/self/fd/{}", place.as_raw_fd())).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    Ok((file, metadata))
}

/// Reads all records of a shared object for this machine.
pub(super) fn read(file: &File, len: u64) -> Result<Vec<Record>, Refusal> {
    let damaged = |error: object::Error| {
        let message = format!("it is no shared object, or a damaged one: {error}; install it anew");
        Refusal::new(RefusalKind::NotAnObject, message)
    };
    let cache = object::ReadCache::new(file);
    let bytes = Limited(&cache);
    let object = object::File::parse(bytes).map_err(damaged)?;
    let machine = (object.architecture(), object.is_64(), object.is_little_endian());
    let ours = (architecture(), cfg!(target_pointer_width = "64"), cfg!(target_endian = "little"));
    if machine != ours {
        let message = format!(
            "it is for another machine, {}: install the build for {}",
            machine_name(machine),
            machine_name(ours)
        );
        return Err(Refusal::new(RefusalKind::WrongTarget, message));
    }
    if object.kind() != ObjectKind::Dynamic {
        return Err(Refusal::new(
            RefusalKind::NotAnObject,
            "it is no shared object but another kind of ELF file: build it as a cdylib",
        ));
    }
    // The dynamic loader maps segments beyond the end of a truncated file, and dies of it later.
    for segment in object.segments() {
        let (start, size) = segment.file_range();
        if start.checked_add(size).is_none_or(|end| end > len) {
            return Err(Refusal::new(
                RefusalKind::NotAnObject,
                "it is truncated: a segment lies beyond its end; install it anew",
            ));
        }
    }
    let Some(section) = object.section_by_name(SECTION) else {
        return Err(Refusal::new(
            RefusalKind::NoManifest,
            format!(
                "it is no endpoint plugin, or one that has lost its section headers: no section {SECTION}; \
                 take it away, or build it anew"
            ),
        ));
    };
    if section.size() > LARGEST_READ {
        let message =
            format!("its manifest section has {} bytes; {LARGEST_READ} are the most", section.size());
        return Err(Refusal::new(RefusalKind::BadManifest, message));
    }
    let data = section.data().map_err(damaged)?;
    let entries = match &object {
        object::File::Elf32(elf) => entries(elf, bytes),
        object::File::Elf64(elf) => entries(elf, bytes),
        _ => Ok(HashSet::new()),
    };
    let entries = entries.map_err(damaged)?;
    if entries.len() > MOST_ENTRIES {
        let message = format!("it exports more than {MOST_ENTRIES} entries of plugins: build it with fewer");
        return Err(Refusal::new(RefusalKind::BadManifest, message));
    }
    let entries = Arc::new(entries);
    let records: Vec<Record> =
        texts(data)?.into_iter().map(|text| Record { text, entries: Arc::clone(&entries) }).collect();
    if records.is_empty() {
        return Err(Refusal::new(
            RefusalKind::NoManifest,
            "its manifest section holds no record: build it anew",
        ));
    }
    Ok(records)
}

/// The most plugins in a file. Each record is read in full, and listed.
const MOST_RECORDS: usize = 64;

/// The most symbols in a file that begin as entries do; each plugin has one.
const MOST_ENTRIES: usize = 1024;

/// The longest name of an entry, in bytes.
const LONGEST_ENTRY: usize = 4096;

/// The names of the entries that a file exports, one more than may be at most. All names of symbols are read as one piece,
/// and no others are kept: a file has as many as it likes, and they may share their bytes.
fn entries<'data, H: FileHeader, R: ReadRef<'data>>(
    elf: &ElfFile<'data, H, R>,
    bytes: R,
) -> object::Result<HashSet<String>> {
    let symbols = elf.elf_dynamic_symbol_table();
    let mut found = HashSet::new();
    if symbols.is_empty() {
        return Ok(found);
    }
    let endian = elf.endian();
    let names = elf.elf_section_table().section(symbols.string_section())?.data(endian, bytes)?;
    for symbol in symbols.iter() {
        let Some(rest) = names.get(symbol.st_name(endian) as usize..) else { continue };
        let is_entry =
            [ENTRY_PREFIX, C_ENTRY_PREFIX].iter().any(|prefix| rest.starts_with(prefix.as_bytes()));
        if !is_entry || !symbol.is_definition(endian, symbols.strings()) {
            continue;
        }
        let end = rest.iter().take(LONGEST_ENTRY + 1).position(|byte| *byte == 0);
        if let Some(Ok(name)) = end.map(|end| std::str::from_utf8(&rest[..end])) {
            found.insert(name.to_owned());
        }
        if found.len() > MOST_ENTRIES {
            break;
        }
    }
    Ok(found)
}

/// The most bytes that are read at once, for a table of sections, symbols or names, or for the manifests. A file can claim as many
/// as it has, and one with holes has as many as it likes; memory would be filled before anything was looked at.
const LARGEST_READ: u64 = 64 << 20;

/// A file of which no more than [`LARGEST_READ`] is read at once.
#[derive(Clone, Copy)]
struct Limited<R>(R);

impl<'a, R: ReadRef<'a>> ReadRef<'a> for Limited<R> {
    fn len(self) -> Result<u64, ()> {
        self.0.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        if size > LARGEST_READ { Err(()) } else { self.0.read_bytes_at(offset, size) }
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        self.0.read_bytes_at_until(range, delimiter)
    }
}

fn machine_name((architecture, is_64, is_little_endian): (Architecture, bool, bool)) -> String {
    let bits = if is_64 { 64 } else { 32 };
    let order = if is_little_endian { "little" } else { "big" };
    format!("{architecture:?} ({bits} bits, {order}-endian)")
}

fn architecture() -> Architecture {
    if cfg!(target_arch = "x86_64") {
        Architecture::X86_64
    } else if cfg!(target_arch = "aarch64") {
        Architecture::Aarch64
    } else if cfg!(target_arch = "x86") {
        Architecture::I386
    } else if cfg!(target_arch = "arm") {
        Architecture::Arm
    } else if cfg!(target_arch = "riscv64") {
        Architecture::Riscv64
    } else if cfg!(target_arch = "s390x") {
        Architecture::S390x
    } else if cfg!(target_arch = "powerpc64") {
        Architecture::PowerPc64
    } else {
        Architecture::Unknown
    }
}

/// The texts of the records in a section, which may have padding between them.
pub(super) fn texts(data: &[u8]) -> Result<Vec<String>, Refusal> {
    let bad = |message: String| {
        Refusal::new(RefusalKind::BadManifest, format!("{message}; build or install the plugin anew"))
    };
    let mut texts = Vec::new();
    let mut at = 0;
    while let Some(found) =
        data.get(at..).and_then(|rest| rest.windows(MAGIC.len()).position(|bytes| bytes == MAGIC))
    {
        if texts.len() == MOST_RECORDS {
            return Err(bad(format!("it has more than {MOST_RECORDS} manifest records, the most in a file")));
        }
        let start = at + found;
        let number = |place: usize| -> Option<u32> {
            data.get(start + place..start + place + 4)?.try_into().ok().map(u32::from_le_bytes)
        };
        let (Some(format), Some(length)) = (number(16), number(20)) else {
            return Err(bad("its manifest record is cut off".into()));
        };
        if format != FORMAT {
            return Err(bad(format!(
                "its manifest record is of the form {format}, and this host reads {FORMAT}"
            )));
        }
        let length = length as usize;
        if length > MAX_TEXT {
            return Err(bad(format!("its manifest claims {length} bytes; {MAX_TEXT} are the most")));
        }
        let begin = start + HEAD;
        let Some(text) = data.get(begin..begin + length) else {
            return Err(bad(format!("its manifest claims {length} bytes, more than the section has")));
        };
        // C compilers end a string with a NUL.
        let text = text.strip_suffix(b"\0").unwrap_or(text);
        let text = std::str::from_utf8(text).map_err(|_| bad("its manifest is not UTF-8".into()))?;
        texts.push(text.to_owned());
        at = begin + length;
    }
    Ok(texts)
}

/// The API versions of a manifest that is otherwise unreadable.
pub(super) fn api_of(text: &str) -> Option<(Version, Version)> {
    let json: serde_json::Value = serde_json::from_str(text).ok()?;
    let version = |name: &str| json["build"][name].as_str().and_then(|text| Version::parse(text).ok());
    Some((version("api")?, version("requires")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(format: u32, length: u32, text: &[u8]) -> Vec<u8> {
        [&MAGIC[..], &format.to_le_bytes(), &length.to_le_bytes(), text].concat()
    }

    #[test]
    fn records_are_found_between_padding() {
        let data = [b"\0\0\0".to_vec(), record(1, 2, b"{}"), vec![0; 9], record(1, 3, b"{ }")].concat();
        assert_eq!(texts(&data).unwrap(), ["{}", "{ }"]);
        assert_eq!(texts(b"nothing here").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn damaged_records_are_refused() {
        for (data, reason) in [
            (record(2, 2, b"{}"), "form 2"),
            (record(1, 3, b"{}"), "more than the section"),
            (record(1, u32::MAX, b"{}"), "the most"),
            (record(1, 2, b"\xff\xff"), "UTF-8"),
            (MAGIC.to_vec(), "cut off"),
        ] {
            let refusal = texts(&data).unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::BadManifest);
            assert!(refusal.message.contains(reason), "{}", refusal.message);
        }
    }
}
