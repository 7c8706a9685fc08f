//! The places where plugin files are looked for.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::provider::Harmless;

/// A directory where plugin files are looked for, and what came of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Place {
    /// The directory.
    pub directory: PathBuf,
    /// Why it is looked at.
    pub source: PlaceSource,
    /// What was found.
    pub outcome: PlaceOutcome,
}

/// Why a directory is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlaceSource {
    /// The program, or its user, named it.
    Given,
    /// The environment variable `ENDPOINTS_PLUGIN_PATH`.
    Environment,
    /// The user's data directory.
    UserData,
    /// The system's own places.
    System,
}

impl PlaceSource {
    /// The words for a person.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Environment => "ENDPOINTS_PLUGIN_PATH",
            Self::UserData => "user data",
            Self::System => "system",
        }
    }
}

/// What came of a place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlaceOutcome {
    /// It was read; so many files have a name that ends in `.so`.
    Read(usize),
    /// There is no such directory.
    Absent,
    /// It could not be read, for this reason.
    Unreadable(String),
    /// The environment names it, and counts for nothing: the process has rights that its user has not.
    Ignored,
    /// The environment names it by a relative path, which counts for nothing: it would mean the current directory.
    Relative,
}

impl fmt::Display for PlaceOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(1) => f.write_str("1 file"),
            Self::Read(files) => write!(f, "{files} files"),
            Self::Absent => f.write_str("no such directory"),
            Self::Unreadable(reason) => write!(f, "cannot be read: {reason}"),
            Self::Ignored => f.write_str(
                "ignored: the environment names it, and this process has rights that its user has not (set-user-ID or \
                 capabilities)",
            ),
            Self::Relative => f.write_str("ignored: it is not absolute; write it from / on"),
        }
    }
}

/// What a person sees of a place: its directory, and why it is looked at.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", Harmless(&self.directory), self.source.name())
    }
}

impl Place {
    /// What is wrong with it, where the program or its user has named it: that there is no such directory, or why it is not
    /// looked at. A default place need not be there.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let named = matches!(self.source, PlaceSource::Given | PlaceSource::Environment);
        match self.outcome {
            PlaceOutcome::Absent | PlaceOutcome::Unreadable(_) | PlaceOutcome::Relative if named => {
                Some(format!("{self}: {}", self.outcome))
            }
            _ => None,
        }
    }
}

/// Where to look, in order.
#[derive(Clone, Debug)]
pub(crate) struct SearchPath {
    /// Files that were named themselves; they come before all places.
    pub(crate) files: Vec<PathBuf>,
    pub(crate) given: Vec<PathBuf>,
    pub(crate) defaults: bool,
}

impl SearchPath {
    /// The places in order, not yet looked at.
    pub(crate) fn places(&self) -> Vec<(PathBuf, PlaceSource)> {
        let mut places: Vec<_> = self.given.iter().map(|path| (path.clone(), PlaceSource::Given)).collect();
        if self.defaults {
            places.extend(default_places(&Environment::of_process()));
        }
        places
    }
}

impl PlaceSource {
    /// Whether whoever starts the process says where it is.
    fn is_from_environment(self) -> bool {
        matches!(self, Self::Environment | Self::UserData)
    }
}

/// The files of a place that could be plugins, by name.
pub(crate) fn look(directory: &Path, source: PlaceSource) -> (Vec<PathBuf>, PlaceOutcome) {
    look_as(raised_privileges(), directory, source)
}

fn look_as(raised: bool, directory: &Path, source: PlaceSource) -> (Vec<PathBuf>, PlaceOutcome) {
    if raised && source.is_from_environment() {
        return (Vec::new(), PlaceOutcome::Ignored);
    }
    if source.is_from_environment() && !directory.is_absolute() {
        // It would mean the current directory, where no plugin is ever looked for.
        return (Vec::new(), PlaceOutcome::Relative);
    }
    plugin_files(directory)
}

/// Whether the process runs with rights that its user does not have (set-user-ID, set-group-ID or file capabilities), so
/// that the environment must not steer it.
fn raised_privileges() -> bool {
    // The kernel says so in the auxiliary vector: pairs of words, see getauxval(3).
    const AT_SECURE: usize = 23;
    const WORD: usize = size_of::<usize>();
    // It is unreadable for the very processes that it is about: after gaining capabilities, they are root's in /proc.
    let Ok(vector) = std::fs::read("/proc/self/auxv") else { return true };
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, usize::from_ne_bytes);
    let secure = vector.chunks_exact(2 * WORD).find(|pair| word(&pair[..WORD]) == AT_SECURE);
    secure.is_none_or(|pair| word(&pair[WORD..]) != 0)
}

struct Environment {
    plugin_path: Option<OsString>,
    data_home: Option<PathBuf>,
}

impl Environment {
    fn of_process() -> Self {
        let data_home = data_home(env::var_os("XDG_DATA_HOME"), env::var_os("HOME"));
        Self { plugin_path: env::var_os("ENDPOINTS_PLUGIN_PATH"), data_home }
    }
}

/// The user's data directory. One that is empty or relative would mean the current directory, and counts for nothing.
fn data_home(xdg: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let absolute = |path: Option<OsString>| path.map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(xdg).or_else(|| absolute(home).map(|home| home.join(".local/share")))
}

fn default_places(environment: &Environment) -> Vec<(PathBuf, PlaceSource)> {
    let mut places = Vec::new();
    if let Some(path) = &environment.plugin_path {
        // An empty part names nothing: it is left over where a variable before it was not set.
        let parts = env::split_paths(path).filter(|part| !part.as_os_str().is_empty());
        places.extend(parts.map(|part| (part, PlaceSource::Environment)));
    }
    if let Some(data) = &environment.data_home {
        places.push((data.join("endpoints/plugins"), PlaceSource::UserData));
    }
    for system in ["/usr/local/lib/endpoints/plugins", "/usr/lib/endpoints/plugins"] {
        places.push((system.into(), PlaceSource::System));
    }
    places
}

fn plugin_files(directory: &Path) -> (Vec<PathBuf>, PlaceOutcome) {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return (Vec::new(), PlaceOutcome::Absent);
        }
        Err(error) => return (Vec::new(), PlaceOutcome::Unreadable(error.to_string())),
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "so"))
        .collect();
    files.sort();
    let count = files.len();
    (files, PlaceOutcome::Read(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_in_the_documented_order() {
        let environment = Environment {
            plugin_path: Some("/a::/b:.:c".into()),
            data_home: Some("/home/u/.local/share".into()),
        };
        let places: Vec<_> =
            default_places(&environment).into_iter().map(|(path, _)| path.display().to_string()).collect();
        assert_eq!(
            places,
            [
                "/a",
                "/b",
                ".",
                "c",
                "/home/u/.local/share/endpoints/plugins",
                "/usr/local/lib/endpoints/plugins",
                "/usr/lib/endpoints/plugins"
            ]
        );
    }

    #[test]
    fn no_environment_leads_to_the_current_directory() {
        let home =
            |xdg: Option<&str>, home: Option<&str>| data_home(xdg.map(Into::into), home.map(Into::into));
        assert_eq!(home(None, Some("")), None);
        assert_eq!(home(Some("x"), Some("y")), None);
        assert_eq!(home(Some("x"), Some("/home/u")), Some("/home/u/.local/share".into()));
        assert_eq!(home(Some("/data"), Some("/home/u")), Some("/data".into()));
    }

    #[test]
    fn relative_places_of_the_environment_are_not_looked_at() {
        for (source, counts) in [(PlaceSource::Environment, false), (PlaceSource::Given, true)] {
            let (files, outcome) = look_as(false, Path::new("."), source);
            assert_eq!(outcome == PlaceOutcome::Relative, !counts, "{source:?}: {outcome:?}");
            assert!(files.is_empty());
        }
    }

    #[test]
    fn raised_privileges_leave_the_system_places_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.so"), "").unwrap();
        for (source, counts) in [
            (PlaceSource::Given, true),
            (PlaceSource::Environment, false),
            (PlaceSource::UserData, false),
            (PlaceSource::System, true),
        ] {
            assert_eq!(look_as(false, folder.path(), source).1, PlaceOutcome::Read(1));
            let expected = if counts { PlaceOutcome::Read(1) } else { PlaceOutcome::Ignored };
            let (files, outcome) = look_as(true, folder.path(), source);
            assert_eq!((outcome, files.len()), (expected, usize::from(counts)), "{source:?}");
        }
    }
}
