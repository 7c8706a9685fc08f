//! The results of checks.

use std::path::PathBuf;
use std::time::Duration;

use crate::checks::CheckInfo;
use crate::task::Outcome;

/// The result of one check of one scheme, or of the file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CheckResult {
    /// The check.
    pub check: CheckInfo,
    /// The scheme, unless it is about the file.
    pub scheme: Option<String>,
    /// What it came to.
    pub outcome: Outcome,
    /// How long it took, in a process of its own.
    pub duration: Duration,
    /// The last that the process wrote to standard error, where the check did not pass.
    pub log: String,
}

/// The results of all checks of a file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The file.
    pub file: PathBuf,
    /// The names and versions of the plugins in it.
    pub plugins: Vec<(String, String)>,
    /// In the order of [`all`](crate::all), the file's first, then scheme by scheme.
    pub results: Vec<CheckResult>,
}

impl Report {
    /// Whether no check failed, and not all were skipped.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.count("failed") == 0 && self.count("skipped") < self.results.len()
    }

    /// How many checks came to the outcome of that [name](Outcome::name).
    #[must_use]
    pub fn count(&self, outcome: &str) -> usize {
        self.results.iter().filter(|result| result.outcome.name() == outcome).count()
    }
}
