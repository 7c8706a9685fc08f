//! Making endpoints from descriptions: the scheme is looked up, the arguments are checked, what is nested is made, and the
//! plugin makes the endpoint of it.

use std::borrow::Cow;
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

/// What an endpoint is made of.
struct Source {
    description: Description,
    /// By parameter name: endpoints that are there already, in the place of what the description says there.
    objects: Objects,
}

pub(crate) type Objects = Vec<(String, Arc<Endpoint>)>;

impl From<Description> for Source {
    fn from(description: Description) -> Self {
        Self { description, objects: Vec::new() }
    }
}

/// Makes the outermost endpoint of a text.
pub(crate) fn make(registry: &Registry, role: RoleKind, text: &[u8]) -> Result<Arc<Endpoint>, Error> {
    make_outermost(registry, role, text, parse(registry, text)?.into(), None)
}

/// Makes an endpoint around others that are there already, by the names of the parameters that they are for.
pub(crate) fn make_around(
    registry: &Registry,
    role: RoleKind,
    description: Description,
    objects: Objects,
) -> Result<Arc<Endpoint>, Error> {
    let shown = without_secrets_of_others(registry, &description, &objects);
    let text = shown.as_ref().unwrap_or(&description).text().to_vec();
    make_of(registry, role, Source { description, objects }, 0, None).map_err(|error| {
        // What was replaced stands elsewhere.
        let error = if shown.is_some() { error.nowhere() } else { error };
        about(registry, role, &text, error)
    })
}

/// A description that can be shown, where `objects` has endpoints of other registries, which alone know their secrets.
pub(super) fn without_secrets_of_others(
    registry: &Registry,
    description: &Description,
    objects: &Objects,
) -> Option<Description> {
    if objects.iter().all(|(_, object)| object.registry.is(registry)) {
        return None;
    }
    let mut builder = Description::builder(description.scheme());
    for part in description.keywords() {
        let key = part.key().unwrap_or_default();
        let object = objects.iter().find(|(name, _)| **name == *key).map(|(_, object)| object.masked());
        builder = builder.keyword(&key, object.map_or_else(|| part.value(), Cow::Owned));
    }
    Some(builder.build())
}

/// Makes an endpoint for a plugin, which may be making one itself.
pub(crate) fn make_for_plugin(
    registry: &Registry,
    role: RoleKind,
    text: &[u8],
) -> Result<Arc<Endpoint>, Error> {
    let description = parse(registry, text)?;
    let made = make_outermost(registry, role, text, description.into(), making::take_beneath())?;
    making::note(&made);
    Ok(made)
}

fn make_outermost(
    registry: &Registry,
    role: RoleKind,
    text: &[u8],
    source: Source,
    beneath: Option<Arc<Preamble>>,
) -> Result<Arc<Endpoint>, Error> {
    make_of(registry, role, source, 0, beneath).map_err(|error| about(registry, role, text, error))
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

fn make_of(
    registry: &Registry,
    role: RoleKind,
    source: Source,
    depth: usize,
    beneath: Option<Arc<Preamble>>,
) -> Result<Arc<Endpoint>, Error> {
    let Source { description, objects } = source;
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
    let checked = arguments::check(&description, declared)
        .map_err(|error| of_the_other_side(error, role, scheme, declared))?;
    if let Some(instead) = &scheme.deprecated {
        tracing::warn!("{} is deprecated: {instead}", scheme.name);
    }
    if let Some(around) =
        checked.iter().find(|argument| scheme.preamble && encrypts(registry, role, argument, &objects, depth))
    {
        let preamble = Preamble {
            role,
            description: description.clone(),
            entry: entry.clone(),
            registry: registry.clone(),
            outer: beneath,
        };
        let inner = make_nested(registry, role, around, &objects, depth, Some(Arc::new(preamble)))
            .map_err(|error| misplaced(error, around, &description, scheme, declared))?;
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
            objects,
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
            let inner = make_nested(registry, role, argument, &objects, depth, inside.take())
                .map_err(|error| misplaced(error, argument, &description, scheme, declared))?;
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
    let made = Arc::new(Endpoint {
        role,
        description,
        entry,
        nested,
        objects,
        is_exchanged: false,
        foreign,
        registry,
    });
    match outside {
        Some(preamble) => put_around(&preamble, &made),
        None => Ok(made),
    }
}

/// Names the argument that was probably meant by one of the scheme's other side.
fn of_the_other_side(error: Error, role: RoleKind, scheme: &Scheme, declared: &Role) -> Error {
    let other = match role {
        RoleKind::Client => scheme.server.as_ref(),
        RoleKind::Server => scheme.client.as_ref(),
    };
    let written = error.argument().filter(|_| error.kind() == ErrorKind::UnknownArgument);
    let (Some(written), Some(other)) = (written, other) else { return error };
    if let Some(meant) = hints::of_the_other_side(written, declared, other) {
        return error.suggesting(meant);
    }
    if other.parameter(written).is_none() {
        return error;
    }
    let other = match role {
        RoleKind::Client => RoleKind::Server,
        RoleKind::Server => RoleKind::Client,
    };
    let hint = format!("{written} is for the {} side of {}", other.name(), scheme.name);
    error.meaning(hint)
}

/// What an endpoint that a plugin asked for by itself is called, in place of an argument's name.
const IMPLICIT: &str = "endpoint";

/// Whether the endpoint that an argument describes encrypts what goes through it, or is a preamble around one that does.
fn encrypts(
    registry: &Registry,
    role: RoleKind,
    argument: &Argument<'_, '_>,
    objects: &Objects,
    depth: usize,
) -> bool {
    if let Some(object) = find(objects, argument) {
        return object.is_exchanged || object.entry.scheme().encrypts;
    }
    // What is deeper is refused by whoever makes it.
    if !argument.is_nested() || depth > DEEPEST {
        return false;
    }
    let Ok(description) = Description::parse(argument.value.as_ref()) else { return false };
    let Ok(entry) = registry.find(&description.scheme()) else { return false };
    let scheme = entry.scheme();
    if scheme.encrypts || !scheme.preamble {
        return scheme.encrypts;
    }
    let arguments = role.of(scheme).and_then(|declared| arguments::check(&description, declared).ok());
    arguments
        .is_some_and(|all| all.iter().any(|one| encrypts(registry, role, one, &Objects::new(), depth + 1)))
}

fn find<'o>(objects: &'o Objects, argument: &Argument<'_, '_>) -> Option<&'o Arc<Endpoint>> {
    objects.iter().find(|(name, _)| *name == argument.parameter.name).map(|(_, object)| object)
}

/// Puts a preamble, whose description tells of another endpoint inside, around `inner`.
fn put_around(preamble: &Preamble, inner: &Arc<Endpoint>) -> Result<Arc<Endpoint>, Error> {
    let Preamble { role, description, entry, registry, outer } = preamble;
    let scheme = entry.scheme();
    let internal =
        || Error::new(ErrorKind::Internal, "a preamble lost its arguments").with_scheme(&scheme.name);
    let checked = arguments::check(description, role.of(scheme).ok_or_else(internal)?)?;
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
    let made = Arc::new(Endpoint {
        role,
        description,
        entry,
        nested,
        objects: Vec::new(),
        is_exchanged: false,
        foreign,
        registry: registry.clone(),
    });
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
/// that follows belongs to the one inside; or that the colons of the one inside were not escaped.
fn misplaced(
    error: Error,
    argument: &Argument<'_, '_>,
    description: &Description,
    scheme: &Scheme,
    declared: &Role,
) -> Error {
    let hint = match error.kind() {
        _ if !argument.is_rest() => None,
        ErrorKind::UnknownScheme => hints::unquoted(description, declared, false),
        ErrorKind::UnknownArgument => {
            let (scheme, inner) = (&scheme.name, &argument.parameter.name);
            let name = error.argument().filter(|name| declared.parameter(name).is_some());
            name.map(|name| match name == inner {
                true => format!(
                    "{inner} is a description itself: write {scheme}:{inner}=… alone, with each colon inside {inner} as \\:"
                ),
                false => format!(
                    "to give {name} to {scheme}, write {scheme}:{inner}=…:{name}=… with each colon inside {inner} as \\:"
                ),
            })
        }
        _ => None,
    };
    match hint {
        Some(hint) => error.meaning(hint),
        None => error,
    }
}

fn make_nested(
    registry: &Registry,
    role: RoleKind,
    argument: &Argument<'_, '_>,
    objects: &Objects,
    depth: usize,
    beneath: Option<Arc<Preamble>>,
) -> Result<Arc<Endpoint>, Error> {
    if let Some(object) = find(objects, argument) {
        return take_object(object, depth + 1, beneath);
    }
    let role = match argument.parameter.kind {
        ParameterType::Client => RoleKind::Client,
        ParameterType::Server => RoleKind::Server,
        _ => role,
    };
    let located = |error: Error| error.relocate(|span| argument.locate(span));
    let description = Description::parse(argument.value.as_ref())
        .map_err(|error| located(Error::from(error).context(&argument.parameter.name)))?;
    make_of(registry, role, description.into(), depth + 1, beneath).map_err(located)
}

/// Uses an endpoint that is there already, around a preamble where that belongs beneath it.
fn take_object(
    object: &Arc<Endpoint>,
    depth: usize,
    beneath: Option<Arc<Preamble>>,
) -> Result<Arc<Endpoint>, Error> {
    if depth + object.levels() > DEEPEST {
        let message = format!("endpoints are nested more than {DEEPEST} deep");
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    match beneath {
        None => Ok(Arc::clone(object)),
        // It stands deeper, so all down to there is made once more.
        Some(beneath) if object.is_exchanged || object.entry.scheme().encrypts => {
            let source = Source { description: object.description.clone(), objects: object.objects.clone() };
            make_of(&object.registry, object.role, source, depth, Some(beneath))
        }
        Some(beneath) => put_around(&beneath, object),
    }
}
