//! Loading a checked file: the only place where code of a file begins to run.
#![expect(unsafe_code, reason = "dlopen and what it gives; each block names what it rests on")]

use std::error::Error as _;
use std::fs::File;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::ptr::NonNull;

use abi_stable::abi_stability::abi_checking::check_layout_compatibility;
use abi_stable::library::{AbiHeaderRef, LibHeader};
use endpoints_plugin_api::abi::entry::{ENTRY_ABI, REntry};
use endpoints_plugin_api::abi::instance::Constructor;
use endpoints_plugin_api::abi::module::{Create, PluginModRef};
use endpoints_plugin_api::manifest::{C_ENTRY_PREFIX, ENTRY_PREFIX, FORMAT, HEAD, MAGIC};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use super::{Refusal, RefusalKind};

/// A loaded plugin's module, checked. It stays loaded for the life of the process.
#[derive(Clone, Copy)]
pub(crate) struct Module(Constructor);

impl Module {
    /// What makes instances of it.
    pub(crate) fn constructor(self) -> Constructor {
        self.0
    }
}

/// The two sorts of entries, told by the name of their symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryForm {
    /// A library header of `abi_stable`, which leads to the module of a plugin in Rust.
    Rust,
    /// A plain table, which plugins in other languages have.
    C,
}

impl EntryForm {
    /// The form of the entry of that name. What has the prefix was made to be an entry; anything else would be taken for
    /// what it is not.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub(super) fn of(entry: &str) -> Result<Self, String> {
        let is_symbol = entry.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if is_symbol && entry.starts_with(ENTRY_PREFIX) {
            Ok(Self::Rust)
        } else if is_symbol && entry.starts_with(C_ENTRY_PREFIX) {
            Ok(Self::C)
        } else {
            Err(format!(
                "{entry:?} cannot be an entry: its name must begin with {ENTRY_PREFIX} or {C_ENTRY_PREFIX}"
            ))
        }
    }
}

/// Loads the file that `file` has open, and checks what it gives; `text` is the manifest that was read from it.
pub(super) fn load(file: File, entry: &str, text: &str) -> Result<Module, Refusal> {
    let form = EntryForm::of(entry).map_err(|problem| Refusal::new(RefusalKind::BadManifest, problem))?;
    // Through the descriptor, so that it is the very file that was checked. The dynamic loader knows images by their
    // path: the descriptor stays open for ever, so that its number never comes to mean another file.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    // SAFETY: loading runs the file's initialisers. That is what the caller decided on: the file is one that only root
    // or the running user can have written, and it is a sound object of this machine.
    let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_LOCAL) }.map_err(|error| {
        let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        Refusal::new(RefusalKind::Open, format!("the dynamic loader refuses it: {reason}"))
    })?;
    let _ = file.into_raw_fd();
    // Never unloaded, whatever comes now: threads and thread-locals of it may live on.
    let library = std::mem::ManuallyDrop::new(library);
    let constructor = match form {
        // SAFETY: a symbol of that name with the documented prefix is a `LibHeader`, which is tested by its magic.
        EntryForm::Rust => unsafe { from_header(symbol(&library, entry)?, text)? },
        // SAFETY: a symbol of that name with the documented prefix is an `REntry`.
        EntryForm::C => unsafe { from_table(symbol(&library, entry)?, text)? },
    };
    Ok(Module(constructor))
}

/// Finds an entry.
fn symbol<T>(library: &Library, entry: &str) -> Result<NonNull<T>, Refusal> {
    let no_entry = |reason: &str| {
        Refusal::new(RefusalKind::NoEntry, format!("its entry {entry} is not found: {reason}"))
    };
    // SAFETY: what it points to is the caller's affair; here it is a pointer.
    let found = unsafe { library.get::<*mut T>(entry.as_bytes()) }
        .map_err(|error| no_entry(&error.source().map_or_else(|| error.to_string(), ToString::to_string)))?;
    NonNull::new(*found).filter(|table| table.is_aligned()).ok_or_else(|| no_entry("it leads nowhere"))
}

/// The constructor of a plugin in Rust, whose module is checked by `abi_stable`.
///
/// # Safety
/// `header` points to a constant of a loaded image, as long as a library header.
unsafe fn from_header(header: NonNull<LibHeader>, text: &str) -> Result<Constructor, Refusal> {
    // SAFETY: a reference to a header is the pointer to it; `upgrade` tests that it is one by its magic.
    let header: AbiHeaderRef = unsafe { std::mem::transmute(header) };
    let header: &'static LibHeader = header.upgrade().map_err(|_| {
        let message = "its foundation (abi_stable) is none, or another than this host's: build it with the released \
                       plugin API";
        Refusal::new(RefusalKind::AbiHeader, message)
    })?;
    check_layout(header)?;
    // SAFETY: the layout was checked, in both directions, just now.
    let module = unsafe { header.init_root_module_with_unchecked_layout::<PluginModRef>() }
        .map_err(|error| Refusal::new(RefusalKind::Root, format!("it could not be set up: {error}")))?;
    if module.manifest().as_str() != text {
        return Err(stale());
    }
    // SAFETY: the module was checked.
    Ok(unsafe { Constructor::new(module.create()) })
}

/// The bytes of the first version of a plain table.
const FIRST_ENTRY: usize = offset_of!(REntry, create) + size_of::<Option<Create>>();

/// The constructor of a plugin in another language, whose entry is a plain table.
///
/// # Safety
/// `entry` points to a constant of a loaded image that begins with its size in bytes.
unsafe fn from_table(entry: NonNull<REntry>, text: &str) -> Result<Constructor, Refusal> {
    let refuse =
        |what: String| Refusal::new(RefusalKind::AbiHeader, format!("its entry is of no use: {what}"));
    // SAFETY: every entry begins with its size, and of what it says there is all.
    let size = unsafe { entry.cast::<usize>().read() };
    if size < FIRST_ENTRY {
        return Err(refuse(format!("it has {size} bytes, and the first version has {FIRST_ENTRY}")));
    }
    let entry = entry.as_ptr();
    // SAFETY: it has the fields of the first version, which stay as they are; read through the pointer, as a reference
    // would promise those of later ones too.
    let (abi, record, create) = unsafe { ((*entry).abi, (*entry).record, (*entry).create) };
    if abi != ENTRY_ABI {
        return Err(refuse(format!("it is of version {abi}, and this host knows {ENTRY_ABI}")));
    }
    let Some(create) = create else {
        return Err(refuse("it has no function to make an instance".into()));
    };
    // SAFETY: a record, or null.
    if !unsafe { is_record(record, text) } {
        return Err(stale());
    }
    // SAFETY: the version says that it is a `Create`.
    Ok(unsafe { Constructor::new(create) })
}

/// Whether the record in memory is the one with that text.
///
/// # Safety
/// `record` points to a constant, or is null; where the constant begins as a record, there are as many bytes as it says.
unsafe fn is_record(record: *const u8, text: &str) -> bool {
    if record.is_null() {
        return false;
    }
    let begins = |at: usize, bytes: &[u8]| {
        bytes.iter().enumerate().all(|(place, byte)| {
            // SAFETY: by contract; a byte is looked at only where all those before it were those of a record.
            let found = unsafe { record.add(at + place).read() };
            found == *byte
        })
    };
    if !begins(0, &MAGIC) || !begins(MAGIC.len(), &FORMAT.to_le_bytes()) {
        return false;
    }
    // SAFETY: the head of a record has this many bytes.
    let length = unsafe { record.add(HEAD - 4).cast::<[u8; 4]>().read() };
    let length = u32::from_le_bytes(length) as usize;
    // A text may have a NUL at its end, which is no part of it.
    let has_nul = text.len().checked_add(1) == Some(length);
    (length == text.len() || has_nul)
        && begins(HEAD, text.as_bytes())
        && (!has_nul || begins(HEAD + text.len(), b"\0"))
}

fn stale() -> Refusal {
    let message = "what is loaded carries another manifest than the file: restart the process, or build the plugin anew";
    Refusal::new(RefusalKind::StaleImage, message)
}

/// Compares the module's layout both ways round: the newer side knows more fields, and either may be the newer.
fn check_layout(header: &'static LibHeader) -> Result<(), Refusal> {
    let Some(theirs) = header.layout() else {
        return Err(Refusal::new(RefusalKind::Layout, "it does not say how its tables are laid out"));
    };
    let ours = <PluginModRef as abi_stable::StableAbi>::LAYOUT;
    match check_layout_compatibility(ours, theirs) {
        Ok(()) => Ok(()),
        Err(error) => check_layout_compatibility(theirs, ours).map_err(|_| {
            // The whole text runs to tens of kilobytes; its last part says what differs.
            let text = error.to_string();
            let last = text.rsplit("Error:").next().unwrap_or_default();
            let reason: Vec<&str> = last.split_whitespace().take(40).collect();
            Refusal::new(
                RefusalKind::Layout,
                format!(
                    "its tables are laid out otherwise than its version says: build it with the released plugin API ({})",
                    reason.join(" ")
                ),
            )
        }),
    }
}
