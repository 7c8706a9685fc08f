//! Plugins in files: where they are looked for, what is checked before any of their code runs, and loading them.

use std::fmt;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use endpoints_plugin_api as api;
use semver::Version;

use crate::manifest::Manifest;

mod open;
mod policy;
mod record;
mod search;
mod trust;

use open::EntryForm;
pub(crate) use open::Module;
pub use policy::PluginRule;
pub(crate) use policy::Policy;
use policy::Seen;
pub(crate) use record::Reason;
pub use search::{Place, PlaceOutcome, PlaceSource};
pub(crate) use search::{SearchPath, look};

/// Why a file, or a plugin in it, is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What sort of reason.
    pub kind: RefusalKind,
    /// The reason in one line.
    pub message: String,
}

impl Refusal {
    /// Much of a message may come from the file itself, so it is made one line.
    pub(crate) fn new(kind: RefusalKind, message: impl AsRef<str>) -> Self {
        Self { kind, message: api::abi::bytes::line(message.as_ref().as_bytes()) }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What sort of reason there is against a file or a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalKind {
    /// The file cannot be read.
    Io,
    /// It is no shared object, or a damaged one.
    NotAnObject,
    /// It is for another machine.
    WrongTarget,
    /// It carries no manifest.
    NoManifest,
    /// Its manifest makes no sense.
    BadManifest,
    /// It needs another version of the plugin API.
    ApiVersion,
    /// A panic in it would end this process.
    PanicPolicy,
    /// It lacks the entry symbol that its manifest names.
    NoEntry,
    /// A plugin of the same name was found before.
    DuplicatePlugin,
    /// Others than root and the running user could have written it.
    Untrusted,
    /// A rule denies it, or none allows it.
    Denied,
    /// The dynamic loader refuses it.
    Open,
    /// It was built with another, incompatible release of the ABI's foundation, or its entry is of another version.
    AbiHeader,
    /// It says that it has the right version, but its tables are laid out otherwise.
    Layout,
    /// It could not be set up.
    Root,
    /// What was loaded is not what the file says: an older image of the same path.
    StaleImage,
}

impl RefusalKind {
    /// The name by which scripts know the kind.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Io => "io",
            Self::NotAnObject => "not-an-object",
            Self::WrongTarget => "wrong-target",
            Self::NoManifest => "no-manifest",
            Self::BadManifest => "bad-manifest",
            Self::ApiVersion => "api-version",
            Self::PanicPolicy => "panic-policy",
            Self::NoEntry => "no-entry",
            Self::DuplicatePlugin => "duplicate-plugin",
            Self::Untrusted => "untrusted",
            Self::Denied => "denied",
            Self::Open => "open",
            Self::AbiHeader => "abi-header",
            Self::Layout => "layout",
            Self::Root => "root",
            Self::StaleImage => "stale-image",
        }
    }
}

/// A file that was opened and found to be a plugin; nothing of it has run.
pub(crate) struct CheckedFile {
    pub(crate) file: File,
    pub(crate) identity: Identity,
    pub(crate) plugins: Vec<FoundPlugin>,
}

/// A plugin in a file: its manifest, or why it is not used.
pub(crate) struct FoundPlugin {
    pub(crate) text: String,
    pub(crate) manifest: Option<Manifest>,
    pub(crate) refusal: Option<Refusal>,
}

/// What tells a file from another, and from itself after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
    /// Whether the other is the same file with other contents.
    fn is_overwritten_by(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
            && (self.size, self.modified) != (other.size, other.modified)
    }

    fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Opens and checks a file without running any of it.
pub(crate) fn check_file(path: &Path, reason: Reason, policy: &Policy) -> Result<CheckedFile, Refusal> {
    let (file, metadata) = record::open(path, reason)?;
    trust::check(&file, path)?;
    let records = record::read(&file, metadata.len())?;
    let seen = policy.see(&file)?;
    let plugins = records.into_iter().map(|record| check_record(record, policy, seen.as_ref())).collect();
    Ok(CheckedFile { identity: Identity::of(&metadata), file, plugins })
}

fn check_record(record: record::Record, policy: &Policy, seen: Option<&Seen>) -> FoundPlugin {
    let parsed = Manifest::parse(&record.text).and_then(|manifest| {
        EntryForm::of(&manifest.build.entry)?;
        Ok(manifest)
    });
    let manifest = match parsed {
        Ok(manifest) => manifest,
        Err(problem) => {
            // A plugin of a later API may declare what this version cannot read: say that, where it is so.
            let refusal = record::api_of(&record.text)
                .and_then(|(api, requires)| check_api(&api, &requires).err())
                .unwrap_or_else(|| {
                    let message = format!("its manifest is unsound: {problem}; it has to be built anew");
                    Refusal::new(RefusalKind::BadManifest, message)
                });
            return FoundPlugin { text: record.text, manifest: None, refusal: Some(refusal) };
        }
    };
    let build = &manifest.build;
    let allowed = seen.map_or(Ok(()), |seen| policy.judge(&build.name, seen));
    let refusal = allowed.and_then(|()| check_api(&build.api, &build.requires)).err().or_else(|| {
        if build.panic == "abort" && !policy.allow_abort {
            let message = "it is built with panic=abort, so that a panic in it would end this process: \
                           build it with panic=unwind, or allow that";
            return Some(Refusal::new(RefusalKind::PanicPolicy, message));
        }
        (!record.entries.contains(&build.entry)).then(|| {
            let message = format!(
                "it has no symbol {}, which its manifest names as its entry: build it anew, and keep its symbols",
                build.entry
            );
            Refusal::new(RefusalKind::NoEntry, message)
        })
    });
    FoundPlugin { text: record.text, manifest: Some(manifest), refusal }
}

/// Where an open file really lies, whatever links led to it.
fn real_path(file: &File) -> std::io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// The version of the plugin API that this host speaks.
pub(crate) fn host_api() -> Version {
    Version::parse(api::VERSION).unwrap_or(Version::new(1, 0, 0))
}

fn check_api(api: &Version, requires: &Version) -> Result<(), Refusal> {
    let host = host_api();
    if api.major == host.major && requires.major == host.major && *requires <= host {
        return Ok(());
    }
    let message = if api.major == host.major && requires.major == host.major {
        format!("it needs version {requires} of the plugin API, and this host has {host}: use a newer host")
    } else {
        format!(
            "it is built for version {api} of the plugin API and needs {requires}, and this host has {host}, another \
             major version: build it for that"
        )
    };
    Err(Refusal::new(RefusalKind::ApiVersion, message))
}

/// Where a plugin lies, and what it was when it was listed.
#[derive(Debug)]
pub(crate) struct FileSource {
    pub(crate) path: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) text: String,
    pub(crate) policy: Policy,
}

impl FileSource {
    /// Loads the plugin from the very file that was checked: opened once more, compared, checked anew where it is not
    /// the same any more, and loaded through that descriptor.
    pub(crate) fn load(&self, manifest: &Manifest) -> Result<Module, Refusal> {
        let (file, metadata) = record::open(&self.path, Reason::Found)?;
        let identity = Identity::of(&metadata);
        if identity != self.identity {
            let again = check_file(&self.path, Reason::Found, &self.policy)?;
            match again.plugins.into_iter().find(|found| found.text == self.text) {
                Some(found) => found.refusal.map_or(Ok(()), Err)?,
                None => {
                    let message = "the file has changed since it was listed; make a new registry";
                    return Err(Refusal::new(RefusalKind::StaleImage, message));
                }
            }
            return load_once(again.file, again.identity, &manifest.build.entry, &self.text);
        }
        trust::check(&file, &self.path)?;
        // Once more, of what is loaded now.
        if let Some(seen) = self.policy.see(&file)? {
            self.policy.judge(&manifest.build.name, &seen)?;
        }
        load_once(file, identity, &manifest.build.entry, &self.text)
    }
}

/// Loads a file, or finds it loaded already: each registry would keep another descriptor of it open for ever otherwise.
fn load_once(file: File, identity: Identity, entry: &str, text: &str) -> Result<Module, Refusal> {
    static LOADED: Mutex<Vec<(Identity, String, Module)>> = Mutex::new(Vec::new());
    {
        let loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, _, module)) =
            loaded.iter().find(|(known, name, _)| *known == identity && name == entry)
        {
            return Ok(*module);
        }
        // The dynamic loader knows files by device and inode, and would give what it has.
        if loaded.iter().any(|(known, _, _)| known.is_overwritten_by(&identity)) {
            let message = "the file was written to after this process had loaded it: restart the process";
            return Err(Refusal::new(RefusalKind::StaleImage, message));
        }
    }
    // Not under the lock: initialisers of the file run now, and may want anything.
    let module = open::load(file, entry, text)?;
    LOADED.lock().unwrap_or_else(PoisonError::into_inner).push((identity, entry.to_owned(), module));
    Ok(module)
}
