//! Setting up a registry.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use super::index::{Listed, built_ins, listed_built_in};
use super::{Inner, Registry};
use crate::BuiltIn;
use crate::error::{Error, ErrorKind, shown};
use crate::loader::{PluginRule, Policy, SearchPath};
use crate::services::HostServices;

/// Sets up a [`Registry`].
#[must_use = "nothing happens until it is built"]
pub struct RegistryBuilder {
    settings: Settings,
}

impl RegistryBuilder {
    pub(super) fn new() -> Self {
        Self {
            settings: Settings {
                search: SearchPath { files: Vec::new(), given: Vec::new(), defaults: true },
                compiled_in: Vec::new(),
                built_in: BuiltIns::All,
                prefer: Vec::new(),
                policy: Policy::default(),
            },
        }
    }

    /// Uses this plugin file too, before those of all directories; may be called for several.
    pub fn plugin_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.search.files.push(path.into());
        self
    }

    /// Uses a plugin that is compiled into the program but not registered for all registries of it; it counts as a
    /// built-in one.
    pub fn compiled_in(mut self, plugin: &'static BuiltIn) -> Self {
        self.settings.compiled_in.push(plugin);
        self
    }

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

    /// Uses, of the plugins in files, only those that this rule or another one that allows matches; may be called for
    /// several. Built-in plugins are not asked about.
    ///
    /// A plugin is compared with the rules before anything of it is loaded, and once more when it is.
    pub fn allow_plugin(mut self, rule: PluginRule) -> Self {
        self.settings.policy.allow.push(rule.fixed(false));
        self
    }

    /// Does not use the plugins in files that this rule matches, even if another one allows them; may be called for
    /// several.
    pub fn deny_plugin(mut self, rule: PluginRule) -> Self {
        self.settings.policy.deny.push(rule.fixed(true));
        self
    }

    /// Makes the registry.
    ///
    /// # Errors
    /// If a preference names a plugin that does not provide the scheme, a built-in scheme to be left out is none, or a rule
    /// denies by name a plugin that is built in and not left out.
    pub fn build(self) -> Result<Registry, Error> {
        let mut built_in = built_ins();
        built_in.extend(self.settings.compiled_in.iter().map(|plugin| listed_built_in(plugin)));
        if let BuiltIns::Without(schemes) = &self.settings.built_in {
            check_left_out(schemes, &built_in)?;
        }
        check_denied(&self.settings, &built_in)?;
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

pub(super) struct Settings {
    pub(super) search: SearchPath,
    pub(super) compiled_in: Vec<&'static BuiltIn>,
    pub(super) built_in: BuiltIns,
    pub(super) prefer: Vec<(String, String)>,
    pub(super) policy: Policy,
}

pub(super) enum BuiltIns {
    All,
    None,
    Without(Vec<String>),
}

fn check_left_out(schemes: &[String], built_in: &[Listed]) -> Result<(), Error> {
    let known: Vec<String> = built_in.iter().flat_map(Listed::scheme_names).collect();
    match schemes.iter().find(|scheme| !known.iter().any(|known| known.eq_ignore_ascii_case(scheme))) {
        None => Ok(()),
        Some(scheme) => {
            let known_as = known.join(", ");
            let message = format!("{} is no built-in scheme; there are {known_as}", shown(scheme.as_bytes()));
            Err(Error::new(ErrorKind::InvalidSetting, message).with_expected(known, scheme))
        }
    }
}

/// Rules are about files: one that names a built-in plugin would seem to deny it.
fn check_denied(settings: &Settings, built_in: &[Listed]) -> Result<(), Error> {
    let is_used = |listed: &&Listed| {
        !matches!(settings.built_in, BuiltIns::None)
            && listed.scheme_names().any(|scheme| !listed.is_left_out(settings, &scheme))
    };
    for listed in built_in.iter().filter(is_used) {
        let rule = PluginRule::Name(listed.name());
        if settings.policy.deny.contains(&rule) {
            let schemes: Vec<String> = listed.scheme_names().collect();
            let message = format!(
                "the rule {rule} is about files, and that plugin is built in: leave it out with --no-built-in={}, in a \
                 program with without_built_in",
                schemes.join(",")
            );
            return Err(Error::new(ErrorKind::InvalidSetting, message));
        }
    }
    Ok(())
}
