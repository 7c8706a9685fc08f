//! `endpoints inspect`: all that a plugin declares.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use endpoints::manifest::{Manifest, Parameter, Role};
use endpoints::{Error, ErrorKind, Origin, PluginState, Refusal};
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::{harmless, print, print_json, scheme_alone, table};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A scheme, or a plugin's file: what has a `/` in it or ends in `.so`
    #[arg(value_name = "SCHEME|FILE")]
    subject: OsString,
}

pub(crate) fn run(context: &Context, options: Options) -> Outcome {
    let registry = context.registry()?;
    let subject = options.subject;
    let is_file = subject.as_bytes().contains(&b'/') || subject.as_bytes().ends_with(b".so");
    // A path may have a colon in it, and so may a description have a slash.
    if !is_file || !Path::new(&subject).exists() {
        scheme_alone("inspect", subject.as_bytes())?;
    }
    if !is_file {
        let (manifest, origin) = registry.manifest(&subject.to_string_lossy())?;
        show(context, &[(manifest, origin)])?;
        return Ok(ExitCode::SUCCESS);
    }
    let path = Path::new(&subject);
    let reports = registry.inspect_file(path).map_err(|refusal| refused(path, &refusal))?;
    let refusal = reports.iter().find_map(|report| match &report.state {
        PluginState::Refused(refusal) => Some(refused(path, refusal)),
        _ => None,
    });
    let manifests: Vec<_> =
        reports.into_iter().filter_map(|report| Some((report.manifest?, report.origin))).collect();
    if !manifests.is_empty() {
        show(context, &manifests)?;
    }
    refusal.map_or(Ok(ExitCode::SUCCESS), |error| Err(error.into()))
}

fn refused(path: &Path, refusal: &Refusal) -> Error {
    Error::new(ErrorKind::PluginRefused, format!("{} is refused: {refusal}", path.display()))
}

fn show(context: &Context, manifests: &[(Manifest, Origin)]) -> Result<(), Failure> {
    if context.json() {
        let documents: Result<Vec<Value>, _> =
            manifests.iter().map(|(manifest, _)| serde_json::to_value(manifest)).collect();
        let documents = documents.map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))?;
        return match documents.as_slice() {
            [one] => print_json(one),
            several => print_json(&json!(several)),
        };
    }
    let texts: Vec<String> = manifests.iter().map(|(manifest, origin)| text(manifest, origin)).collect();
    print(texts.join("\n").as_bytes())
}

fn text(manifest: &Manifest, origin: &Origin) -> String {
    let build = &manifest.build;
    let mut text = format!("{} {} ({origin})\n", build.name, build.version);
    text.push_str(&format!("{}\n", manifest.plugin.summary));
    let facts = [
        ("plugin API", format!("{}, runs in hosts from {}", build.api, build.requires)),
        ("built with", if build.rustc.is_empty() { &build.compiler } else { &build.rustc }.clone()),
        ("target", build.target.clone()),
        ("panics", build.panic.clone()),
    ];
    // A plugin in another language tells less about itself.
    let told = facts.into_iter().filter(|(_, value)| !value.is_empty());
    let rows: Vec<_> = told.map(|(name, value)| vec![name.to_owned(), value]).collect();
    text.push_str(&table(&rows));
    for scheme in &manifest.plugin.schemes {
        let kind = json!(scheme.kind);
        let preamble = if scheme.preamble { ", preamble" } else { "" };
        text.push_str(&format!(
            "\n{} ({}{preamble}): {}\n",
            scheme.name,
            kind.as_str().unwrap_or(""),
            scheme.summary
        ));
        if let Some(instead) = &scheme.deprecated {
            text.push_str(&format!("Deprecated: {instead}\n"));
        }
        for (name, role) in [("client", &scheme.client), ("server", &scheme.server)] {
            if let Some(role) = role {
                text.push_str(&format!("\n  {name}: {}\n", role.summary));
                describe(role, &mut text);
            }
        }
    }
    // Much of it comes from whoever wrote the plugin.
    text.lines().map(|line| harmless(line) + "\n").collect()
}

fn describe(role: &Role, text: &mut String) {
    let mut rows = vec![["name", "type", "position", "default", "unit", "about"].map(str::to_owned).to_vec()];
    for parameter in &role.parameters {
        rows.push(row(parameter));
        if let Some(example) = &parameter.example {
            rows.push(vec![
                String::new(),
                String::new(),
                String::new(),
                String::new(),
                String::new(),
                format!("e.g. {example}"),
            ]);
        }
    }
    for line in table(&rows).lines() {
        text.push_str(&format!("    {line}\n"));
    }
    for group in &role.one_of {
        let must = if group.required { "Exactly" } else { "At most" };
        text.push_str(&format!("    {must} one of {} is given.\n", group.names.join(", ")));
    }
    if role.skip_given {
        text.push_str("    A lone value by position skips what is given by name.\n");
    }
    for example in &role.examples {
        text.push_str(&format!("    example: {example}\n"));
    }
}

fn row(parameter: &Parameter) -> Vec<String> {
    let kind = json!(parameter.kind);
    let mut kind = kind.as_str().unwrap_or("").to_owned();
    if !parameter.choices.is_empty() {
        kind = parameter.choices.join("|");
    }
    if parameter.list {
        kind = format!("list of {kind}");
    }
    match (parameter.min, parameter.max) {
        (None, None) => {}
        (min, Some(max)) => kind.push_str(&format!(" {}..{max}", min.unwrap_or(0))),
        (Some(min), None) => kind.push_str(&format!(" from {min}")),
    }
    let default = match &parameter.default {
        _ if parameter.required => "required".to_owned(),
        Some(default) if default.is_empty() => "\"\"".to_owned(),
        Some(default) => default.clone(),
        None => match &parameter.default_from {
            Some(source) => format!("as {source}"),
            None => "-".to_owned(),
        },
    };
    let mut about = parameter.description.clone();
    if !parameter.aliases.is_empty() {
        about.push_str(&format!(" Also called {}.", parameter.aliases.join(", ")));
    }
    if !parameter.requires.is_empty() {
        about.push_str(&format!(" Needs {}.", parameter.requires.join(", ")));
    }
    if parameter.secret {
        about.push_str(" Secret: never shown.");
    }
    vec![
        parameter.name.clone(),
        kind,
        parameter.position.map_or_else(|| "by name".to_owned(), |position| position.to_string()),
        default,
        parameter.unit.clone().unwrap_or_default(),
        about,
    ]
}
