//! Whether what is asked for makes sense, before any check is done: nothing that was given is passed over.

use std::path::Path;

use endpoints::manifest::{Role, Scheme};
use endpoints::{Description, Error, ErrorKind, Registry};

use crate::checks::{self, Level};
use crate::finding::{Verdict, told, warns};
use crate::parent::Checker;
use crate::subject::Subject;
use crate::task::Outcome;

impl Checker {
    /// Looks whether the checks of these files can be done as asked for; a file that cannot be looked at is passed over here,
    /// as [`check`](Self::check) says why. Plugins run where values were given for them, each in a process of its own.
    ///
    /// # Errors
    /// A check that the level does not do; an argument, or a description, that is about nothing in the files; one of which
    /// no endpoint can be made; a temporary folder that is not there.
    pub fn review(&self, files: &[impl AsRef<Path>]) -> Result<(), Error> {
        self.level_does_all()?;
        let declared: Vec<(&Path, Vec<Scheme>)> =
            files.iter().map(|file| (file.as_ref(), declared(file.as_ref()))).collect();
        let schemes: Vec<&Scheme> = declared.iter().flat_map(|(_, schemes)| schemes).collect();
        self.are_parameters(&schemes)?;
        for (option, given) in [("--server", &self.servers), ("--client", &self.clients)] {
            are_of(option, given, &schemes)?;
        }
        let folder = self.folder().map_err(|refusal| wrong(refusal.message))?;
        for (file, schemes) in &declared {
            let names: Vec<String> = schemes.iter().map(|scheme| scheme.name.to_string()).collect();
            for name in &names {
                let mut task = self.task(&checks::GIVEN, file, &names, Some(name));
                folder.path().clone_into(&mut task.folder);
                if task.arguments.is_empty() && task.server.is_none() && task.client.is_none() {
                    continue;
                }
                // All else is for the checks to say.
                if let Outcome::Warned(message) = self.run(&checks::GIVEN, &task).outcome {
                    return Err(wrong(message));
                }
            }
        }
        Ok(())
    }

    fn level_does_all(&self) -> Result<(), Error> {
        let mut named = checks::ALL.iter().filter(|check| self.only.iter().any(|name| name == check.name));
        match named.find(|check| check.level > self.level) {
            None => Ok(()),
            Some(check) => {
                let message = format!(
                    "--only {}: the level {} does not do this check; it takes --level {}",
                    check.name,
                    level_name(self.level),
                    level_name(check.level)
                );
                Err(wrong(message))
            }
        }
    }

    /// Fails where a value was given for what no scheme of the files has.
    fn are_parameters(&self, schemes: &[&Scheme]) -> Result<(), Error> {
        let roles: Vec<&Role> =
            schemes.iter().flat_map(|scheme| scheme.client.iter().chain(&scheme.server)).collect();
        let is_known = |name: &str| roles.iter().any(|role| role.parameter(name).is_some());
        match self.arguments.iter().find(|(name, _)| !roles.is_empty() && !is_known(name)) {
            None => Ok(()),
            Some((name, _)) => {
                let mut known: Vec<&str> = roles
                    .iter()
                    .flat_map(|role| role.parameters.iter().map(|one| one.name.as_str()))
                    .collect();
                known.sort_unstable();
                known.dedup();
                let there_are = known.join(", ");
                Err(wrong(format!(
                    "--argument {name}: no scheme has such a parameter; there are {there_are}"
                )))
            }
        }
    }
}

/// Fails unless each description is of a scheme in the files, and no two of the same.
fn are_of(option: &str, given: &[Vec<u8>], schemes: &[&Scheme]) -> Result<(), Error> {
    let mut seen = Vec::new();
    for text in given {
        let description = Description::parse(text.as_slice())
            .map_err(|error| wrong(format!("{option} is no description: {error}")))?;
        let scheme = scheme_of(&description);
        if !schemes.is_empty() && !schemes.iter().any(|one| *one.name == *scheme) {
            let there_are: Vec<&str> = schemes.iter().map(|one| &*one.name).collect();
            let there_are = there_are.join(", ");
            return Err(wrong(format!(
                "{option} is of the scheme {scheme:?}, which is none of what is checked: {there_are}"
            )));
        }
        if seen.contains(&scheme) {
            return Err(wrong(format!("{option} is given twice for the scheme {scheme}; give one for each")));
        }
        seen.push(scheme);
    }
    Ok(())
}

/// The scheme of a description as manifests write it.
pub(crate) fn scheme_of(description: &Description) -> String {
    String::from_utf8_lossy(&description.scheme()).to_ascii_lowercase()
}

/// Warns where no endpoint can be made of what was given: a failure may be a crash, and that is for the checks to tell.
pub(crate) fn can_be_made(subject: &Subject) -> Verdict {
    let inner = Subject::inner("inner", "");
    for (server, option) in [(true, "--server"), (false, "--client")] {
        let given = if server { &subject.task.server } else { &subject.task.client };
        let made = match (given, server) {
            (Some(given), true) => subject.registry.server(given).map(drop),
            (Some(given), false) => subject.registry.client(given).map(drop),
            (None, true) => {
                let Ok(arguments) = subject.values().server(&inner) else { continue };
                subject.make_server(&arguments).map(drop)
            }
            (None, false) => {
                let Ok(arguments) = subject.values().client(&inner) else { continue };
                subject.make_client(&arguments).map(drop)
            }
        };
        match made {
            Err(error) if given.is_some() => {
                return warns(format!(
                    "no endpoint can be made of the {option} that is given: {}",
                    told(&error)
                ));
            }
            Err(error) if subject.given_at_fault(server, &error) => {
                return warns(format!(
                    "no {} endpoint of {} can be made with the values given by --argument: {}",
                    option.trim_start_matches('-'),
                    subject.name(),
                    told(&error)
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

fn declared(file: &Path) -> Vec<Scheme> {
    let registry = Registry::builder().default_plugin_path(false).allow_abort(true).build();
    let reports =
        registry.map(|registry| registry.inspect_file(file).unwrap_or_default()).unwrap_or_default();
    reports.into_iter().filter_map(|report| report.manifest).flat_map(|one| one.plugin.schemes).collect()
}

fn level_name(level: Level) -> String {
    serde_json::to_value(level).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

fn wrong(message: String) -> Error {
    Error::new(ErrorKind::InvalidSetting, message)
}
