//! The plugins that were found, and who provides which scheme.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use endpoints_plugin_api::export::BuiltIn;

use super::builder::{BuiltIns, Settings};
use crate::error::{Error, ErrorKind, shown};
use crate::loader::{self, FileSource, Place, PlaceOutcome, Reason, Refusal, RefusalKind};
use crate::manifest::Manifest;
use crate::provider::{Origin, Provider, SchemeEntry};

/// All plugins that were found, and who provides which scheme.
pub(super) struct Index {
    pub(super) places: Vec<Place>,
    pub(super) plugins: Vec<Listed>,
    pub(super) schemes: HashMap<String, SchemeEntry>,
}

/// A plugin that was found.
pub(super) struct Listed {
    pub(super) origin: Origin,
    pub(super) manifest: Option<Manifest>,
    pub(super) provider: Result<Arc<Provider>, Refusal>,
    /// For each scheme that another plugin provides: its name and the other plugin's.
    pub(super) lost: Vec<(String, String)>,
}

pub(super) fn built_ins() -> Vec<Listed> {
    let mut all: Vec<Listed> = BuiltIn::all().map(listed_built_in).collect();
    // The linker's order means nothing.
    all.sort_by_key(Listed::name);
    all
}

pub(super) fn listed_built_in(plugin: &'static BuiltIn) -> Listed {
    let origin = Origin::BuiltIn;
    match Manifest::parse(plugin.manifest()) {
        Ok(manifest) => Listed {
            origin,
            manifest: Some(manifest.clone()),
            provider: Ok(Arc::new(Provider::built_in(plugin, manifest))),
            lost: Vec::new(),
        },
        Err(problem) => {
            let message = format!("its manifest is unsound: {problem}");
            let provider = Err(Refusal::new(RefusalKind::BadManifest, message));
            Listed { origin, manifest: None, provider, lost: Vec::new() }
        }
    }
}

impl Index {
    pub(super) fn build(settings: &Settings, built_in: &[Listed]) -> Self {
        let mut plugins: Vec<Listed> = match settings.built_in {
            BuiltIns::None => Vec::new(),
            _ => built_in.iter().map(Listed::again).collect(),
        };
        let mut places = Vec::new();
        let mut names = HashMap::new();
        for path in &settings.search.files {
            list_file(path, Reason::Named, settings, &mut plugins, &mut names);
        }
        for (directory, source) in settings.search.places() {
            let (files, outcome) = loader::look(&directory, source);
            for path in files {
                list_file(&path, Reason::Found, settings, &mut plugins, &mut names);
            }
            let place = Place { directory, source, outcome };
            if let (Some(problem), false) = (place.problem(), place.outcome == PlaceOutcome::Absent) {
                tracing::warn!("no plugin is looked for in {problem}");
            }
            places.push(place);
        }
        let mut schemes = HashMap::new();
        // What is preferred claims its scheme before everything else.
        for (scheme, wanted) in &settings.prefer {
            let fits = |listed: &&Listed| {
                listed.provides(scheme) && listed.is_called(wanted) && !listed.is_left_out(settings, scheme)
            };
            // One of them may be refused.
            if let Some(entry) = plugins.iter().filter(fits).find_map(|listed| listed.entry(scheme)) {
                schemes.entry(scheme.clone()).or_insert(entry);
            }
        }
        for listed in &mut plugins {
            listed.lost = listed.claim(settings, &mut schemes);
        }
        Self { places, plugins, schemes }
    }

    pub(super) fn unknown(&self, written: &[u8], name: &str) -> Error {
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
        let message = message + &self.unreadable() + &self.missed();
        Error::new(ErrorKind::UnknownScheme, message).with_scheme(name).with_expected(known, name)
    }
}

impl Index {
    /// The places that were named and hold nothing, for the message about an unknown scheme.
    fn missed(&self) -> String {
        let problems: Vec<String> = self.places.iter().filter_map(Place::problem).collect();
        if problems.is_empty() { String::new() } else { format!("; not looked at: {}", problems.join("; ")) }
    }

    /// The files of which nobody can tell what they would provide, for the message about an unknown scheme.
    fn unreadable(&self) -> String {
        let refused: Vec<_> = self
            .plugins
            .iter()
            .filter(|listed| listed.manifest.is_none())
            .filter_map(|listed| Some((&listed.origin, listed.provider.as_ref().err()?)))
            .collect();
        // A file that nobody vouches for was most likely meant as a plugin, and a library that lies there was not.
        let example = refused.iter().min_by_key(|(_, refusal)| match refusal.kind {
            RefusalKind::Untrusted => 0,
            RefusalKind::NoManifest => 2,
            _ => 1,
        });
        let Some((origin, refusal)) = example else { return String::new() };
        let more = match refused.len() - 1 {
            0 => String::new(),
            1 => "; so is 1 more file".to_owned(),
            more => format!("; so are {more} more files"),
        };
        format!(" ({origin} is refused: {refusal}{more}; see `endpoints list-plugins --refused`)")
    }
}

/// Adds the plugins of a file; `names` tells where those lie that can be used.
fn list_file(
    path: &Path,
    reason: Reason,
    settings: &Settings,
    plugins: &mut Vec<Listed>,
    names: &mut HashMap<String, Origin>,
) {
    let origin = Origin::File(path.to_owned());
    let checked = match loader::check_file(path, reason, &settings.policy) {
        Ok(checked) => checked,
        Err(refusal) => {
            tracing::debug!(path = %origin, reason = %refusal, "plugin refused");
            plugins.push(Listed { origin, manifest: None, provider: Err(refusal), lost: Vec::new() });
            return;
        }
    };
    for found in checked.plugins {
        let twin = found.manifest.as_ref().and_then(|manifest| names.get(&manifest.build.name));
        let duplicate = twin.map(|twin| {
            let message = format!("a plugin of this name was found before, at {twin}");
            Refusal::new(RefusalKind::DuplicatePlugin, message)
        });
        let provider = match (found.refusal.or(duplicate), &found.manifest) {
            (None, Some(manifest)) => {
                names.insert(manifest.build.name.clone(), origin.clone());
                let source = FileSource {
                    path: path.to_owned(),
                    identity: checked.identity,
                    text: found.text,
                    policy: settings.policy.clone(),
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
    pub(super) fn name(&self) -> String {
        match (&self.manifest, self.origin.path()) {
            (Some(manifest), _) => manifest.build.name.clone(),
            (None, Some(path)) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            (None, None) => String::new(),
        }
    }

    pub(super) fn is_called(&self, wanted: &str) -> bool {
        let is_path = wanted.contains('/') || wanted.ends_with(".so");
        // The same file by another path is the same file.
        let leads_to = |path: &Path| {
            let real = std::fs::canonicalize(path);
            is_path && real.is_ok_and(|real| std::fs::canonicalize(wanted).is_ok_and(|wanted| wanted == real))
        };
        self.name() == wanted
            || self.origin.path().is_some_and(|path| path.as_os_str() == wanted || leads_to(path))
    }

    pub(super) fn scheme_names(&self) -> impl Iterator<Item = String> {
        self.manifest
            .iter()
            .flat_map(|manifest| &manifest.plugin.schemes)
            .map(|scheme| scheme.name.to_string())
    }

    pub(super) fn provides(&self, scheme: &str) -> bool {
        self.scheme_names().any(|name| name == scheme)
    }

    fn entry(&self, scheme: &str) -> Option<SchemeEntry> {
        let provider = self.provider.as_ref().ok()?;
        let place = provider.manifest.plugin.schemes.iter().position(|known| &*known.name == scheme)?;
        Some(SchemeEntry { provider: Arc::clone(provider), place })
    }

    /// Whether a scheme of it is not to be used because it is built in.
    pub(super) fn is_left_out(&self, settings: &Settings, scheme: &str) -> bool {
        match &settings.built_in {
            BuiltIns::Without(schemes) if self.origin == Origin::BuiltIn => {
                schemes.iter().any(|left_out| left_out.eq_ignore_ascii_case(scheme))
            }
            _ => false,
        }
    }

    /// Takes the schemes that nobody has yet; gives those that somebody has.
    pub(super) fn claim(
        &self,
        settings: &Settings,
        schemes: &mut HashMap<String, SchemeEntry>,
    ) -> Vec<(String, String)> {
        let mut lost = Vec::new();
        for name in self.scheme_names() {
            let Some(entry) = self.entry(&name) else { continue };
            if self.is_left_out(settings, &name) {
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

    pub(super) fn report(&self) -> PluginReport {
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
