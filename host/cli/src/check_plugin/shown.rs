//! How results are shown: as lines while they come, or as one JSON document.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use endpoints_check::{CheckResult, Outcome, Report};
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{bytes_json, harmless, print};

/// Results as they come. Checks that are skipped one after another for the same reason share a line.
pub(super) struct Shown<'a> {
    context: &'a Context,
    /// What the last results were about.
    scheme: Option<Option<String>>,
    skipped: Vec<CheckResult>,
    /// Why nothing more is written. What the checks come to counts all the same.
    failure: Option<Failure>,
}

impl<'a> Shown<'a> {
    pub(super) fn new(context: &'a Context) -> Self {
        Self { context, scheme: None, skipped: Vec::new(), failure: None }
    }

    /// Begins with another file.
    pub(super) fn file(&mut self) {
        self.scheme = None;
    }

    /// Ends with a file.
    pub(super) fn report(&mut self, file: &Path, report: &Report) {
        self.flush();
        if !self.context.json() {
            self.print(&format!("\n{}: {}\n", harmless(&file.to_string_lossy()), counts(report)));
        }
    }

    /// Why not all could be shown; that nobody reads it is no reason.
    pub(super) fn end(self) -> Result<(), Failure> {
        match self.failure {
            None | Some(Failure::NobodyReads) => Ok(()),
            Some(failure) => Err(failure),
        }
    }

    pub(super) fn result(&mut self, result: &CheckResult) {
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
        if self.failure.is_none() {
            self.failure = print(text.as_bytes()).err();
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

pub(super) fn report_json(report: &Report) -> Value {
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
