//! Making endpoints from descriptions: the scheme is looked up, the arguments are checked, what is nested is made, and the
//! plugin makes the endpoint of it.

use std::sync::Arc;

use endpoints_plugin_api::abi::endpoint::Foreign;
use endpoints_plugin_api::abi::instance::Given;

use super::making::{self, Preamble};
use super::{Endpoint, Nested, RoleKind};
use crate::arguments::{self, Argument};
use crate::error::{Error, ErrorKind};
use crate::grammar::Description;
use crate::hints;
use crate::manifest::{ParameterType, Role, Scheme};
use crate::registry::Registry;
use crate::secrets::{about, masked};

/// Makes the outermost endpoint of a text.
pub(crate) fn make(registry: &Registry, role: RoleKind, text: &[u8]) -> Result<Arc<Endpoint>, Error> {
    let description = parse(registry, text)?;
    make_parsed(registry, role, description, 0, None).map_err(|error| about(registry, role, text, error))
}

/// Makes an endpoint for a plugin, which may be making one itself.
pub(crate) fn make_for_plugin(
    registry: &Registry,
    role: RoleKind,
    text: &[u8],
) -> Result<Arc<Endpoint>, Error> {
    let description = parse(registry, text)?;
    let made = make_parsed(registry, role, description, 0, making::take_beneath())
        .map_err(|error| about(registry, role, text, error))?;
    making::note(&made);
    Ok(made)
}

/// Parses a text; the error shows it without what is a secret on either side.
pub(crate) fn parse(registry: &Registry, text: &[u8]) -> Result<Description, Error> {
    Description::parse(text).map_err(|error| {
        let shown = masked(registry, RoleKind::Server, &masked(registry, RoleKind::Client, text));
        Error::from(error).about(shown)
    })
}

/// The deepest nesting of descriptions; each level of escaping doubles the backslashes, so nobody comes near it.
pub(crate) const DEEPEST: usize = 16;

fn make_parsed(
    registry: &Registry,
    role: RoleKind,
    description: Description,
    depth: usize,
    beneath: Option<Arc<Preamble>>,
) -> Result<Arc<Endpoint>, Error> {
    if depth > DEEPEST {
        let message = format!("descriptions are nested more than {DEEPEST} deep");
        return Err(Error::new(ErrorKind::InvalidArgument, message).at(description.scheme_span()));
    }
    let entry = registry.find(&description.scheme()).map_err(|error| {
        let meant = match error.kind() {
            ErrorKind::UnknownScheme => hints::instead_of(&description, role == RoleKind::Server),
            _ => None,
        };
        let error = error.at(description.scheme_span());
        match meant {
            // A scheme that is spelled like it would be the wrong hint.
            Some(meant) => error.meaning(format_args!("did you mean {meant}?")),
            None => error,
        }
    })?;
    let scheme = entry.scheme();
    let Some(declared) = role.of(scheme) else {
        let message = format!("{} has no {} side", scheme.name, role.name());
        return Err(Error::new(ErrorKind::WrongRole, message)
            .with_scheme(&scheme.name)
            .at(description.scheme_span()));
    };
    let checked = arguments::check(&description, declared)?;
    if let Some(instead) = &scheme.deprecated {
        tracing::warn!("{} is deprecated: {instead}", scheme.name);
    }
    if let Some(around) = checked.iter().find(|argument| scheme.preamble && encrypts(registry, argument)) {
        let preamble =
            Preamble { role, description: description.clone(), entry: entry.clone(), outer: beneath };
        let inner = make_nested(registry, role, around, depth, Some(Arc::new(preamble)))
            .map_err(|error| misplaced(error, around, scheme, declared))?;
        let name = around.parameter.name.clone();
        drop(checked);
        let foreign = Foreign::of(Arc::new(Nested(Arc::clone(&inner))));
        let nested = vec![(name, inner)];
        let registry = registry.clone();
        return Ok(Arc::new(Endpoint {
            role,
            description,
            entry,
            nested,
            is_exchanged: true,
            foreign,
            registry,
        }));
    }
    let (mut inside, mut outside) = if scheme.encrypts { (beneath, None) } else { (None, beneath) };
    let mut nested = Vec::new();
    let mut given = Vec::with_capacity(checked.len());
    for argument in &checked {
        let endpoint = if argument.is_nested() {
            let inner = make_nested(registry, role, argument, depth, inside.take())
                .map_err(|error| misplaced(error, argument, scheme, declared))?;
            let exported = Foreign::of(Arc::new(Nested(Arc::clone(&inner))));
            nested.push((argument.parameter.name.clone(), inner));
            Some(exported)
        } else {
            None
        };
        given.push(Given {
            name: &argument.parameter.name,
            value: &argument.value,
            number: argument.number,
            given: argument.given,
            endpoint,
        });
    }
    let made = entry.provider.instance(&registry.0.services).and_then(|instance| {
        let made = making::watched(inside, || instance.endpoint(role.code(), &scheme.name, &mut given));
        nested.extend(made.asked_for.into_iter().map(|inner| (IMPLICIT.to_owned(), inner)));
        // Nothing stands inside.
        outside = outside.take().or(made.beneath);
        Ok(made.result?)
    });
    let foreign = made.map_err(|error| at_argument(error, &checked).with_scheme(&scheme.name))?;
    drop(given);
    drop(checked);
    let registry = registry.clone();
    let made =
        Arc::new(Endpoint { role, description, entry, nested, is_exchanged: false, foreign, registry });
    match outside {
        Some(preamble) => put_around(&preamble, &made),
        None => Ok(made),
    }
}

/// What an endpoint that a plugin asked for by itself is called, in place of an argument's name.
const IMPLICIT: &str = "endpoint";

/// Whether the endpoint that an argument describes encrypts what goes through it.
fn encrypts(registry: &Registry, argument: &Argument<'_, '_>) -> bool {
    argument.is_nested()
        && Description::parse(argument.value.as_ref())
            .ok()
            .and_then(|description| registry.find(&description.scheme()).ok())
            .is_some_and(|entry| entry.scheme().encrypts)
}

/// Puts a preamble, whose description tells of another endpoint inside, around `inner`.
fn put_around(preamble: &Preamble, inner: &Arc<Endpoint>) -> Result<Arc<Endpoint>, Error> {
    let Preamble { role, description, entry, outer } = preamble;
    let scheme = entry.scheme();
    let internal =
        || Error::new(ErrorKind::Internal, "a preamble lost its arguments").with_scheme(&scheme.name);
    let checked = arguments::check(description, role.of(scheme).ok_or_else(internal)?)?;
    let registry = inner.registry.clone();
    let mut nested = Vec::new();
    let mut given: Vec<_> = checked
        .iter()
        .map(|argument| Given {
            name: &argument.parameter.name,
            value: &argument.value,
            number: argument.number,
            given: argument.given,
            endpoint: argument.is_nested().then(|| {
                nested.push((argument.parameter.name.clone(), Arc::clone(inner)));
                Foreign::of(Arc::new(Nested(Arc::clone(inner))))
            }),
        })
        .collect();
    let made = entry
        .provider
        .instance(&registry.0.services)
        .and_then(|instance| Ok(instance.endpoint(role.code(), &scheme.name, &mut given)?));
    let foreign = made.map_err(|error| error.with_scheme(&scheme.name))?;
    drop(given);
    let (role, entry, description) = (*role, entry.clone(), description.clone());
    drop(checked);
    let made =
        Arc::new(Endpoint { role, description, entry, nested, is_exchanged: false, foreign, registry });
    match outer {
        Some(outer) => put_around(outer, &made),
        None => Ok(made),
    }
}

/// Points at the argument that a plugin names in its error.
fn at_argument(error: Error, checked: &[Argument<'_, '_>]) -> Error {
    let span = error.argument().and_then(|name| {
        let argument = checked.iter().find(|argument| argument.parameter.is_called(name))?;
        argument.part.map(|part| part.span())
    });
    match span {
        Some(span) => error.at(span),
        None => error,
    }
}

/// Tells that an argument which the endpoint inside does not take is one of the wrapper's own, in whose description all
/// that follows belongs to the one inside.
fn misplaced(error: Error, argument: &Argument<'_, '_>, scheme: &Scheme, declared: &Role) -> Error {
    let outer = error.argument().filter(|name| argument.is_rest() && declared.parameter(name).is_some());
    match outer.filter(|_| error.kind() == ErrorKind::UnknownArgument).map(str::to_owned) {
        None => error,
        Some(name) => {
            let (scheme, inner) = (&scheme.name, &argument.parameter.name);
            error.meaning(format_args!(
                "to give {name} to {scheme}, write {scheme}:{inner}=…:{name}=… with each colon inside {inner} as \\:"
            ))
        }
    }
}

fn make_nested(
    registry: &Registry,
    role: RoleKind,
    argument: &Argument<'_, '_>,
    depth: usize,
    beneath: Option<Arc<Preamble>>,
) -> Result<Arc<Endpoint>, Error> {
    let role = match argument.parameter.kind {
        ParameterType::Client => RoleKind::Client,
        ParameterType::Server => RoleKind::Server,
        _ => role,
    };
    let located = |error: Error| error.relocate(|span| argument.locate(span));
    let description = Description::parse(argument.value.as_ref())
        .map_err(|error| located(Error::from(error).context(&argument.parameter.name)))?;
    make_parsed(registry, role, description, depth + 1, beneath).map_err(located)
}
