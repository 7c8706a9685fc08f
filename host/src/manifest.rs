//! What a plugin declares about its schemes, read from its manifest record.

use std::collections::HashSet;
use std::sync::Arc;

use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::arguments::{self, Checked};
use crate::error::shown;

/// The manifest of a plugin: how it was built, and what it provides.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Manifest {
    /// How the plugin was built.
    pub build: Build,
    /// What it provides.
    pub plugin: Provides,
    /// Fields of the author's text that this version does not know, and passes over: each with the way to it.
    #[serde(skip)]
    pub unknown_fields: Vec<String>,
}

/// How a plugin was built.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Build {
    /// The plugin's name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// The version of the plugin API that it was built with.
    pub api: Version,
    /// The oldest version of the plugin API whose hosts it can run in.
    pub requires: Version,
    /// The Rust compiler, for information; empty where the plugin is in another language.
    #[serde(default)]
    pub rustc: String,
    /// The compiler of another language, for information.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub compiler: String,
    /// The target that it was built for.
    #[serde(default)]
    pub target: String,
    /// What a panic in it does: `unwind`, or `abort`, which would end the host; empty where its language has none.
    #[serde(default)]
    pub panic: String,
    /// The name of its entry symbol.
    pub entry: String,
}

/// What a plugin provides.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Provides {
    /// One line about the plugin.
    #[serde(default)]
    pub summary: String,
    /// Its schemes.
    pub schemes: Vec<Scheme>,
}

/// A scheme, as its plugin declares it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Scheme {
    /// Its name, in small letters.
    #[serde(rename = "scheme")]
    pub name: Arc<str>,
    /// Whether it makes streams or stands around another endpoint.
    pub kind: SchemeKind,
    /// One line about it.
    #[serde(default)]
    pub summary: String,
    /// Whether it is a preamble, which belongs beneath encryption.
    #[serde(default)]
    pub preamble: bool,
    /// Whether it encrypts what goes through it; a preamble that is written around it stands beneath it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub encrypts: bool,
    /// What to use instead, where the scheme is kept only for those who have it already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deprecated: Option<String>,
    /// The side that connects, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Role>,
    /// The side that listens, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Role>,
}

/// What sort of scheme it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SchemeKind {
    /// It makes streams.
    Transport,
    /// It stands around another endpoint.
    Wrapper,
}

/// One side of a scheme.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Role {
    /// One line about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub summary: String,
    /// Whole descriptions, to learn from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
    /// Whether a lone positional argument skips parameters that are given by keyword.
    #[serde(default)]
    pub skip_given: bool,
    /// All that it accepts.
    pub parameters: Vec<Parameter>,
    /// Parameters that exclude each other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub one_of: Vec<OneOf>,
    /// The places in `parameters` of the positional ones, in order.
    #[serde(skip)]
    pub(crate) positions: Vec<usize>,
}

/// Parameters of which at most one can be given.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct OneOf {
    /// Their names.
    pub names: Vec<String>,
    /// Whether one of them must be given.
    #[serde(default)]
    pub required: bool,
}

/// A parameter of one side of a scheme.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Other names for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// What values it takes.
    #[serde(rename = "type")]
    pub kind: ParameterType,
    /// Its place among the positional arguments, from 1; without one, it is given by keyword alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<usize>,
    /// Whether it must be given.
    #[serde(default)]
    pub required: bool,
    /// Its value where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// The parameter whose value it has where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_from: Option<String>,
    /// The parameters that must be given too where it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// Whether the value is a list: values of the type with commas between them.
    #[serde(default, skip_serializing_if = "is_false")]
    pub list: bool,
    /// The unit of a bare number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Whether its value must never be shown.
    #[serde(default)]
    pub secret: bool,
    /// The smallest integer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<u64>,
    /// The largest integer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
    /// The values of a choice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// What it does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// A value, to learn from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<String>,
    /// The default, checked once.
    #[serde(skip)]
    pub(crate) checked_default: Option<Checked>,
}

impl Parameter {
    /// Whether it is called `name`.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.iter().any(|alias| alias == name)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// What values a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ParameterType {
    /// UTF-8 text.
    Text,
    /// Any bytes.
    Bytes,
    /// A path: bytes without NUL, not empty.
    Path,
    /// A whole number, in plain digits.
    Integer,
    /// A port, 0 to 65535.
    Port,
    /// A length of time: bare seconds, or with a unit as in `250ms`.
    Duration,
    /// 0 or 1, false or true.
    Flag,
    /// Permission bits, octal.
    Mode,
    /// An IP address.
    Ip,
    /// An IP address, or a network as in `10.0.0.0/8` (CIDR, RFC 4632).
    Network,
    /// A host name or an IP address.
    Host,
    /// One of a list.
    Choice,
    /// A client description.
    Client,
    /// A server description.
    Server,
    /// A nested description of the same role: the rest of the description as it stands, or, where nothing is given by
    /// position, the value of a keyword.
    Rest,
}

impl ParameterType {
    /// Whether values of the type can stand in a list: none of them has a comma, or it would be odd to have one.
    fn can_be_listed(self) -> bool {
        match self {
            Self::Text
            | Self::Path
            | Self::Integer
            | Self::Port
            | Self::Ip
            | Self::Network
            | Self::Host
            | Self::Choice => true,
            Self::Bytes
            | Self::Duration
            | Self::Flag
            | Self::Mode
            | Self::Client
            | Self::Server
            | Self::Rest => false,
        }
    }
}

impl Manifest {
    /// Reads the text of a manifest record, and checks that it makes sense.
    ///
    /// # Errors
    /// One line that says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        /// A record, whose second part is the text of the author's own file: lines and columns are told in that.
        #[derive(Deserialize)]
        struct Record<'t> {
            build: Build,
            #[serde(borrow)]
            plugin: &'t RawValue,
        }
        let Record { build, plugin } = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let mut unknown_fields = Vec::new();
        let mut text = serde_json::Deserializer::from_str(plugin.get());
        let plugin = serde_ignored::deserialize(&mut text, |path| unknown_fields.push(written(&path)))
            .map_err(|error| format!("plugin.json: {error}"))?;
        let mut manifest = Self { build, plugin, unknown_fields };
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&mut self) -> Result<(), String> {
        let name = &self.build.name;
        if !is_plain(name, b"-_.") {
            return Err(format!(
                "{name:?} cannot be a plugin's name: ASCII letters, digits, '-', '_' and '.'"
            ));
        }
        if self.plugin.schemes.is_empty() {
            return Err("no scheme is declared".into());
        }
        let mut seen = HashSet::new();
        for scheme in &mut self.plugin.schemes {
            let name = Arc::clone(&scheme.name);
            if !is_scheme_name(&name) {
                let rule = "a small letter, then small letters, digits, '+', '-' or '.'";
                return Err(format!("{name:?} cannot be a scheme: {rule}"));
            }
            if !seen.insert(Arc::clone(&name)) {
                return Err(format!("the scheme {name} is declared twice"));
            }
            if scheme.client.is_none() && scheme.server.is_none() {
                return Err(format!("the scheme {name} has neither a client nor a server side"));
            }
            for (side, role) in [("client", &mut scheme.client), ("server", &mut scheme.server)] {
                if let Some(role) = role {
                    role.check().map_err(|problem| format!("scheme {name}, {side}: {problem}"))?;
                }
            }
        }
        Ok(())
    }
}

/// A path as the text has it: that a field may be absent is a part of it for serde alone.
fn written(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    let (parent, name) = match path {
        Path::Root => return String::new(),
        Path::Seq { parent, index } => (parent, index.to_string()),
        Path::Map { parent, key } => (parent, key.clone()),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            return written(parent);
        }
    };
    let parent = written(parent);
    if parent.is_empty() { name } else { format!("{parent}.{name}") }
}

/// Whether a name is of ASCII letters, digits and these bytes, and not empty.
fn is_plain(name: &str, others: &[u8]) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte))
}

fn is_scheme_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'-' | b'.'))
}

impl Role {
    fn check(&mut self) -> Result<(), String> {
        let mut names = HashSet::new();
        for parameter in &mut self.parameters {
            let name = &parameter.name;
            for name in std::iter::once(name).chain(&parameter.aliases) {
                if !is_plain(name, b"-_") {
                    return Err(format!(
                        "{name:?} cannot be a parameter: ASCII letters, digits, '-' and '_'"
                    ));
                }
                if !names.insert(name.clone()) {
                    return Err(format!("the parameter {name} is declared twice"));
                }
            }
            let defaults = (parameter.default.is_some(), parameter.default_from.is_some());
            if parameter.required && defaults != (false, false) {
                return Err(format!("the parameter {name} is required and has a default"));
            }
            if defaults == (true, true) {
                return Err(format!("the parameter {name} has two defaults"));
            }
            if parameter.list && !parameter.kind.can_be_listed() {
                return Err(format!(
                    "the parameter {name} cannot be a list: its type is none of text, host, ip, network, choice, port, integer, path"
                ));
            }
            if parameter.kind == ParameterType::Choice && parameter.choices.is_empty() {
                return Err(format!("the parameter {name} has no choices"));
            }
            if let Some(default) = parameter.default.clone() {
                let checked = arguments::check_value(parameter, default.as_bytes()).map_err(|problem| {
                    let value = shown(default.as_bytes());
                    format!("the default of {}: {value} {}", parameter.name, problem.message)
                })?;
                parameter.checked_default = Some(checked);
            }
        }
        self.check_rest()?;
        self.check_references()?;
        let mut positions: Vec<usize> =
            (0..self.parameters.len()).filter(|place| self.parameters[*place].position.is_some()).collect();
        positions.sort_by_key(|place| self.parameters[*place].position);
        for (wanted, place) in (1..).zip(&positions) {
            let parameter = &self.parameters[*place];
            if parameter.position != Some(wanted) {
                return Err(format!("the positions are not 1, 2, 3 …: see {}", parameter.name));
            }
        }
        self.positions = positions;
        Ok(())
    }

    fn check_rest(&self) -> Result<(), String> {
        let is_rest = |one: &&Parameter| one.kind == ParameterType::Rest;
        match self.parameters.iter().filter(is_rest).count() {
            0 => Ok(()),
            1 if self.parameters.iter().all(|one| one.position.is_none()) => Ok(()),
            1 => Err("a parameter of the type rest leaves no position for any".into()),
            _ => Err("two parameters of the type rest".into()),
        }
    }

    /// Checks that the parameters that others name are there.
    fn check_references(&self) -> Result<(), String> {
        let named = |name: &str| self.parameters.iter().find(|parameter| parameter.name == name);
        for parameter in &self.parameters {
            if let Some(name) = parameter.requires.iter().find(|name| named(name).is_none()) {
                return Err(format!("{} requires {name}, which is no parameter", parameter.name));
            }
            let Some(from) = &parameter.default_from else { continue };
            let Some(source) = named(from).filter(|source| source.default_from.is_none()) else {
                return Err(format!(
                    "the default of {} is taken from {from}, which is no parameter with a value of its own",
                    parameter.name
                ));
            };
            if (source.kind, source.list) != (parameter.kind, parameter.list) {
                return Err(format!(
                    "the default of {} is taken from {from}, which is of another type",
                    parameter.name
                ));
            }
        }
        for group in &self.one_of {
            if group.names.len() < 2 {
                return Err("one_of names fewer than two parameters".into());
            }
            for name in &group.names {
                match named(name) {
                    None => return Err(format!("one_of names {name}, which is no parameter")),
                    Some(parameter) if parameter.required => {
                        return Err(format!("one_of names {name}, which is required itself"));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }

    /// The parameter of that name.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.is_called(name))
    }

    /// The names of the parameters whose values must never be shown, aliases too.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        let secret = self.parameters.iter().filter(|parameter| parameter.secret);
        secret
            .flat_map(|parameter| std::iter::once(&parameter.name).chain(&parameter.aliases))
            .map(String::as_str)
    }

    /// The names of all parameters, aliases too, for a person.
    pub(crate) fn names(&self) -> Vec<String> {
        let names =
            |parameter: &Parameter| [std::slice::from_ref(&parameter.name), &parameter.aliases].concat();
        self.parameters.iter().flat_map(names).collect()
    }
}

#[cfg(test)]
mod tests;
