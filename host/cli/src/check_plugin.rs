//! `endpoints check-plugin`: drives plugin files through conformance checks.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use endpoints::manifest::Role;
use endpoints::{Error, ErrorKind, Registry};
use endpoints_check::{CheckResult, Checker, Level, Outcome, Report};
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::{self, Failure};
use crate::options::some_time;
use crate::output::{bytes_json, harmless, print, print_json, table};

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
    #[arg(long, value_name = "SECONDS", value_parser = some_time, default_value = "60")]
    time_limit: Duration,
    /// How many checks run at once [default: the processors available]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
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
    // Now, so that nobody waits for checks whose results cannot be kept.
    let junit = junit.map(|path| {
        File::create(&path).map(|file| (file, path.clone())).map_err(|error| cannot_write(&path, &error))
    });
    let junit = junit.transpose()?;
    let (mut reports, mut wrong) = (Vec::new(), None);
    let mut shown = Shown { context, scheme: None, skipped: Vec::new(), nobody_reads: false };
    for file in &files {
        shown.scheme = None;
        let report = match checker.check(file, |result| shown.result(result)) {
            Ok(report) => report,
            Err(refusal) => {
                let message = format!("{} cannot be checked: {refusal}", file.display());
                let error = Failure::from(Error::new(ErrorKind::PluginRefused, message));
                wrong = Some(error.report(context));
                continue;
            }
        };
        shown.flush();
        if !context.json() {
            shown.print(&format!("\n{}: {}\n", harmless(&file.to_string_lossy()), counts(&report)));
        }
        reports.push(report);
    }
    if let Some((mut file, path)) = junit {
        let written = endpoints_check::junit(&reports).and_then(|text| file.write_all(text.as_bytes()));
        written.map_err(|error| cannot_write(&path, &error))?;
    }
    if context.json() {
        print_json(&json!({ "files": reports.iter().map(report_json).collect::<Vec<_>>() }))?;
    }
    let fails = |report: &Report| !report.passed() || strict && report.count("warned") != 0;
    let checked = if reports.iter().any(fails) { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    Ok(wrong.unwrap_or(checked))
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
        checker = jobs.map(usize::from).into_iter().fold(checker, Checker::jobs);
        checker = only.into_iter().fold(checker, Checker::only);
        checker = context.global.plugin_path.iter().fold(checker, Checker::plugin_path);
        are_parameters(&argument, &files)?;
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

/// Fails where a value was given for what no scheme of the files has: it would be passed over.
fn are_parameters(arguments: &[(String, Vec<u8>)], files: &[PathBuf]) -> Result<(), Failure> {
    let Some(registry) =
        Registry::builder().default_plugin_path(false).build().ok().filter(|_| !arguments.is_empty())
    else {
        return Ok(());
    };
    let reports: Vec<_> =
        files.iter().filter_map(|file| registry.inspect_file(file).ok()).flatten().collect();
    let schemes =
        reports.iter().filter_map(|report| report.manifest.as_ref()).flat_map(|one| &one.plugin.schemes);
    let roles: Vec<&Role> = schemes.flat_map(|scheme| scheme.client.iter().chain(&scheme.server)).collect();
    let is_known = |name: &str| roles.iter().any(|role| role.parameter(name).is_some());
    match arguments.iter().find(|(name, _)| !roles.is_empty() && !is_known(name)) {
        None => Ok(()),
        Some((name, _)) => {
            let mut known: Vec<&str> =
                roles.iter().flat_map(|role| role.parameters.iter().map(|one| one.name.as_str())).collect();
            known.sort_unstable();
            known.dedup();
            let message =
                format!("--argument {name}: no scheme has such a parameter; there are {}", known.join(", "));
            Err(Error::new(ErrorKind::InvalidSetting, message).into())
        }
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

/// Results as they come. Checks that are skipped one after another for the same reason share a line.
struct Shown<'a> {
    context: &'a Context,
    /// What the last results were about.
    scheme: Option<Option<String>>,
    skipped: Vec<CheckResult>,
    /// What the checks come to counts though nobody reads it.
    nobody_reads: bool,
}

impl Shown<'_> {
    fn result(&mut self, result: &CheckResult) {
        if self.context.json() {
            return;
        }
        let shares_line = self.skipped.last().is_some_and(|last| {
            last.outcome.message() == result.outcome.message() && last.scheme == result.scheme
        });
        if !shares_line {
            self.flush();
        }
        if self.scheme.as_ref() != Some(&result.scheme) {
            let space = if self.scheme.is_some() { "\n" } else { "" };
            self.print(&format!("{space}{}\n", result.scheme.as_deref().unwrap_or("file")));
            self.scheme = Some(result.scheme.clone());
        }
        match result.outcome {
            Outcome::Skipped(_) => self.skipped.push(result.clone()),
            _ => self.print(&line(result)),
        }
    }

    /// Shows what was skipped.
    fn flush(&mut self) {
        match std::mem::take(&mut self.skipped).as_slice() {
            [] => {}
            [only] => self.print(&line(only)),
            several @ [first, ..] => {
                let count = format!("({} checks)", several.len());
                let reason = harmless(first.outcome.message().unwrap_or_default());
                self.print(&format!("  {:<8} {count:<18} {reason}\n", first.outcome.name()));
            }
        }
    }

    fn print(&mut self, text: &str) {
        self.nobody_reads = self.nobody_reads || print(text.as_bytes()).is_err();
    }
}

fn line(result: &CheckResult) -> String {
    let (name, outcome) = (result.check.name, result.outcome.name());
    let mut line = format!("  {outcome:<8} {name:<18}");
    match result.outcome.message() {
        Some(message) => line.push_str(&format!(" {}", harmless(message))),
        None => line.push_str(&format!(" {}", result.check.holds)),
    }
    line.push('\n');
    if matches!(result.outcome, Outcome::Failed(_)) {
        for logged in result.log.lines() {
            line.push_str(&format!("             | {}\n", harmless(logged)));
        }
    }
    line
}

fn counts(report: &Report) -> String {
    let count = |name: &str| report.count(name);
    format!(
        "{} passed, {} failed, {} warned, {} skipped",
        count("passed"),
        count("failed"),
        count("warned"),
        count("skipped")
    )
}

fn report_json(report: &Report) -> Value {
    let results: Vec<Value> = report
        .results
        .iter()
        .map(|result| {
            json!({
                "check": result.check.name,
                "level": result.check.level,
                "holds": result.check.holds,
                "scheme": result.scheme,
                "outcome": result.outcome.name(),
                "message": result.outcome.message(),
                "seconds": result.duration.as_secs_f64(),
                "log": Some(&result.log).filter(|log| !log.is_empty()),
            })
        })
        .collect();
    let plugins: Vec<Value> =
        report.plugins.iter().map(|(name, version)| json!({ "name": name, "version": version })).collect();
    json!({
        "file": bytes_json(report.file.as_os_str().as_bytes()),
        "plugins": plugins,
        "passed": report.count("passed"),
        "failed": report.count("failed"),
        "warned": report.count("warned"),
        "skipped": report.count("skipped"),
        "results": results,
    })
}
