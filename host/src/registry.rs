//! Schemes and who provides them.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use endpoints_plugin_api::export::BuiltIn;

use crate::endpoint::{self, ClientEndpoint, RoleKind, ServerEndpoint};
use crate::error::{Error, ErrorKind, shown};
use crate::grammar::Description;
use crate::loader::{self, FileSource, Place, Policy, Refusal, RefusalKind, SearchPath};
use crate::manifest::{Manifest, Role};
use crate::provider::{Origin, Provider, SchemeEntry};
use crate::services::HostServices;

// A crate that is only depended on is not linked: its registrations appear when it is mentioned.
#[cfg(feature = "tcp")]
use endpoints_plugin_tcp as _;
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

/// All plugins that were found, and who provides which scheme.
struct Index {
    places: Vec<Place>,
    plugins: Vec<Listed>,
    schemes: HashMap<String, SchemeEntry>,
}

/// A plugin that was found.
struct Listed {
    origin: Origin,
    manifest: Option<Manifest>,
    provider: Result<Arc<Provider>, Refusal>,
    /// For each scheme that another plugin provides: its name and the other plugin's.
    lost: Vec<(String, String)>,
}

struct Settings {
    search: SearchPath,
    built_in: BuiltIns,
    prefer: Vec<(String, String)>,
    policy: Policy,
}

enum BuiltIns {
    All,
    None,
    Without(Vec<String>),
}

impl Registry {
    /// A registry to be set up otherwise than the default one.
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder {
            settings: Settings {
                search: SearchPath { given: Vec::new(), defaults: true },
                built_in: BuiltIns::All,
                prefer: Vec::new(),
                policy: Policy::default(),
            },
        }
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

    /// The manifests of the plugins in a file, usable or not. Runs no code of theirs.
    ///
    /// # Errors
    /// Why the file is no plugin.
    pub fn inspect_file(&self, path: impl Into<PathBuf>) -> Result<Vec<PluginReport>, Refusal> {
        let path = path.into();
        let checked = loader::check_file(&path, self.0.settings.policy)?;
        let found = checked.plugins.iter().map(|found| PluginReport {
            origin: Origin::File(path.clone()),
            manifest: found.manifest.clone(),
            state: found.refusal.clone().map_or(PluginState::Available, PluginState::Refused),
            lost: Vec::new(),
        });
        Ok(found.collect())
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

    /// The names of all arguments, of any known scheme, whose values must never be shown, and what secrets are mostly
    /// called.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let manifests = self.index().plugins.iter().filter_map(|listed| listed.manifest.as_ref());
        let schemes = manifests.flat_map(|manifest| &manifest.plugin.schemes);
        let roles = schemes.flat_map(|scheme| scheme.client.iter().chain(&scheme.server));
        let usual = ["password", "passphrase", "secret", "token"];
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

/// Sets up a [`Registry`].
#[must_use = "nothing happens until it is built"]
pub struct RegistryBuilder {
    settings: Settings,
}

impl RegistryBuilder {
    /// Looks for files in this directory too, before all default places and after those that were named before.
    pub fn plugin_path(mut self, directory: impl Into<PathBuf>) -> Self {
        self.settings.search.given.push(directory.into());
        self
    }

    /// Whether to look for files in the default places; it is so unless said otherwise.
    pub fn default_plugin_path(mut self, look: bool) -> Self {
        self.settings.search.defaults = look;
        self
    }

    /// Uses no built-in plugin.
    pub fn no_built_in(mut self) -> Self {
        self.settings.built_in = BuiltIns::None;
        self
    }

    /// Does not use the built-in plugin for this scheme; may be called for several.
    pub fn without_built_in(mut self, scheme: impl Into<String>) -> Self {
        match &mut self.settings.built_in {
            BuiltIns::Without(schemes) => schemes.push(scheme.into()),
            BuiltIns::None => {}
            BuiltIns::All => self.settings.built_in = BuiltIns::Without(vec![scheme.into()]),
        }
        self
    }

    /// Has `scheme` provided by the plugin of that name, or that file, though another would come before it.
    pub fn prefer(mut self, scheme: impl Into<String>, plugin: impl Into<String>) -> Self {
        self.settings.prefer.push((scheme.into().to_ascii_lowercase(), plugin.into()));
        self
    }

    /// Uses plugins that are built with `panic=abort`, although a panic in one ends the process.
    pub fn allow_abort(mut self, allow: bool) -> Self {
        self.settings.policy.allow_abort = allow;
        self
    }

    /// Makes the registry.
    ///
    /// # Errors
    /// If a preference names a plugin that does not provide the scheme, or a built-in scheme to be left out that is none.
    pub fn build(self) -> Result<Registry, Error> {
        let built_in = built_ins();
        if let BuiltIns::Without(schemes) = &self.settings.built_in {
            check_left_out(schemes, &built_in)?;
        }
        let mut quick = HashMap::new();
        if self.settings.prefer.is_empty() && !matches!(self.settings.built_in, BuiltIns::None) {
            for listed in &built_in {
                listed.claim(&self.settings, &mut quick);
            }
        }
        let wanted = !self.settings.prefer.is_empty();
        let registry = Registry(Arc::new_cyclic(|weak| Inner {
            settings: self.settings,
            built_in,
            quick,
            index: OnceLock::new(),
            services: HostServices::new(weak.clone()),
        }));
        if wanted {
            registry.check_preferences()?;
        }
        Ok(registry)
    }
}

impl fmt::Debug for RegistryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryBuilder")
            .field("plugin_path", &self.settings.search.given)
            .finish_non_exhaustive()
    }
}

fn check_left_out(schemes: &[String], built_in: &[Listed]) -> Result<(), Error> {
    let known: Vec<String> = built_in.iter().flat_map(Listed::scheme_names).collect();
    match schemes.iter().find(|scheme| !known.iter().any(|known| known.eq_ignore_ascii_case(scheme))) {
        None => Ok(()),
        Some(scheme) => {
            let message = format!("{scheme} is no built-in scheme; there are {}", known.join(", "));
            Err(Error::new(ErrorKind::InvalidSetting, message).with_expected(known, scheme))
        }
    }
}

impl Registry {
    fn check_preferences(&self) -> Result<(), Error> {
        for (scheme, plugin) in &self.0.settings.prefer {
            let fits = |listed: &&Listed| listed.provider.is_ok() && listed.provides(scheme);
            let candidates: Vec<&Listed> = self.index().plugins.iter().filter(fits).collect();
            if !candidates.iter().any(|listed| listed.is_called(plugin)) {
                let names: Vec<String> = candidates.iter().map(|listed| listed.name()).collect();
                let known = if names.is_empty() { "none does".to_owned() } else { names.join(", ") };
                let message = format!("{plugin} is no usable plugin that provides {scheme}: {known}");
                return Err(Error::new(ErrorKind::InvalidSetting, message).with_expected(names, plugin));
            }
        }
        Ok(())
    }
}

fn built_ins() -> Vec<Listed> {
    let mut all: Vec<Listed> = BuiltIn::all()
        .map(|plugin| match Manifest::parse(plugin.manifest()) {
            Ok(manifest) => Listed {
                origin: Origin::BuiltIn,
                manifest: Some(manifest.clone()),
                provider: Ok(Arc::new(Provider::built_in(plugin, manifest))),
                lost: Vec::new(),
            },
            Err(problem) => Listed {
                origin: Origin::BuiltIn,
                manifest: None,
                provider: Err(Refusal::new(
                    RefusalKind::BadManifest,
                    format!("its manifest is unsound: {problem}"),
                )),
                lost: Vec::new(),
            },
        })
        .collect();
    // The linker's order means nothing.
    all.sort_by_key(Listed::name);
    all
}

impl Index {
    fn build(settings: &Settings, built_in: &[Listed]) -> Self {
        let mut plugins: Vec<Listed> = match settings.built_in {
            BuiltIns::None => Vec::new(),
            _ => built_in.iter().map(Listed::again).collect(),
        };
        let mut places = Vec::new();
        for (directory, source) in settings.search.places() {
            let (files, outcome) = loader::plugin_files(&directory);
            for path in files {
                list_file(&path, settings, &mut plugins);
            }
            places.push(Place { directory, source, outcome });
        }
        let mut schemes = HashMap::new();
        // What is preferred claims its scheme before everything else.
        for (scheme, wanted) in &settings.prefer {
            let preferred = plugins.iter().find(|listed| listed.provides(scheme) && listed.is_called(wanted));
            if let Some(entry) = preferred.and_then(|listed| listed.entry(scheme)) {
                schemes.entry(scheme.clone()).or_insert(entry);
            }
        }
        for listed in &mut plugins {
            listed.lost = listed.claim(settings, &mut schemes);
        }
        Self { places, plugins, schemes }
    }

    fn unknown(&self, written: &[u8], name: &str) -> Error {
        let refused = self.plugins.iter().find(|listed| listed.provider.is_err() && listed.provides(name));
        if let Some((listed, refusal)) =
            refused.and_then(|listed| Some((listed, listed.provider.as_ref().err()?)))
        {
            let message = format!(
                "the plugin {} ({}), which provides {name}, is refused: {refusal}",
                listed.name(),
                listed.origin
            );
            return Error::new(ErrorKind::PluginRefused, message).with_scheme(name);
        }
        let mut known: Vec<String> = self.schemes.keys().cloned().collect();
        known.sort();
        let message = match (name, known.is_empty()) {
            ("", _) => "a description begins with a scheme, as in tcp:host=example.com:port=80".to_owned(),
            (_, true) => format!("no plugin provides the scheme {}: no plugin was found", shown(written)),
            (_, false) => {
                format!("no plugin provides the scheme {}; known are {}", shown(written), known.join(", "))
            }
        };
        let message = message + &self.unreadable();
        Error::new(ErrorKind::UnknownScheme, message).with_scheme(name).with_expected(known, name)
    }
}

impl Index {
    /// The files of which nobody can tell what they would provide, for the message about an unknown scheme.
    fn unreadable(&self) -> String {
        let mut refused = self.plugins.iter().filter(|listed| listed.manifest.is_none());
        let Some((first, refusal)) =
            refused.next().and_then(|first| Some((first, first.provider.as_ref().err()?)))
        else {
            return String::new();
        };
        let more = match refused.count() {
            0 => String::new(),
            more => format!(", and {more} more files"),
        };
        format!(" ({} is refused: {refusal}{more})", first.origin)
    }
}

fn list_file(path: &std::path::Path, settings: &Settings, plugins: &mut Vec<Listed>) {
    let origin = Origin::File(path.to_owned());
    let checked = match loader::check_file(path, settings.policy) {
        Ok(checked) => checked,
        Err(refusal) => {
            tracing::debug!(path = %path.display(), reason = %refusal, "plugin refused");
            plugins.push(Listed { origin, manifest: None, provider: Err(refusal), lost: Vec::new() });
            return;
        }
    };
    for found in checked.plugins {
        let twin = plugins.iter().find(|listed| {
            let name = found.manifest.as_ref().map(|manifest| manifest.build.name.as_str());
            listed.origin != Origin::BuiltIn
                && listed.provider.is_ok()
                && Some(listed.name().as_str()) == name
        });
        let duplicate = twin.map(|twin| {
            let message = format!("a plugin of this name was found before, at {}", twin.origin);
            Refusal::new(RefusalKind::DuplicatePlugin, message)
        });
        let provider = match (found.refusal.or(duplicate), &found.manifest) {
            (None, Some(manifest)) => {
                let source = FileSource {
                    path: path.to_owned(),
                    identity: checked.identity,
                    text: found.text,
                    policy: settings.policy,
                };
                Ok(Arc::new(Provider::file(source, manifest.clone())))
            }
            (refusal, _) => {
                Err(refusal.unwrap_or_else(|| Refusal::new(RefusalKind::BadManifest, "it has no manifest")))
            }
        };
        plugins.push(Listed { origin: origin.clone(), manifest: found.manifest, provider, lost: Vec::new() });
    }
}

impl Listed {
    fn again(&self) -> Self {
        Self {
            origin: self.origin.clone(),
            manifest: self.manifest.clone(),
            provider: self.provider.clone(),
            lost: Vec::new(),
        }
    }

    /// The plugin's name, or its file's where the manifest is unreadable.
    fn name(&self) -> String {
        match (&self.manifest, self.origin.path()) {
            (Some(manifest), _) => manifest.build.name.clone(),
            (None, Some(path)) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            (None, None) => String::new(),
        }
    }

    fn is_called(&self, wanted: &str) -> bool {
        self.name() == wanted || self.origin.path().is_some_and(|path| path.as_os_str() == wanted)
    }

    fn scheme_names(&self) -> impl Iterator<Item = String> {
        self.manifest
            .iter()
            .flat_map(|manifest| &manifest.plugin.schemes)
            .map(|scheme| scheme.name.to_string())
    }

    fn provides(&self, scheme: &str) -> bool {
        self.scheme_names().any(|name| name == scheme)
    }

    fn entry(&self, scheme: &str) -> Option<SchemeEntry> {
        let provider = self.provider.as_ref().ok()?;
        let place = provider.manifest.plugin.schemes.iter().position(|known| &*known.name == scheme)?;
        Some(SchemeEntry { provider: Arc::clone(provider), place })
    }

    /// Takes the schemes that nobody has yet; gives those that somebody has.
    fn claim(
        &self,
        settings: &Settings,
        schemes: &mut HashMap<String, SchemeEntry>,
    ) -> Vec<(String, String)> {
        let mut lost = Vec::new();
        let left_out = |scheme: &str| match &settings.built_in {
            BuiltIns::Without(schemes) if self.origin == Origin::BuiltIn => {
                schemes.iter().any(|left_out| left_out.eq_ignore_ascii_case(scheme))
            }
            _ => false,
        };
        for name in self.scheme_names() {
            let Some(entry) = self.entry(&name) else { continue };
            if left_out(&name) {
                lost.push((name, "--no-built-in".to_owned()));
                continue;
            }
            match schemes.get(&name) {
                Some(owner) if !Arc::ptr_eq(&owner.provider, &entry.provider) => {
                    lost.push((name, format!("{} ({})", owner.provider.name(), owner.provider.origin)));
                }
                Some(_) => {}
                None => {
                    schemes.insert(name, entry);
                }
            }
        }
        lost
    }

    fn report(&self) -> PluginReport {
        let all_lost = || self.manifest.as_ref().is_some_and(|m| m.plugin.schemes.len() == self.lost.len());
        let state = match &self.provider {
            Err(refusal) => PluginState::Refused(refusal.clone()),
            Ok(_) if all_lost() => PluginState::Shadowed,
            Ok(_) => PluginState::Available,
        };
        PluginReport {
            origin: self.origin.clone(),
            manifest: self.manifest.clone(),
            state,
            lost: self.lost.clone(),
        }
    }
}

/// A plugin that was found, as it is listed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PluginReport {
    /// Where it comes from.
    pub origin: Origin,
    /// What it declares, where that could be read.
    pub manifest: Option<Manifest>,
    /// Whether it is used.
    pub state: PluginState,
    /// The schemes of it that another plugin provides, each with that plugin.
    pub lost: Vec<(String, String)>,
}

/// Whether a plugin is used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PluginState {
    /// It provides at least one scheme.
    Available,
    /// Other plugins provide all its schemes.
    Shadowed,
    /// It is not used, for this reason.
    Refused(Refusal),
}
