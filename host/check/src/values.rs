//! Values for the parameters that a manifest declares.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use endpoints::Description;
use endpoints::manifest::{OneOf, Parameter, ParameterType, Role, Scheme, SchemeKind};

use crate::finding::{Finding, Verdict};
use crate::subject::is_nested;

/// The arguments of an endpoint, by name.
pub(crate) type Arguments = Vec<(String, Vec<u8>)>;

/// Where values come from: the examples of the manifest, as far as they can work here.
pub(crate) struct Values<'a> {
    pub(crate) scheme: &'a Scheme,
    /// What makes the free texts of a transport, among which is its address, those of this process.
    pub(crate) suffix: &'a str,
    /// For the paths of sockets.
    pub(crate) folder: &'a Path,
    /// Values that were given in their place.
    pub(crate) given: &'a [(String, Vec<u8>)],
}

impl Values<'_> {
    /// Arguments that a server endpoint of the scheme should work with: on this machine alone, at an address that the
    /// system chooses, around `inner`.
    pub(crate) fn server(&self, inner: &[u8]) -> Verdict<Arguments> {
        let role = self.scheme.server.as_ref();
        let role = role.ok_or_else(|| Finding::Skips("the scheme has no server side".into()))?;
        let mut arguments = self.needed(role, inner, true)?;
        for parameter in &role.parameters {
            let is_address = |text: &String| text.parse::<IpAddr>().is_ok();
            let address = matches!(parameter.kind, ParameterType::Ip | ParameterType::Host)
                || parameter.default.as_ref().is_some_and(is_address);
            let free = !arguments.iter().any(|(name, _)| *name == parameter.name);
            if address && free && !parameter.list && !stands_around(role) {
                let default = parameter.default.as_deref().unwrap_or_default();
                let loopback = if default.contains(':') { "::1" } else { "127.0.0.1" };
                arguments.push((parameter.name.clone(), loopback.into()));
            }
        }
        Ok(arguments)
    }

    /// Arguments for a client endpoint, before a listener has told how it is reached.
    pub(crate) fn client(&self, inner: &[u8]) -> Verdict<Arguments> {
        let role = self.scheme.client.as_ref();
        let role = role.ok_or_else(|| Finding::Skips("the scheme has no client side".into()))?;
        self.needed(role, inner, false)
    }

    /// What has to be given, and what was.
    fn needed(&self, role: &Role, inner: &[u8], server: bool) -> Verdict<Arguments> {
        let mut arguments = Arguments::new();
        for parameter in &role.parameters {
            let given = self.given.iter().find(|(name, _)| parameter.is_called(name));
            let value = match parameter.kind {
                _ if given.is_some() => given.map(|(_, value)| value.clone()).unwrap_or_default(),
                kind if is_nested(kind) && self.scheme.kind == SchemeKind::Wrapper => inner.to_vec(),
                _ if !self.is_needed(role, parameter) => continue,
                kind if is_nested(kind) => inner.to_vec(),
                ParameterType::Port if server => b"0".to_vec(),
                _ => self.example(parameter)?,
            };
            arguments.push((parameter.name.clone(), value));
        }
        Ok(arguments)
    }

    /// Whether an argument has to be given: it is required, or the first of a group of which one is. Another one of the
    /// group may have been given, or stand for the endpoint inside.
    fn is_needed(&self, role: &Role, parameter: &Parameter) -> bool {
        let is_there = |name: &String| {
            let Some(one) = role.parameter(name) else { return false };
            is_nested(one.kind) || self.given.iter().any(|(given, _)| one.is_called(given))
        };
        let is_first = |group: &OneOf| {
            group.required
                && !group.names.iter().any(is_there)
                && group.names.first() == Some(&parameter.name)
        };
        parameter.required || role.one_of.iter().any(is_first)
    }

    /// A value that the parameter accepts.
    pub(crate) fn example(&self, parameter: &Parameter) -> Verdict<Vec<u8>> {
        if let Some(choice) = parameter.choices.first() {
            return Ok(choice.clone().into());
        }
        if let Some(example) = parameter.example.as_deref().and_then(unescaped) {
            // A path of the example's own would be somebody else's.
            let last = Path::new(OsStr::from_bytes(&example)).file_name();
            let suffix = if stands_around_any(self.scheme) { "" } else { self.suffix };
            return Ok(match (parameter.kind, last) {
                (ParameterType::Text | ParameterType::Bytes, _) => [&example, suffix.as_bytes()].concat(),
                (ParameterType::Path, Some(name)) => {
                    self.folder.join(name).into_os_string().into_encoded_bytes()
                }
                _ => example,
            });
        }
        if let Some(default) = &parameter.default {
            return Ok(default.clone().into());
        }
        let value: Vec<u8> = match parameter.kind {
            ParameterType::Text | ParameterType::Bytes => b"check".to_vec(),
            ParameterType::Path => self.folder.join("check").into_os_string().into_encoded_bytes(),
            ParameterType::Integer => parameter.min.unwrap_or(1).to_string().into(),
            ParameterType::Port | ParameterType::Duration | ParameterType::Flag => b"1".to_vec(),
            ParameterType::Mode => b"600".to_vec(),
            ParameterType::Ip | ParameterType::Host => b"127.0.0.1".to_vec(),
            ParameterType::Network => b"127.0.0.0/8".to_vec(),
            _ => {
                let message =
                    format!("there is no value for {}: give it an example in the manifest", parameter.name);
                return Err(Finding::Skips(message));
            }
        };
        Ok(value)
    }
}

/// Whether an endpoint stands inside.
pub(crate) fn stands_around(role: &Role) -> bool {
    role.parameters.iter().any(|parameter| is_nested(parameter.kind))
}

fn stands_around_any(scheme: &Scheme) -> bool {
    scheme.client.iter().chain(&scheme.server).any(stands_around)
}

/// The value that an example in a description stands for.
fn unescaped(example: &str) -> Option<Vec<u8>> {
    let description = Description::parse(format!("x:v={example}")).ok()?;
    let part = description.keywords().next()?;
    Some(part.value().into_owned())
}
