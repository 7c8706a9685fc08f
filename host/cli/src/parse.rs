//! `endpoints parse`: the parts of a description.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use clap::Args;
use endpoints::Description;
use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::failure::Outcome;
use crate::output::{bytes_json, print, print_json, shown, table};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What to take apart
    description: OsString,
}

pub(crate) fn run(context: &Context, options: Options) -> Outcome {
    let description = context.registry()?.parse(options.description.into_vec())?;
    if context.json() {
        print_json(&as_json(&description))?;
    } else {
        print(as_text(&description).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// By name; of a repeated one the last.
fn keywords(description: &Description) -> BTreeMap<String, Vec<u8>> {
    let keywords = description.keywords();
    keywords.filter_map(|part| Some((part.key()?.into_owned(), part.value().into_owned()))).collect()
}

fn as_json(description: &Description) -> Value {
    let keywords = keywords(description).into_iter().map(|(key, value)| (key, bytes_json(&value)));
    json!({
        "scheme": bytes_json(&description.scheme()),
        "positional": description.positional().map(|part| bytes_json(&part.value())).collect::<Vec<_>>(),
        "keyword": keywords.collect::<Map<_, _>>(),
        "canonical": bytes_json(&description.canonical()),
    })
}

fn as_text(description: &Description) -> String {
    let mut rows = vec![vec!["scheme".to_owned(), shown(&description.scheme())]];
    rows.extend(description.positional().map(|part| vec!["positional".to_owned(), shown(&part.value())]));
    rows.extend(keywords(description).into_iter().map(|(key, value)| {
        vec!["keyword".to_owned(), format!("{} = {}", shown(key.as_bytes()), shown(&value))]
    }));
    rows.push(vec!["canonical".to_owned(), shown(&description.canonical())]);
    table(&rows)
}
