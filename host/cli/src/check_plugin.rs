//! `endpoints check-plugin`: drives plugin files through conformance checks.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use endpoints::{Error, ErrorKind};
use endpoints_check::{Checker, Level, Report};
use serde_json::json;

use crate::context::{Context, check_directory};
use crate::failure::{self, Failure};
use crate::options::duration;
use crate::output::{print, print_json, table};

mod folder;
mod shown;

use folder::Folder;
use shown::{Shown, report_json};

/// The command that does one check, in a process of its own.
pub(crate) const CHILD: &str = "check-plugin-child";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The files to check
    #[arg(value_name = "FILE", required_unless_present = "list")]
    files: Vec<PathBuf>,
    /// Show all checks, and check nothing
    #[arg(long, conflicts_with_all = ["files", "only", "argument", "server", "client", "junit", "strict", "jobs"])]
    list: bool,
    /// How much to check: the file and making endpoints; also connections; also 10,000 of them
    #[arg(long, value_enum, default_value_t = Depth::Traffic)]
    level: Depth,
    /// Do only this check; may be repeated
    #[arg(long, value_name = "CHECK", hide_possible_values = true, value_parser = names())]
    only: Vec<String>,
    /// A value for the parameters of this name, in place of the example in the manifest; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = OsStringValueParser::new().try_map(argument))]
    argument: Vec<(String, Vec<u8>)>,
    /// A server description that works, where none can be made of the examples in the manifest; once for each scheme
    #[arg(long, value_name = "DESCRIPTION")]
    server: Vec<OsString>,
    /// A client description that reaches it, where the listener does not tell one; once for each scheme
    #[arg(long, value_name = "DESCRIPTION")]
    client: Vec<OsString>,
    /// How long one check may take
    #[arg(long, value_name = "SECONDS", value_parser = time_limit, default_value = "60")]
    time_limit: Duration,
    /// How many checks run at once [default: the processors available]
    #[arg(long, value_name = "N", value_parser = jobs)]
    jobs: Option<usize>,
    /// Write the results as JUnit XML to this file too
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Let warnings count as failures
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Depth {
    Load,
    Traffic,
    Stress,
}

impl From<Depth> for Level {
    fn from(depth: Depth) -> Self {
        match depth {
            Depth::Load => Self::Load,
            Depth::Traffic => Self::Traffic,
            Depth::Stress => Self::Stress,
        }
    }
}

pub(crate) fn run(context: &Context, options: Options) -> failure::Outcome {
    if options.list {
        return list(context);
    }
    none_in_vain(context)?;
    let Asked { checker, files, junit, strict } = Asked::of(context, options)?;
    let folder = Folder::new()?;
    let checker = checker.temporary_folder(folder.path());
    checker.review(&files)?;
    // Now, so that nobody waits for checks whose results cannot be kept.
    let junit = junit.map(|path| {
        File::create(&path).map(|file| (file, path.clone())).map_err(|error| cannot_write(&path, &error))
    });
    let junit = junit.transpose()?;
    let (mut reports, mut wrong) = (Vec::new(), None);
    let mut shown = Shown::new(context);
    for file in &files {
        shown.file();
        let report = match checker.check(file, |result| shown.result(result)) {
            Ok(report) => report,
            Err(refusal) => {
                let instead = scheme_instead(context, file).unwrap_or_else(|| refusal.to_string());
                let message = format!("{} cannot be checked: {instead}", file.display());
                let error = Failure::from(Error::new(ErrorKind::PluginRefused, message));
                wrong = Some(error.report(context));
                continue;
            }
        };
        shown.report(file, &report);
        reports.push(report);
    }
    if let Some((mut file, path)) = junit {
        let written = endpoints_check::junit(&reports).and_then(|text| file.write_all(text.as_bytes()));
        written.map_err(|error| cannot_write(&path, &error))?;
    }
    if context.json() {
        print_json(&json!({ "files": reports.iter().map(report_json).collect::<Vec<_>>() }))?;
    }
    shown.end()?;
    let fails = |report: &Report| !report.passed() || strict && report.count("warned") != 0;
    let checked = if reports.iter().any(fails) { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    Ok(wrong.unwrap_or(checked))
}

/// What to say where a scheme was given for a file.
fn scheme_instead(context: &Context, file: &Path) -> Option<String> {
    let scheme = file.to_str().filter(|name| !name.contains('/') && !file.exists())?;
    let (_, origin) = context.registry().ok()?.manifest(scheme).ok()?;
    Some(match origin.path() {
        None => "it is a scheme that is built in, and check-plugin takes the file of a plugin".to_owned(),
        Some(path) => {
            format!("it is a scheme, and check-plugin takes the file of its plugin: {}", path.display())
        }
    })
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    let message = format!("cannot write {}: {error}", path.display());
    Error::new(ErrorKind::InvalidSetting, message).into()
}

/// Refuses options of all commands that would do nothing here, as the files to check are named.
fn none_in_vain(context: &Context) -> Result<(), Failure> {
    let global = &context.global;
    let given = [
        ("--allow-plugin", !global.allow_plugin.is_empty()),
        ("--deny-plugin", !global.deny_plugin.is_empty()),
        ("--prefer", !global.prefer.is_empty()),
        ("--no-built-in", global.no_built_in.is_some()),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((option, _)) => {
            let message =
                format!("{option} does nothing for check-plugin, which checks the files that it is given");
            Err(Error::new(ErrorKind::InvalidSetting, message).into())
        }
    }
}

/// What the options come to.
struct Asked {
    checker: Checker,
    files: Vec<PathBuf>,
    junit: Option<PathBuf>,
    strict: bool,
}

impl Asked {
    fn of(context: &Context, options: Options) -> Result<Self, Failure> {
        let Options { files, level, only, argument, server, client, time_limit, jobs, junit, strict, .. } =
            options;
        let mut checker = Checker::new(this_program).level(level.into()).time_limit(time_limit);
        checker = jobs.into_iter().fold(checker, Checker::jobs);
        checker = only.into_iter().fold(checker, Checker::only);
        for directory in &context.global.plugin_path {
            check_directory(directory)?;
            checker = checker.plugin_path(directory);
        }
        for (name, value) in argument {
            checker = checker.argument(name, value);
        }
        for description in server {
            checker = checker.server(description.into_vec());
        }
        for description in client {
            checker = checker.client(description.into_vec());
        }
        Ok(Self { checker, files, junit, strict })
    }
}

/// This program, to do one check.
fn this_program() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg(CHILD);
    command
}

/// A name and a value.
fn argument(text: OsString) -> Result<(String, Vec<u8>), &'static str> {
    let bytes = text.into_vec();
    let place = bytes.iter().position(|byte| *byte == b'=').filter(|place| *place > 0);
    let place = place.ok_or("write a parameter's name and its value, as in port=8080")?;
    let name = std::str::from_utf8(&bytes[..place]).map_err(|_| "the name of a parameter is ASCII")?;
    Ok((name.to_owned(), bytes[place + 1..].to_vec()))
}

/// The time limit of a check.
fn time_limit(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("no check ends in no time; leave the option out for 60 seconds".to_owned()),
        time => Ok(time),
    }
}

/// How many checks run at once.
fn jobs(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => {
            Err("no check would run; leave the option out for as many as there are processors".to_owned())
        }
        Ok(jobs) => Ok(jobs),
        Err(_) => Err("write a whole number, as in 4".to_owned()),
    }
}

/// The names of all checks.
fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(endpoints_check::all().map(|check| check.name))
}

fn list(context: &Context) -> failure::Outcome {
    if context.json() {
        let checks = endpoints_check::all()
            .map(|check| json!({ "check": check.name, "level": check.level, "holds": check.holds }));
        print_json(&json!({ "checks": checks.collect::<Vec<_>>() }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<_> = endpoints_check::all()
        .map(|check| vec![check.name.to_owned(), level_name(check.level), check.holds.to_owned()])
        .collect();
    print(table(&rows).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn level_name(level: Level) -> String {
    json!(level).as_str().unwrap_or_default().to_owned()
}
