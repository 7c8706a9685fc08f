//! `endpoints explain`: what a description means.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use clap::Args;
use endpoints::{ExplainedArgument, Explanation};
use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::failure::Outcome;
use crate::output::{bytes_json, harmless, origin_json, print, print_json, shown, table};

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    role: Role,
    /// What to explain
    description: OsString,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Role {
    /// It describes where to connect to
    #[arg(long)]
    client: bool,
    /// It describes where to listen
    #[arg(long)]
    server: bool,
}

pub(crate) fn run(context: &Context, options: Options) -> Outcome {
    let registry = context.registry()?;
    let description = options.description.into_vec();
    let explanation = if options.role.client {
        registry.client(description)?.explain()
    } else {
        registry.server(description)?.explain()
    };
    if context.json() {
        print_json(&as_json(&explanation))?;
    } else {
        let mut text = String::new();
        draw(&explanation, "", &mut text);
        print(text.as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn as_json(explanation: &Explanation) -> Value {
    let arguments = explanation.arguments.iter().map(|argument| {
        let value = argument.value.as_deref().map(bytes_json);
        (argument.name.clone(), json!({ "value": value, "given": argument.given }))
    });
    let mut document = json!({
        "role": explanation.role.name(),
        "scheme": explanation.scheme,
        "provider": {
            "name": explanation.plugin,
            "version": explanation.version,
            "origin": origin_json(&explanation.origin),
        },
        "arguments": arguments.collect::<Map<_, _>>(),
        "inner": explanation.inner.first().map(|(_, inner)| as_json(inner)),
    });
    if !explanation.facts.is_empty() {
        let mut facts: Map<String, Value> = Map::new();
        for (name, value) in &explanation.facts {
            let values = facts.entry(name.clone()).or_insert_with(|| json!([]));
            values.as_array_mut().into_iter().for_each(|values| values.push(json!(value)));
        }
        document["facts"] = facts.into();
    }
    if explanation.inner.len() > 1 {
        let all = explanation.inner.iter().map(|(name, inner)| (name.clone(), as_json(inner)));
        document["inners"] = all.collect::<Map<_, _>>().into();
    }
    document
}

/// The endpoint, its arguments, and below it those that it stands around.
fn draw(explanation: &Explanation, indent: &str, text: &mut String) {
    let Explanation { scheme, role, plugin, version, origin, .. } = explanation;
    text.push_str(&format!("{scheme} {}, provided by {plugin} {version} ({origin})\n", role.name()));
    let more = if explanation.inner.is_empty() { "    " } else { "│   " };
    let rows: Vec<_> = explanation.arguments.iter().map(row).collect();
    for line in table(&rows).lines() {
        text.push_str(&format!("{indent}{more}{line}\n"));
    }
    let facts: Vec<_> =
        explanation.facts.iter().map(|(name, value)| vec![name.clone(), harmless(value)]).collect();
    for line in table(&facts).lines() {
        text.push_str(&format!("{indent}{more}{line}\n"));
    }
    let last = explanation.inner.len().saturating_sub(1);
    for (place, (name, inner)) in explanation.inner.iter().enumerate() {
        let (branch, below) = if place == last { ("└── ", "    ") } else { ("├── ", "│   ") };
        text.push_str(&format!("{indent}{branch}{name}: "));
        draw(inner, &format!("{indent}{below}"), text);
    }
}

fn row(argument: &ExplainedArgument) -> Vec<String> {
    let value = argument.value.as_deref().map_or_else(|| "***".to_owned(), shown);
    let given = if argument.given { "" } else { "(default)" };
    vec![argument.name.clone(), format!("= {value}"), given.to_owned()]
}
