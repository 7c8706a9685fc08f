//! `endpoints list-plugins`: the plugins that were found.

use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use clap::Args;
use endpoints::manifest::Scheme;
use endpoints::{Origin, Place, PluginReport, PluginState};
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::Outcome;
use crate::output::{bytes_json, harmless, origin_json, print, print_json, table};
use crate::why;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only plugins that are refused
    #[arg(long)]
    refused: bool,
    /// Show each place that was looked at for this scheme, in order, and what was decided there
    #[arg(long, value_name = "SCHEME", conflicts_with_all = ["refused", "skip_built_in"])]
    why: Option<String>,
    /// Leave built-in plugins out
    #[arg(long)]
    skip_built_in: bool,
}

pub(crate) fn run(context: &Context, options: Options) -> Outcome {
    let Options { refused, why, skip_built_in } = options;
    let registry = context.registry()?;
    if let Some(scheme) = why {
        return why::run(context, &registry, &scheme);
    }
    let mut plugins = registry.plugins();
    plugins.retain(|plugin| {
        let wanted = !refused || matches!(plugin.state, PluginState::Refused(_));
        wanted && !(skip_built_in && plugin.origin == Origin::BuiltIn)
    });
    if context.json() {
        let plugins: Vec<Value> = plugins.iter().map(as_json).collect();
        print_json(&json!({ "abi": major_minor(endpoints::PLUGIN_API), "plugins": plugins }))?;
    } else if plugins.is_empty() {
        let none = if refused { "no plugin is refused\n" } else { "no plugin was found\n" };
        let places = registry.places();
        let problems = places.iter().filter_map(Place::problem).map(|problem| format!("{problem}\n"));
        print(problems.fold(none.to_owned(), |text, problem| text + &problem).as_bytes())?;
    } else {
        let mut rows = vec![["name", "version", "schemes", "from", "state"].map(str::to_owned).to_vec()];
        rows.extend(plugins.iter().map(row));
        print(table(&rows).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The name that a plugin declares, or that of its file where it declares none.
pub(crate) fn name(plugin: &PluginReport) -> Vec<u8> {
    match (&plugin.manifest, plugin.origin.path()) {
        (Some(manifest), _) => manifest.build.name.clone().into_bytes(),
        (None, path) => path.and_then(|path| path.file_stem()).unwrap_or_default().as_bytes().to_vec(),
    }
}

fn schemes(plugin: &PluginReport) -> &[Scheme] {
    plugin.manifest.as_ref().map_or(&[], |manifest| &manifest.plugin.schemes)
}

fn roles(scheme: &Scheme) -> Vec<&'static str> {
    let roles = [("client", &scheme.client), ("server", &scheme.server)];
    roles.into_iter().filter(|(_, role)| role.is_some()).map(|(name, _)| name).collect()
}

/// Who provides a scheme of a plugin in its place.
pub(crate) fn shadowed_by<'a>(plugin: &'a PluginReport, scheme: &str) -> Option<&'a str> {
    plugin.lost.iter().find(|(lost, _)| lost == scheme).map(|(_, winner)| winner.as_str())
}

/// Why a plugin is not used, or not for all its schemes.
fn reason(plugin: &PluginReport) -> Option<(&'static str, String)> {
    match &plugin.state {
        PluginState::Refused(refusal) => Some((refusal.kind.name(), refusal.message.clone())),
        PluginState::Shadowed => {
            let lost = plugin.lost.iter().map(|(scheme, winner)| why::lost(scheme, winner));
            Some(("shadowed", lost.collect::<Vec<_>>().join("; ")))
        }
        _ => None,
    }
}

fn state(plugin: &PluginReport) -> &'static str {
    match plugin.state {
        PluginState::Available => "available",
        PluginState::Shadowed => "shadowed",
        _ => "refused",
    }
}

/// `1.0` of `1.0.0`.
fn major_minor(version: &str) -> String {
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}

fn as_json(plugin: &PluginReport) -> Value {
    let build = plugin.manifest.as_ref().map(|manifest| &manifest.build);
    let schemes: Vec<Value> = schemes(plugin)
        .iter()
        .map(|scheme| {
            json!({
                "scheme": &*scheme.name,
                "roles": roles(scheme),
                "kind": scheme.kind,
                "summary": scheme.summary,
                "shadowed_by": shadowed_by(plugin, &scheme.name),
            })
        })
        .collect();
    json!({
        "name": bytes_json(&name(plugin)),
        "version": build.map(|build| build.version.to_string()),
        "abi": build.map(|build| major_minor(&build.api.to_string())),
        "rustc": build.map(|build| build.rustc.as_str()).filter(|rustc| !rustc.is_empty()),
        "origin": origin_json(&plugin.origin),
        "state": state(plugin),
        "reason": reason(plugin).map(|(kind, message)| json!({ "kind": kind, "message": message })),
        "schemes": schemes,
    })
}

fn row(plugin: &PluginReport) -> Vec<String> {
    let version = plugin
        .manifest
        .as_ref()
        .map_or_else(|| "-".to_owned(), |manifest| manifest.build.version.to_string());
    let schemes = schemes(plugin).iter().map(|scheme| {
        let lost = if shadowed_by(plugin, &scheme.name).is_some() { ", shadowed" } else { "" };
        format!("{} ({}{lost})", scheme.name, roles(scheme).join(", "))
    });
    let state = match reason(plugin) {
        Some((_, message)) => format!("{}: {}", state(plugin), harmless(&message)),
        None => state(plugin).to_owned(),
    };
    let name = harmless(&String::from_utf8_lossy(&name(plugin)));
    vec![name, version, schemes.collect::<Vec<_>>().join(", "), harmless(&plugin.origin.to_string()), state]
}
