//! Schemes and who provides them.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::builder::{ClientBuilder, ServerBuilder};
use crate::endpoint::{self, ClientEndpoint, RoleKind, ServerEndpoint};
use crate::error::{Error, ErrorKind};
use crate::grammar::Description;
use crate::loader::{self, Place, Refusal};
use crate::manifest::{Manifest, Role};
use crate::provider::{Origin, SchemeEntry};
use crate::services::HostServices;

mod builder;
mod index;

pub use builder::RegistryBuilder;
use builder::Settings;
use index::{Index, Listed};
pub use index::{PluginReport, PluginState};

// A crate that is only depended on is not linked: its registrations appear when it is mentioned.
#[cfg(feature = "haproxy")]
use endpoints_plugin_haproxy as _;
#[cfg(feature = "stdio")]
use endpoints_plugin_stdio as _;
#[cfg(feature = "systemd")]
use endpoints_plugin_systemd as _;
#[cfg(feature = "tcp")]
use endpoints_plugin_tcp as _;
#[cfg(feature = "tls")]
use endpoints_plugin_tls as _;
#[cfg(feature = "unix")]
use endpoints_plugin_unix as _;

/// Knows the plugins, and makes endpoints from descriptions.
///
/// Cheap to clone. Built-in plugins are known at once; files are looked for when a scheme asks for it that is not built
/// in, or when plugins are listed. A plugin is loaded when the first endpoint of one of its schemes is made.
///
/// # Examples
///
/// ```
/// let registry = endpoints::Registry::default();
/// let client = registry.client("tcp:host=localhost:port=80")?;
/// assert_eq!(client.to_string(), "tcp:host=localhost:port=80");
/// # Ok::<(), endpoints::Error>(())
/// ```
#[derive(Clone)]
pub struct Registry(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    settings: Settings,
    built_in: Vec<Listed>,
    /// What is known without looking at files; empty where files may come before.
    quick: HashMap<String, SchemeEntry>,
    index: OnceLock<Index>,
    pub(crate) services: HostServices,
}
impl Registry {
    /// A registry to be set up otherwise than the default one.
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder::new()
    }

    /// The registry that the functions of the crate's root use.
    pub fn global() -> &'static Self {
        static GLOBAL: OnceLock<Registry> = OnceLock::new();
        GLOBAL.get_or_init(Self::default)
    }

    /// Makes a client endpoint: its description is checked through and through, nothing is opened.
    ///
    /// # Errors
    /// What is wrong with the description, and where; or why the plugin that provides its scheme cannot be used.
    pub fn client(&self, description: impl AsRef<[u8]>) -> Result<ClientEndpoint, Error> {
        endpoint::make(self, RoleKind::Client, description.as_ref()).map(ClientEndpoint::new)
    }

    /// Makes a server endpoint: its description is checked through and through, nothing is opened.
    ///
    /// # Errors
    /// What is wrong with the description, and where; or why the plugin that provides its scheme cannot be used.
    pub fn server(&self, description: impl AsRef<[u8]>) -> Result<ServerEndpoint, Error> {
        endpoint::make(self, RoleKind::Server, description.as_ref()).map(ServerEndpoint::new)
    }

    /// Makes a client endpoint of values in place of a description.
    pub fn client_builder(&self, scheme: &str) -> ClientBuilder {
        ClientBuilder::new(self, scheme)
    }

    /// Makes a server endpoint of values in place of a description.
    pub fn server_builder(&self, scheme: &str) -> ServerBuilder {
        ServerBuilder::new(self, scheme)
    }

    /// Parses a description by the grammar alone: neither its scheme nor its arguments need exist.
    ///
    /// Unlike [`Description::parse`], the error shows the description, with what is known to be a secret masked.
    ///
    /// # Errors
    /// Which rule of the grammar it breaks, and where.
    pub fn parse(&self, description: impl AsRef<[u8]>) -> Result<Description, Error> {
        endpoint::parse(self, description.as_ref())
    }

    /// All plugins that were found, usable or not, in the order in which they count. Runs no code of theirs.
    #[must_use]
    pub fn plugins(&self) -> Vec<PluginReport> {
        self.index().plugins.iter().map(Listed::report).collect()
    }

    /// The places where files were looked for, in order.
    #[must_use]
    pub fn places(&self) -> Vec<Place> {
        self.index().places.clone()
    }

    /// The manifest of the plugin that provides a scheme, with where it comes from. Runs no code of it.
    ///
    /// # Errors
    /// If nobody provides the scheme.
    pub fn manifest(&self, scheme: &str) -> Result<(Manifest, Origin), Error> {
        let entry = self.find(scheme.as_bytes())?;
        Ok((entry.provider.manifest.clone(), entry.provider.origin.clone()))
    }

    /// Loads the plugin that provides a scheme, and sets it up, as the first endpoint of the scheme would: a program that
    /// does so at its start learns of a plugin that does not work before it needs it.
    ///
    /// # Errors
    /// If nobody provides the scheme, or why the plugin cannot be used.
    pub fn load(&self, scheme: &str) -> Result<(), Error> {
        self.find(scheme.as_bytes())?.provider.instance(&self.0.services).map(drop)
    }

    /// The manifests of the plugins in a file, usable or not. Runs no code of theirs.
    ///
    /// # Errors
    /// Why the file is no plugin.
    pub fn inspect_file(&self, path: impl Into<PathBuf>) -> Result<Vec<PluginReport>, Refusal> {
        let path = path.into();
        let checked = loader::check_file(&path, loader::Reason::Named, &self.0.settings.policy)?;
        let found = checked.plugins.iter().map(|found| PluginReport {
            origin: Origin::File(path.clone()),
            manifest: found.manifest.clone(),
            state: found.refusal.clone().map_or(PluginState::Available, PluginState::Refused),
            lost: Vec::new(),
        });
        Ok(found.collect())
    }

    /// Whether they are one and the same.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Who provides a scheme, without regard to ASCII case.
    pub(crate) fn find(&self, scheme: &[u8]) -> Result<SchemeEntry, Error> {
        let folded;
        let name = match std::str::from_utf8(scheme) {
            Ok(name) if !name.bytes().any(|byte| byte.is_ascii_uppercase()) => name,
            _ => {
                folded = String::from_utf8_lossy(scheme).to_ascii_lowercase();
                folded.as_str()
            }
        };
        if let Some(entry) = self.0.quick.get(name) {
            return Ok(entry.clone());
        }
        let index = self.index();
        index.schemes.get(name).cloned().ok_or_else(|| index.unknown(scheme, name))
    }

    /// All schemes, in no order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &SchemeEntry> {
        self.index().schemes.values()
    }

    /// The names of all arguments, of any known scheme, whose values must never be shown, and what secrets are mostly
    /// called.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let manifests = self.index().plugins.iter().filter_map(|listed| listed.manifest.as_ref());
        let schemes = manifests.flat_map(|manifest| &manifest.plugin.schemes);
        let roles = schemes.flat_map(|scheme| scheme.client.iter().chain(&scheme.server));
        let usual = ["password", "passphrase", "passwd", "pass", "pwd", "pw", "secret", "token", "auth"];
        roles.flat_map(Role::secrets).chain(usual).map(str::to_owned).collect()
    }

    fn index(&self) -> &Index {
        self.0.index.get_or_init(|| Index::build(&self.0.settings, &self.0.built_in))
    }
}

impl Default for Registry {
    /// All built-in plugins, and files from the documented places.
    fn default() -> Self {
        Self::builder()
            .build()
            .unwrap_or_else(|error| unreachable!("no preference, so nothing to refuse: {error}"))
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("built_in", &self.0.built_in.len()).finish_non_exhaustive()
    }
}

impl Registry {
    fn check_preferences(&self) -> Result<(), Error> {
        for (scheme, plugin) in &self.0.settings.prefer {
            let fits = |listed: &&Listed| {
                listed.provider.is_ok()
                    && listed.provides(scheme)
                    && !listed.is_left_out(&self.0.settings, scheme)
            };
            let candidates: Vec<&Listed> = self.index().plugins.iter().filter(fits).collect();
            if !candidates.iter().any(|listed| listed.is_called(plugin)) {
                let mut names: Vec<String> = Vec::new();
                for listed in &candidates {
                    // By its name the first one is meant.
                    let name = Some(listed.name()).filter(|name| !names.contains(name));
                    names.push(name.unwrap_or_else(|| listed.origin.to_string()));
                }
                let known = if names.is_empty() { "none does".to_owned() } else { names.join(", ") };
                let named = self
                    .index()
                    .plugins
                    .iter()
                    .find(|listed| listed.provides(scheme) && listed.is_called(plugin))
                    .and_then(|listed| listed.provider.as_ref().err());
                let message = match named {
                    Some(refusal) => {
                        format!("the plugin {plugin}, preferred for {scheme}, is refused: {refusal}")
                    }
                    None => format!("{plugin} is no usable plugin that provides {scheme}: {known}"),
                };
                let error = Error::new(ErrorKind::InvalidSetting, message).with_expected(names, plugin);
                // A file is known by its path; by its name alone it was most likely meant.
                let file = Path::new(plugin).file_name().filter(|_| plugin.ends_with(".so"));
                let paths = candidates.iter().filter_map(|listed| listed.origin.path());
                let meant = paths.into_iter().find(|path| file.is_some() && path.file_name() == file);
                return Err(match meant {
                    Some(path) => error.suggesting(&path.to_string_lossy()),
                    None => error,
                });
            }
        }
        Ok(())
    }
}
