//! `endpoints check-plugin`: drives plugin files through conformance checks.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use endpoints::{Error, ErrorKind};
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
    #[arg(long, conflicts_with = "files")]
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
    let Asked { checker, files, junit, strict } = Asked::of(context, options);
    let mut reports = Vec::new();
    for file in &files {
        let mut shown = Shown { context, scheme: None, skipped: Vec::new(), failed: None };
        let checked = checker.check(file, |result| shown.result(result));
        let report = checked.map_err(|refusal| {
            Error::new(ErrorKind::PluginRefused, format!("{} cannot be checked: {refusal}", file.display()))
        })?;
        shown.flush();
        shown.failed.map_or(Ok(()), Err)?;
        if !context.json() {
            print(format!("\n{}: {}\n", harmless(&file.to_string_lossy()), counts(&report)).as_bytes())?;
        }
        reports.push(report);
    }
    if let Some(path) = &junit {
        write_junit(path, &reports)?;
    }
    if context.json() {
        print_json(&json!({ "files": reports.iter().map(report_json).collect::<Vec<_>>() }))?;
    }
    let fails = |report: &Report| !report.passed() || strict && report.count("warned") != 0;
    Ok(if reports.iter().any(fails) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What the options come to.
struct Asked {
    checker: Checker,
    files: Vec<PathBuf>,
    junit: Option<PathBuf>,
    strict: bool,
}

impl Asked {
    fn of(context: &Context, options: Options) -> Self {
        let Options { files, level, only, argument, server, client, time_limit, jobs, junit, strict, .. } =
            options;
        let mut checker = Checker::new(this_program).level(level.into()).time_limit(time_limit);
        checker = jobs.into_iter().fold(checker, Checker::jobs);
        checker = only.into_iter().fold(checker, Checker::only);
        checker = context.global.plugin_path.iter().fold(checker, Checker::plugin_path);
        for (name, value) in argument {
            checker = checker.argument(name, value);
        }
        for description in server {
            checker = checker.server(description.into_vec());
        }
        for description in client {
            checker = checker.client(description.into_vec());
        }
        Self { checker, files, junit, strict }
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
    failed: Option<Failure>,
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
        if self.failed.is_none() {
            self.failed = print(text.as_bytes()).err();
        }
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

fn write_junit(path: &Path, reports: &[Report]) -> Result<(), Failure> {
    let written = endpoints_check::junit(reports).and_then(|text| fs::write(path, text));
    written.map_err(|error| Failure::system(&format!("cannot write {}", path.display()), &error))
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
