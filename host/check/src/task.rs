//! What a child process is asked, and what it answers; both cross as JSON.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// One check of one scheme, or of the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) check: String,
    pub(crate) file: PathBuf,
    /// The schemes that the file declares.
    pub(crate) schemes: Vec<String>,
    /// The one that is checked, unless it is the file.
    pub(crate) scheme: Option<String>,
    /// A folder for what the check writes, which its parent makes and takes away.
    pub(crate) folder: PathBuf,
    /// Where plugins of other schemes lie, for descriptions that were given.
    pub(crate) plugin_path: Vec<PathBuf>,
    /// Arguments that were given in place of the manifest's examples.
    pub(crate) arguments: Vec<(String, Vec<u8>)>,
    /// A server description that works, where one was given.
    pub(crate) server: Option<Vec<u8>>,
    /// A client description that reaches it, likewise.
    pub(crate) client: Option<Vec<u8>>,
    /// How many connections a check of leaks makes.
    pub(crate) connections: usize,
    /// The milliseconds that a check may spend on doing the same again and again: half of its time limit.
    pub(crate) milliseconds: u64,
}

/// What a check came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "message")]
#[non_exhaustive]
pub enum Outcome {
    /// What the check says holds.
    Passed,
    /// The plugin breaks the contract, in this way.
    Failed(String),
    /// It keeps the contract, but its users would wish otherwise.
    Warned(String),
    /// The check says nothing about this plugin, for this reason.
    Skipped(String),
}

impl Outcome {
    /// The name by which scripts know it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed(_) => "failed",
            Self::Warned(_) => "warned",
            Self::Skipped(_) => "skipped",
        }
    }

    /// Writes one path for another.
    pub(crate) fn replace(&mut self, path: &Path, other: &Path) {
        if let Self::Failed(message) | Self::Warned(message) | Self::Skipped(message) = self {
            *message = message.replace(&*path.to_string_lossy(), &other.to_string_lossy());
        }
    }

    /// What there is to say about it.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        match self {
            Self::Passed => None,
            Self::Failed(message) | Self::Warned(message) | Self::Skipped(message) => Some(message),
        }
    }
}
