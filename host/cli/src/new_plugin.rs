//! `endpoints new-plugin`: a crate to begin a plugin with.
//!
//! It writes text and asks nothing of the library but which schemes are taken, so that there is nothing here that a
//! program would want to call.

mod files;
mod name;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use endpoints::{Error, ErrorKind, Origin};
use serde_json::json;

use self::files::Replacements;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::{print, print_json};

/// Whether crates.io has the crate that plugins depend on. A test compares this with what the crate's manifest allows.
const PUBLISHED: bool = false;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What the crate, its folder and its scheme are called: small letters, digits and -
    name: String,
    /// What kind of scheme to begin with
    #[arg(long, value_enum, default_value_t = Kind::Transport)]
    kind: Kind,
    /// The folder of the crate endpoints-plugin-api, in place of its published version
    #[arg(long, value_name = "PATH")]
    plugin_api: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Makes connections itself, such as tcp
    Transport,
    /// Stands around another endpoint, such as tls
    Wrapper,
}

pub(crate) fn run(context: &Context, options: Options) -> Outcome {
    let Options { name, kind, plugin_api } = options;
    let registry = context.registry()?;
    let is_built_in =
        |scheme: &str| registry.manifest(scheme).is_ok_and(|(_, origin)| origin == Origin::BuiltIn);
    name::check(&name, is_built_in).map_err(|problem| Error::new(ErrorKind::InvalidSetting, problem))?;
    let is_path = plugin_api.is_some();
    let replacements = Replacements::new(&name, kind, plugin_api.as_deref().map(location).transpose()?);
    create(Path::new(&name), kind, &replacements)?;
    if !is_path && !PUBLISHED {
        tracing::warn!(
            "endpoints-plugin-api is not on crates.io yet, so that {name} does not build as it is: put the path of its \
             folder into {name}/Cargo.toml, or have it put there by --plugin-api PATH"
        );
    }
    report(context, &name, kind, &replacements)?;
    Ok(ExitCode::SUCCESS)
}

/// The folder of endpoints-plugin-api, as a dependency names it: whole, since nobody knows where the new crate will go.
///
/// # Errors
/// If it is the folder of something else.
fn location(given: &Path) -> Result<String, Error> {
    let wrong = |what: String| {
        let message = format!("--plugin-api {}: {what}", given.display());
        Err(Error::new(ErrorKind::InvalidSetting, message))
    };
    let is_the_crate = |folder: &Path| {
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
        manifest.lines().any(|line| line.trim() == "name = \"endpoints-plugin-api\"")
    };
    let folder = match fs::canonicalize(given) {
        Ok(folder) => folder,
        Err(error) => return wrong(error.to_string()),
    };
    if !is_the_crate(&folder) {
        let inside = given.join("plugin-api");
        return if is_the_crate(&inside) {
            wrong(format!("it is not the folder of endpoints-plugin-api; give {}", inside.display()))
        } else {
            wrong(
                "it is not the folder of endpoints-plugin-api, which is plugin-api in its repository".into(),
            )
        };
    }
    match folder.to_str() {
        Some(folder) => Ok(folder.to_owned()),
        None => wrong("it is not UTF-8, as paths in a Cargo.toml have to be".into()),
    }
}

/// Writes all files, or leaves nothing behind.
fn create(folder: &Path, kind: Kind, replacements: &Replacements) -> Result<(), Failure> {
    fs::create_dir(folder).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Failure::from(Error::new(
            ErrorKind::InvalidSetting,
            format!("{} is there already; choose another name, or another place", folder.display()),
        )),
        _ => Failure::system(&format!("cannot create the folder {}", folder.display()), &error),
    })?;
    for (path, template) in files::of(kind) {
        let file = folder.join(path);
        let written = file
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&file, replacements.apply(template)));
        if let Err(error) = written {
            // What was written is of no use to anybody; that it cannot be removed is of none either.
            let _ = fs::remove_dir_all(folder);
            return Err(Failure::system(&format!("cannot write {}", file.display()), &error));
        }
    }
    Ok(())
}

fn report(context: &Context, name: &str, kind: Kind, replacements: &Replacements) -> Result<(), Failure> {
    let files: Vec<_> = files::of(kind).map(|(path, _)| format!("{name}/{path}")).collect();
    let Replacements { server, client, .. } = replacements;
    let commands = [
        format!("cd {name}"),
        "cargo test".to_owned(),
        "cargo build".to_owned(),
        format!("endpoints --plugin-path target/debug listen --echo '{server}' &"),
        format!("echo hello | endpoints --plugin-path target/debug connect '{client}'"),
    ];
    if context.json() {
        return print_json(&json!({ "name": name, "scheme": name, "files": files, "next": commands }));
    }
    let files = files.iter().map(|file| format!("wrote {file}\n"));
    let commands = commands.iter().map(|command| format!("  {command}\n"));
    let text: String = files.chain(["\nTo try it:\n".to_owned()]).chain(commands).collect();
    print(text.as_bytes())
}
