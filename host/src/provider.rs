//! A plugin as the registry holds it: declared at once, set up on first use.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, ThreadId};

use endpoints_plugin_api::abi::instance::Instance;
use endpoints_plugin_api::export::BuiltIn;

use crate::error::{Error, ErrorKind};
use crate::loader::{FileSource, Module, RefusalKind};
use crate::manifest::{Manifest, Scheme};
use crate::services::HostServices;

/// Where a plugin comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Compiled into this program.
    BuiltIn,
    /// A file.
    File(PathBuf),
}

impl Origin {
    /// The file, where it is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::BuiltIn => None,
            Self::File(path) => Some(path),
        }
    }
}

impl fmt::Display for Origin {
    /// For people: without what would steer a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built-in"),
            Self::File(path) => Harmless(path).fmt(f),
        }
    }
}

/// A path as people see it: without what would steer a terminal.
pub(crate) struct Harmless<'a>(pub(crate) &'a Path);

impl fmt::Display for Harmless<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let harmless = |c: char| if c.is_control() { '\u{fffd}' } else { c };
        self.0.to_string_lossy().chars().try_for_each(|c| f.write_char(harmless(c)))
    }
}

/// A plugin that may be used.
pub(crate) struct Provider {
    pub(crate) manifest: Manifest,
    pub(crate) origin: Origin,
    source: Source,
    instance: OnceLock<Instance>,
    setting_up: Mutex<()>,
    who_sets_up: Mutex<Option<ThreadId>>,
}

enum Source {
    BuiltIn(&'static BuiltIn),
    File(FileSource),
}

/// A scheme and the plugin that provides it.
#[derive(Clone)]
pub(crate) struct SchemeEntry {
    pub(crate) provider: Arc<Provider>,
    /// The place of the scheme in the plugin's manifest.
    pub(crate) place: usize,
}

impl SchemeEntry {
    pub(crate) fn scheme(&self) -> &Scheme {
        &self.provider.manifest.plugin.schemes[self.place]
    }
}

impl Provider {
    pub(crate) fn built_in(plugin: &'static BuiltIn, manifest: Manifest) -> Self {
        Self {
            manifest,
            origin: Origin::BuiltIn,
            source: Source::BuiltIn(plugin),
            instance: OnceLock::new(),
            setting_up: Mutex::default(),
            who_sets_up: Mutex::default(),
        }
    }

    pub(crate) fn file(source: FileSource, manifest: Manifest) -> Self {
        let origin = Origin::File(source.path.clone());
        Self {
            manifest,
            origin,
            source: Source::File(source),
            instance: OnceLock::new(),
            setting_up: Mutex::default(),
            who_sets_up: Mutex::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.manifest.build.name
    }

    /// The instance for this registry; the first call loads the plugin and sets it up. What failed is tried again.
    pub(crate) fn instance(&self, services: &HostServices) -> Result<&Instance, Error> {
        if let Some(instance) = self.instance.get() {
            return Ok(instance);
        }
        let this_thread = thread::current().id();
        let who = || self.who_sets_up.lock().unwrap_or_else(PoisonError::into_inner);
        if *who() == Some(this_thread) {
            let message = format!("the plugin {} asks for itself while it is set up", self.name());
            return Err(Error::new(ErrorKind::Internal, message));
        }
        let _one_at_a_time = self.setting_up.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(instance) = self.instance.get() {
            return Ok(instance);
        }
        *who() = Some(this_thread);
        let made = self.set_up(services);
        *who() = None;
        made.map(|made| self.instance.get_or_init(|| made))
    }

    fn set_up(&self, services: &HostServices) -> Result<Instance, Error> {
        let constructor = match &self.source {
            Source::BuiltIn(plugin) => plugin.constructor(),
            Source::File(file) => {
                let load = || file.load(&self.manifest).map(Module::constructor);
                load().map_err(|refusal| {
                    let message = format!(
                        "the plugin {} cannot be loaded from {}: {refusal}",
                        self.name(),
                        self.origin
                    );
                    Error::new(ErrorKind::PluginRefused, message).retryable(refusal.kind == RefusalKind::Io)
                })?
            }
        };
        tracing::debug!(plugin = self.name(), origin = %self.origin, "set up");
        let services = Arc::new(services.for_plugin(self.name()));
        Instance::create(constructor, services).map_err(|error| {
            Error::from(error).context(format_args!("the plugin {} cannot be set up", self.name()))
        })
    }
}
