//! Completion of descriptions while they are typed. Runs no plugin code.

use std::fs;

use crate::endpoint::{DEEPEST, RoleKind};
use crate::grammar::{Description, ParseErrorKind, Part, quote_str};
use crate::manifest::{Parameter, ParameterType, Role};
use crate::registry::Registry;

/// One way in which a description that is being typed may go on; [`Registry::complete`] gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Candidate {
    /// The whole description, up to the end of what is completed.
    pub text: String,
    /// The scheme, the argument's name or the value that is completed, without escapes.
    pub name: String,
    /// One line about it; empty where there is nothing to say.
    pub help: String,
    /// Whether more must follow, so that a shell should put no space behind it.
    pub goes_on: bool,
}

impl Registry {
    /// How a description that is being typed may go on: schemes, then names of arguments, then values; in nested descriptions
    /// too, with the escapes that are needed there.
    ///
    /// The names and values are those that manifests declare; for a path they are files. Nothing is proposed for secrets. It
    /// runs no code of plugins, and opens nothing but folders.
    ///
    /// # Examples
    ///
    /// ```
    /// use endpoints::{Registry, RoleKind};
    ///
    /// let texts = |typed: &str| {
    ///     let candidates = Registry::global().complete(RoleKind::Client, typed);
    ///     candidates.into_iter().map(|candidate| candidate.text).collect::<Vec<_>>()
    /// };
    /// assert_eq!(texts("un"), ["unix:"]);
    /// assert_eq!(texts("tcp:h"), ["tcp:host="]);
    /// assert_eq!(texts(r"tls:example.com:443:endpoint=tcp\:po"), [r"tls:example.com:443:endpoint=tcp\:port\="]);
    /// ```
    #[must_use]
    pub fn complete(&self, role: RoleKind, typed: &str) -> Vec<Candidate> {
        let candidate = |Found { keep, add, name, help, goes_on }| {
            Some(Candidate { text: format!("{}{add}", typed.get(..keep)?), name, help, goes_on })
        };
        within(self, role, typed, 0).into_iter().filter_map(candidate).collect()
    }
}

/// A candidate within a text: so many bytes of the text are kept, then come others.
struct Found {
    keep: usize,
    add: String,
    name: String,
    help: String,
    goes_on: bool,
}

impl Found {
    /// A value in the place of what stands behind `keep`.
    fn value(keep: usize, value: &str, help: &str) -> Self {
        let add = quote_str(value).into_owned();
        Self { keep, add, name: value.to_owned(), help: help.to_owned(), goes_on: false }
    }
}

/// Completes a description that stands as it is.
fn within(registry: &Registry, role: RoleKind, text: &str, depth: usize) -> Vec<Found> {
    let description = match Description::parse(text) {
        // An escape that is not written to its end.
        Err(error) if error.kind() == ParseErrorKind::TrailingBackslash => {
            Description::parse(&text[..text.len() - 1])
        }
        parsed => parsed,
    };
    // Before there is a scheme, nobody knows whose arguments they are.
    let Ok(description) = description else { return Vec::new() };
    if depth > DEEPEST {
        return Vec::new();
    }
    let Some(typed) =
        description.parts().last().filter(|part| part.span().start > description.scheme_span().end)
    else {
        return schemes(registry, role, &description);
    };
    let Ok(entry) = registry.find(&description.scheme()) else { return Vec::new() };
    let Some(declared) = role.of(entry.scheme()) else { return Vec::new() };
    let typing = Typing { registry, role, declared, description: &description, typed, depth };
    let rest = || {
        let start = description.scheme_span().end + 1;
        let found = within(registry, role, &text[start..], depth + 1);
        found.into_iter().map(move |found| Found { keep: start + found.keep, ..found })
    };
    match typing.rest() {
        Rest::None => typing.arguments(),
        Rest::All => rest().collect(),
        Rest::Perhaps => rest().chain(typing.arguments()).collect(),
    }
}

fn schemes(registry: &Registry, role: RoleKind, description: &Description) -> Vec<Found> {
    let prefix = String::from_utf8_lossy(&description.scheme()).to_ascii_lowercase();
    let mut found = Vec::new();
    for entry in registry.entries() {
        let scheme = entry.scheme();
        let Some(declared) = role.of(scheme).filter(|_| scheme.name.starts_with(&prefix)) else { continue };
        let about = if declared.summary.is_empty() { &scheme.summary } else { &declared.summary };
        let help =
            scheme.deprecated.as_ref().map_or_else(|| about.clone(), |why| format!("deprecated: {why}"));
        let candidate = Found {
            keep: description.scheme_span().start,
            add: format!("{}:", scheme.name),
            name: scheme.name.to_string(),
            help,
            goes_on: true,
        };
        found.push((scheme.deprecated.is_some(), candidate));
    }
    found.sort_by(|(old_one, one), (old_other, other)| (old_one, &one.name).cmp(&(old_other, &other.name)));
    found.into_iter().map(|(_, candidate)| candidate).collect()
}

/// What belongs to the description that a scheme stands around.
enum Rest {
    None,
    All,
    /// What is typed may be either.
    Perhaps,
}

/// A description whose last part is being typed.
struct Typing<'t> {
    registry: &'t Registry,
    role: RoleKind,
    declared: &'t Role,
    description: &'t Description,
    typed: Part<'t>,
    depth: usize,
}

impl Typing<'_> {
    /// The parts that are not being typed.
    fn given(&self) -> impl Iterator<Item = Part<'_>> {
        let typed = self.typed.span().start;
        self.description.parts().filter(move |part| part.span().start != typed)
    }

    /// See `arguments::rest`, which is about descriptions that are complete.
    fn rest(&self) -> Rest {
        if self.declared.parameters.iter().all(|parameter| parameter.kind != ParameterType::Rest) {
            return Rest::None;
        }
        let is_own = |part: Part<'_>| part.key().is_some_and(|key| self.declared.parameter(&key).is_some());
        if self.given().any(|part| !is_own(part)) {
            return Rest::All;
        }
        if self.given().next().is_none() && !is_own(self.typed) { Rest::Perhaps } else { Rest::None }
    }

    fn arguments(&self) -> Vec<Found> {
        if let Some(key) = self.typed.key() {
            return self.declared.parameter(&key).map(|parameter| self.values(parameter)).unwrap_or_default();
        }
        let value = self.typed.value();
        let prefix = String::from_utf8_lossy(&value);
        let positional = self.given().filter(|part| !part.is_keyword()).count();
        let by_position = &self.declared.positions[..positional.min(self.declared.positions.len())];
        let by_position: Vec<&Parameter> =
            by_position.iter().map(|place| &self.declared.parameters[*place]).collect();
        let is_given = |name: &str| {
            let named = |part: Part<'_>| part.key().and_then(|key| self.declared.parameter(&key));
            by_position.iter().any(|one| one.name == name)
                || self.given().filter_map(named).any(|one| one.name == name)
        };
        let is_possible = |parameter: &&Parameter| {
            let excluded =
                |names: &[String]| names.contains(&parameter.name) && names.iter().any(|name| is_given(name));
            parameter.name.starts_with(&*prefix)
                && !is_given(&parameter.name)
                && !self.declared.one_of.iter().any(|group| excluded(&group.names))
        };
        let mut names: Vec<&Parameter> = self.declared.parameters.iter().filter(is_possible).collect();
        // Those that must be given first; the order of declaration stays otherwise.
        names.sort_by_key(|parameter| !parameter.required);
        let mut found: Vec<Found> = names
            .into_iter()
            .map(|parameter| Found {
                keep: self.typed.span().start,
                add: format!("{}=", parameter.name),
                name: parameter.name.clone(),
                help: parameter.description.clone(),
                goes_on: true,
            })
            .collect();
        let next = self.declared.positions.get(positional).map(|place| &self.declared.parameters[*place]);
        // Before something is typed, the names are enough.
        if let Some(parameter) = next.filter(|next| !prefix.is_empty() && !is_given(&next.name)) {
            found.extend(self.values(parameter));
        }
        found
    }

    /// Values in the place of the one that is being typed.
    fn values(&self, parameter: &Parameter) -> Vec<Found> {
        let value = self.typed.value();
        let value = String::from_utf8_lossy(&value);
        let at = |offset: usize| self.typed.locate(offset..offset).start;
        let nested = |role| {
            let found = within(self.registry, role, &value, self.depth + 1);
            let outside = |found: Found| Found {
                keep: at(found.keep),
                add: quote_str(&found.add).into_owned(),
                ..found
            };
            found.into_iter().map(outside).collect()
        };
        let start = if parameter.list { value.rfind(',').map_or(0, |comma| comma + 1) } else { 0 };
        let (before, typed) = value.split_at(start);
        match parameter.kind {
            _ if parameter.secret => Vec::new(),
            ParameterType::Client => nested(RoleKind::Client),
            ParameterType::Server => nested(RoleKind::Server),
            ParameterType::Rest => nested(self.role),
            ParameterType::Path => paths(typed, at(start)),
            ParameterType::Choice => {
                let is_new = |choice: &&String| {
                    choice.starts_with(typed) && !before.split(',').any(|one| one == **choice)
                };
                let choices = parameter.choices.iter().filter(is_new);
                choices.map(|choice| Found::value(at(start), choice, "")).collect()
            }
            ParameterType::Flag => {
                let flags =
                    [("1", "yes"), ("0", "no")].into_iter().filter(|(flag, _)| flag.starts_with(typed));
                flags.map(|(flag, help)| Found::value(at(start), flag, help)).collect()
            }
            _ if value.is_empty() => {
                let shown = [(&parameter.default, "the default"), (&parameter.example, "for example")];
                let shown = shown.into_iter().filter_map(|(value, help)| Some((value.as_ref()?, help)));
                shown.map(|(value, help)| Found::value(at(0), value, help)).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// More of a folder's files than these are of no help.
const MOST_FILES: usize = 500;

/// Files and folders whose paths begin so.
fn paths(typed: &str, keep: usize) -> Vec<Found> {
    let (folder, prefix) = typed.split_at(typed.rfind('/').map_or(0, |slash| slash + 1));
    let Ok(entries) = fs::read_dir(if folder.is_empty() { "." } else { folder }) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        // As shells do it: what is hidden is shown to those who know of it.
        if !name.starts_with(prefix) || (name.starts_with('.') && !prefix.starts_with('.')) {
            continue;
        }
        let is_folder = fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_dir());
        let path = format!("{folder}{name}{}", if is_folder { "/" } else { "" });
        found.push(Found { goes_on: is_folder, ..Found::value(keep, &path, "") });
        if found.len() == MOST_FILES {
            break;
        }
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

#[cfg(test)]
mod tests;
