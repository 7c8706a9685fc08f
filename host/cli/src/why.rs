//! `endpoints list-plugins --why`: each place that was looked at for a scheme, and what was decided there.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use endpoints::{Origin, PluginReport, PluginState, Registry};
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::Outcome;
use crate::list_plugins::{name, shadowed_by};
use crate::output::{bytes_json, harmless, origin_json, print, print_json, scheme_alone};

/// A place, what was found in it, and what was decided about each plugin.
struct Looked {
    place: Value,
    title: String,
    outcome: String,
    plugins: Vec<Decision>,
}

struct Decision {
    name: Vec<u8>,
    origin: Origin,
    decision: &'static str,
    message: String,
}

pub(crate) fn run(context: &Context, registry: &Registry, scheme: &str) -> Outcome {
    scheme_alone("--why", scheme.as_bytes())?;
    let scheme = scheme.to_ascii_lowercase();
    let plugins = registry.plugins();
    let places = places(context, registry, &plugins, &scheme);
    let provider = registry.manifest(&scheme);
    if context.json() {
        let places: Vec<Value> = places.iter().map(Looked::as_json).collect();
        let provider = provider.as_ref().ok().map(|(manifest, origin)| {
            json!({ "name": manifest.build.name, "version": manifest.build.version, "origin": origin_json(origin) })
        });
        print_json(&json!({ "scheme": scheme, "provider": provider, "places": places }))?;
    } else {
        let mut text: String =
            places.iter().enumerate().map(|(number, place)| place.as_text(number + 1)).collect();
        text.push_str(&match &provider {
            Ok((manifest, origin)) => format!("{scheme} is provided by {} ({origin})\n", manifest.build.name),
            Err(_) => format!("nobody provides {}\n", harmless(&scheme)),
        });
        print(text.as_bytes())?;
    }
    provider.map(|_| ExitCode::SUCCESS).map_err(Into::into)
}

fn places(context: &Context, registry: &Registry, plugins: &[PluginReport], scheme: &str) -> Vec<Looked> {
    let decide = |wanted: &dyn Fn(&Origin) -> bool| -> Vec<Decision> {
        plugins
            .iter()
            .filter(|plugin| wanted(&plugin.origin))
            .map(|plugin| decision(plugin, scheme))
            .collect()
    };
    let none = context.global.no_built_in.as_deref() == Some(&[]);
    let mut places = vec![Looked {
        place: json!("built-in"),
        title: "built-in".to_owned(),
        outcome: if none { "left out by --no-built-in".to_owned() } else { "looked at".to_owned() },
        plugins: decide(&|origin| *origin == Origin::BuiltIn),
    }];
    places.extend(registry.places().into_iter().map(|place| Looked {
        place: bytes_json(place.directory.as_os_str().as_bytes()),
        title: place.to_string(),
        outcome: place.outcome.to_string(),
        plugins: decide(&|origin| origin.path().and_then(Path::parent) == Some(&place.directory)),
    }));
    places
}

fn decision(plugin: &PluginReport, scheme: &str) -> Decision {
    let declared = plugin.manifest.as_ref().map(|manifest| {
        let mut schemes = manifest.plugin.schemes.iter();
        schemes.any(|declared| &*declared.name == scheme)
    });
    let (decision, message) = match (&plugin.state, declared, shadowed_by(plugin, scheme)) {
        (PluginState::Refused(refusal), Some(true) | None, _) => ("refused", refusal.message.clone()),
        (_, Some(true), Some(winner)) => ("shadowed", lost(scheme, winner)),
        (_, Some(true), None) => ("provides", format!("provides {scheme}")),
        _ => ("other-schemes", format!("does not provide {scheme}")),
    };
    Decision { name: name(plugin), origin: plugin.origin.clone(), decision, message }
}

/// Why a plugin does not provide a scheme of its own.
pub(crate) fn lost(scheme: &str, winner: &str) -> String {
    match winner {
        "--no-built-in" => format!("{scheme} is left out by --no-built-in"),
        winner => format!("{scheme} is provided by {winner}"),
    }
}

impl Looked {
    fn as_json(&self) -> Value {
        let plugins: Vec<Value> = self
            .plugins
            .iter()
            .map(|plugin| {
                json!({
                    "name": bytes_json(&plugin.name),
                    "origin": origin_json(&plugin.origin),
                    "decision": plugin.decision,
                    "message": plugin.message,
                })
            })
            .collect();
        json!({ "place": self.place, "outcome": self.outcome, "plugins": plugins })
    }

    fn as_text(&self, number: usize) -> String {
        let mut text = format!("{number}. {}: {}\n", self.title, self.outcome);
        for plugin in &self.plugins {
            let name = harmless(&String::from_utf8_lossy(&plugin.name));
            let file = plugin.origin.path().and_then(Path::file_name).map(|file| file.to_string_lossy());
            let file = file.map_or(String::new(), |file| format!(" ({})", harmless(&file)));
            let refused = if plugin.decision == "refused" { "refused: " } else { "" };
            text.push_str(&format!("   {name}{file}: {refused}{}\n", harmless(&plugin.message)));
        }
        text
    }
}
