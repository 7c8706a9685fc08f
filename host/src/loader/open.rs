//! Loading a checked file: the only place where code of a file begins to run.
#![expect(unsafe_code, reason = "dlopen and what it gives; each block names what it rests on")]

use std::error::Error as _;
use std::fs::File;
use std::os::fd::{AsRawFd, IntoRawFd};

use abi_stable::abi_stability::abi_checking::check_layout_compatibility;
use abi_stable::library::{AbiHeaderRef, LibHeader};
use endpoints_plugin_api::abi::instance::Constructor;
use endpoints_plugin_api::abi::module::PluginModRef;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use super::{Refusal, RefusalKind};

/// A loaded plugin's module, checked. It stays loaded for the life of the process.
#[derive(Clone, Copy)]
pub(crate) struct Module(PluginModRef);

impl Module {
    /// What makes instances of it.
    pub(crate) fn constructor(self) -> Constructor {
        // SAFETY: `load` has checked the module.
        unsafe { Constructor::new(self.0.create()) }
    }
}

/// Loads the file that `file` has open, and checks what it gives; `text` is the manifest that was read from it.
pub(super) fn load(file: File, entry: &str, text: &str) -> Result<Module, Refusal> {
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
    // SAFETY: a symbol of that name with the documented prefix is a `LibHeader`; `upgrade` tests that by its magic.
    let header: AbiHeaderRef =
        *unsafe { library.get::<AbiHeaderRef>(entry.as_bytes()) }.map_err(|error| {
            let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            Refusal::new(RefusalKind::NoEntry, format!("its entry {entry} is not found: {reason}"))
        })?;
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
        let message = "what is loaded carries another manifest than the file: restart the process, or build the plugin anew";
        return Err(Refusal::new(RefusalKind::StaleImage, message));
    }
    Ok(Module(module))
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
