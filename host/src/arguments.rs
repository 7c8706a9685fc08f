//! Text against declared parameters: who is meant by each argument, and whether its value is of the declared type.

use std::borrow::Cow;
use std::ops::Range;

use crate::error::{Error, ErrorKind, shown};
use crate::grammar::{Description, Part};
use crate::hints;
use crate::manifest::{Parameter, ParameterType, Role};

mod value;

pub use value::parse_duration;
pub(crate) use value::{Checked, Problem, check_value};

/// An argument that was given or has a default.
pub(crate) struct Argument<'d, 'm> {
    pub(crate) parameter: &'m Parameter,
    /// Where the value stands, where it does: with another parameter's name, if its default is taken from that.
    pub(crate) part: Option<Part<'d>>,
    /// Whether it is given itself.
    pub(crate) given: bool,
    /// Whether it is all that follows the scheme.
    is_rest: bool,
    pub(crate) value: Cow<'d, [u8]>,
    pub(crate) number: u64,
}

impl Argument<'_, '_> {
    /// Whether its value is a nested description.
    pub(crate) fn is_nested(&self) -> bool {
        matches!(self.parameter.kind, ParameterType::Client | ParameterType::Server | ParameterType::Rest)
    }

    /// Whether it is all that follows the scheme.
    pub(crate) fn is_rest(&self) -> bool {
        self.is_rest
    }

    /// Maps a range of the value to one of the description.
    pub(crate) fn locate(&self, range: Range<usize>) -> Range<usize> {
        match self.part {
            Some(part) if self.is_rest => {
                let start = part.span().start;
                start + range.start..start + range.end
            }
            Some(part) => part.locate(range),
            None => 0..0,
        }
    }
}

/// Checks the arguments of `description` against what `role` of its scheme declares.
pub(crate) fn check<'d, 'm>(
    description: &'d Description,
    role: &'m Role,
) -> Result<Vec<Argument<'d, 'm>>, Error> {
    let scheme = || String::from_utf8_lossy(&description.scheme()).into_owned();
    check_parts(description, role).map_err(|error| {
        let error = error.with_scheme(&scheme());
        // What is around nothing says who it is.
        let around = role.parameters.iter().any(|parameter| parameter.kind == ParameterType::Rest);
        if around && error.kind() == ErrorKind::MissingArgument {
            return error.context(scheme());
        }
        let surplus = matches!(
            error.kind(),
            ErrorKind::TooManyArguments | ErrorKind::UnknownArgument | ErrorKind::DuplicateArgument
        );
        let hint = hints::unquoted(description, role, surplus)
            .or_else(|| hints::in_a_url(description, role).map(str::to_owned));
        if let Some(hint) = hint {
            return error.meaning(hint);
        }
        match hints::port_first(description, role).filter(|_| error.kind() == ErrorKind::BadNumber) {
            Some(meant) => error.meaning(format_args!("did you mean {meant}?")),
            None => error,
        }
    })
}

fn check_parts<'d, 'm>(description: &'d Description, role: &'m Role) -> Result<Vec<Argument<'d, 'm>>, Error> {
    let mut given: Vec<Option<Part<'d>>> = vec![None; role.parameters.len()];
    let rest = rest(description, role);
    if let Some(rest) = rest {
        // Every part belongs to the inner endpoint, whose scheme comes first.
        if let Some(early) =
            description.keywords().find(|part| part.span().start < description.scheme_span().start)
        {
            let message = "an argument stands before the scheme, where it belongs to nobody; put it behind";
            return Err(Error::new(ErrorKind::UnknownArgument, message).at(early.span()));
        }
        given[rest] = description.parts().next();
    } else {
        for part in description.keywords() {
            let place = find(role, part)?;
            if let Some(first) = given[place].replace(part) {
                return Err(twice(&role.parameters[place], first, part, std::iter::empty()));
            }
        }
        place_positional(description, role, &mut given)?;
    }
    let missing: Vec<&Parameter> = role
        .parameters
        .iter()
        .zip(&given)
        .filter(|(parameter, part)| parameter.required && part.is_none())
        .map(|(parameter, _)| parameter)
        .collect();
    if let Some(first) = missing.first() {
        let names: Vec<String> = missing.iter().map(|parameter| parameter.name.clone()).collect();
        let message = format!("required but not given: {}", names.join(", "));
        return Err(Error::new(ErrorKind::MissingArgument, message)
            .with_argument(&first.name)
            .with_expected(names, "")
            .at(description.scheme_span()));
    }
    check_groups(description, role, &given)?;
    check_required_beside(role, &given)?;
    let mut arguments = Vec::with_capacity(role.parameters.len());
    for (place, parameter) in role.parameters.iter().enumerate() {
        let (part, default) = match (given[place], &parameter.default_from) {
            (None, Some(from)) => {
                let source = role.parameters.iter().position(|one| one.name == *from);
                let part = source.and_then(|source| given[source]);
                (part, source.and_then(|source| role.parameters[source].checked_default.as_ref()))
            }
            (part, _) => (part, parameter.checked_default.as_ref()),
        };
        let is_rest = rest == Some(place);
        if let Some(part) = part {
            let value = if is_rest { Cow::Borrowed(part.raw_tail()) } else { part.value() };
            let checked = value::check(parameter, &value)
                .map_err(|problem| bad_value(parameter, part, &value, &problem))?;
            let (value, number) = match checked {
                value::Outcome::AsWritten => (value, 0),
                value::Outcome::Number(number) => (value, number),
                value::Outcome::Normalized(normalized) => (Cow::Owned(normalized), 0),
            };
            let given = given[place].is_some();
            arguments.push(Argument { parameter, part: Some(part), given, is_rest, value, number });
        } else if let Some(default) = default {
            let value = Cow::Owned(default.bytes.clone());
            let number = default.number;
            arguments.push(Argument { parameter, part: None, given: false, is_rest, value, number });
        }
    }
    Ok(arguments)
}

/// The place of the parameter that takes all that follows the scheme, where it does: something stands there by position,
/// or it is not given by keyword while others are that belong to nobody here.
pub(crate) fn rest(description: &Description, role: &Role) -> Option<usize> {
    let rest = role.parameters.iter().position(|parameter| parameter.kind == ParameterType::Rest)?;
    let is_given = || description.keywords().any(|part| is_called(&role.parameters[rest], part));
    let is_foreign = || {
        let declared = |part| role.parameters.iter().any(|parameter| is_called(parameter, part));
        description.keywords().any(|part| !declared(part))
    };
    (description.positional().next().is_some() || (!is_given() && is_foreign())).then_some(rest)
}

/// Checks that what is given has beside it what it makes no sense without.
fn check_required_beside(role: &Role, given: &[Option<Part<'_>>]) -> Result<(), Error> {
    for (parameter, part) in role.parameters.iter().zip(given) {
        let Some(part) = part else { continue };
        let is_given = |name: &String| {
            let place = role.parameters.iter().position(|one| one.name == *name);
            place.is_some_and(|place| given[place].is_some())
        };
        if let Some(missing) = parameter.requires.iter().find(|name| !is_given(name)) {
            let message = format!("{} is given without {missing}, which it needs", parameter.name);
            return Err(Error::new(ErrorKind::MissingArgument, message)
                .with_argument(missing)
                .with_expected(vec![missing.clone()], "")
                .at(part.span()));
        }
    }
    Ok(())
}

fn is_called(parameter: &Parameter, part: Part<'_>) -> bool {
    part.has_key(&parameter.name) || parameter.aliases.iter().any(|alias| part.has_key(alias))
}

/// Checks what excludes each other.
fn check_groups(description: &Description, role: &Role, given: &[Option<Part<'_>>]) -> Result<(), Error> {
    for group in &role.one_of {
        let of_group = |parameter: &Parameter| group.names.contains(&parameter.name);
        let mut found = role
            .parameters
            .iter()
            .zip(given)
            .filter_map(|(parameter, part)| Some((parameter, (*part)?)))
            .filter(|(parameter, _)| of_group(parameter));
        match (found.next(), found.next()) {
            (Some((first, _)), Some((second, part))) => {
                let message = format!(
                    "{} is given beside {}; only one of {} can be",
                    second.name,
                    first.name,
                    group.names.join(", ")
                );
                return Err(Error::new(ErrorKind::ConflictingArguments, message)
                    .with_argument(&second.name)
                    .at(part.span()));
            }
            (None, _) if group.required => {
                let message = format!("one of {} must be given", group.names.join(", "));
                return Err(Error::new(ErrorKind::MissingArgument, message)
                    .with_expected(group.names.clone(), "")
                    .at(description.scheme_span()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn find(role: &Role, part: Part<'_>) -> Result<usize, Error> {
    if let Some(place) = role.parameters.iter().position(|parameter| is_called(parameter, part)) {
        return Ok(place);
    }
    let key = part.key().unwrap_or_default();
    Err(unknown(role.names(), &key).at(part.key_span().unwrap_or_else(|| part.span())))
}

/// The error for an argument that the scheme does not take.
pub(crate) fn unknown(names: Vec<String>, key: &str) -> Error {
    let accepts = match names.as_slice() {
        [] => "it takes none".to_owned(),
        names => format!("it takes {}", names.join(", ")),
    };
    let message = format!("{} is not an argument here: {accepts}", shown(key.as_bytes()));
    Error::new(ErrorKind::UnknownArgument, message).with_argument(key).with_expected(names, key)
}

/// The error for a parameter that is given twice, and `more` that are.
fn twice<'n>(
    parameter: &Parameter,
    first: Part<'_>,
    second: Part<'_>,
    more: impl Iterator<Item = &'n str>,
) -> Error {
    let (one, two) = (first.span(), second.span());
    let written =
        |part: Part<'_>| part.key().filter(|key| **key != *parameter.name).map(|key| format!(" (as {key})"));
    let name = &parameter.name;
    let alias = written(first).or_else(|| written(second)).unwrap_or_default();
    let more: String = more.map(|name| format!("; so is {name}")).collect();
    let message = format!(
        "{name}{alias} is given twice, at bytes {}..{} and {}..{}{more}; an argument counts once",
        one.start, one.end, two.start, two.end
    );
    Error::new(ErrorKind::DuplicateArgument, message).with_argument(name).at(two)
}

fn place_positional<'d>(
    description: &'d Description,
    role: &Role,
    given: &mut [Option<Part<'d>>],
) -> Result<(), Error> {
    let count = description.positional().count();
    // A scheme that takes nothing is written with its colon: `stdio:`.
    let is_nothing = |part: Part<'_>| part.value().is_empty();
    if role.positions.is_empty() && count == 1 && description.positional().all(is_nothing) {
        return Ok(());
    }
    if let Some(surplus) = description.positional().nth(role.positions.len()) {
        return Err(too_many(description, role, count, surplus));
    }
    let by_keyword = role.positions.iter().filter(|place| given[**place].is_some()).count();
    let skip = role.skip_given && count == 1 && count + by_keyword <= role.positions.len();
    let mut places = role.positions.iter();
    let mut twice_given = Vec::new();
    for part in description.positional() {
        let place = loop {
            // There are enough: counted above.
            let Some(place) = places.next() else { return Err(too_many(description, role, count, part)) };
            if !(skip && given[*place].is_some()) {
                break *place;
            }
        };
        if let Some(keyword) = given[place].replace(part) {
            twice_given.push((&role.parameters[place], part, keyword));
        }
    }
    if let Some(((parameter, part, keyword), more)) = twice_given.split_first() {
        let mut error =
            twice(parameter, *part, *keyword, more.iter().map(|(parameter, ..)| parameter.name.as_str()));
        if looks_like_ipv6(description) {
            error = error.context(format_args!("{IPV6_HINT} {}", hints::IN_A_SHELL));
        }
        return Err(error);
    }
    Ok(())
}

fn too_many(description: &Description, role: &Role, count: usize, surplus: Part<'_>) -> Error {
    let names: Vec<String> =
        role.positions.iter().map(|place| role.parameters[*place].name.clone()).collect();
    let takes = match names.as_slice() {
        [] => "none is taken".to_owned(),
        names => format!(
            "only {} ({}) {} taken",
            names.len(),
            names.join(", "),
            if names.len() == 1 { "is" } else { "are" }
        ),
    };
    // It may be a secret that has lost its name.
    let secret = role.parameters.iter().any(|parameter| parameter.secret);
    let value = if secret { String::new() } else { format!("; {} is too many", shown(&surplus.value())) };
    let are = if count == 1 { "value is" } else { "values are" };
    let message = format!("{count} {are} given by position, {takes}{value}");
    let error =
        Error::new(ErrorKind::TooManyArguments, message).at(surplus.span()).with_expected(role.names(), "");
    if looks_like_ipv6(description) {
        error.context(format_args!("{IPV6_HINT} {}", hints::IN_A_SHELL))
    } else {
        error
    }
}

const IPV6_HINT: &str = r"is this an IPv6 address? write each of its colons as \: as in \:\:1";

/// Whether the parts look like an IPv6 address whose colons were not escaped: an empty one in the midst of others that
/// are hexadecimal.
fn looks_like_ipv6(description: &Description) -> bool {
    let mut empty = 0;
    let mut hexadecimal = 0;
    for part in description.parts() {
        let value = part.value();
        let value = value.strip_prefix(b"[").unwrap_or(&value);
        let value = value.strip_suffix(b"]").unwrap_or(value);
        if value.is_empty() {
            empty += 1;
        } else if value.len() <= 4 && value.iter().all(u8::is_ascii_hexdigit) {
            hexadecimal += 1;
        }
    }
    empty > 0 && hexadecimal > 0
}

fn bad_value(parameter: &Parameter, part: Part<'_>, value: &[u8], problem: &Problem) -> Error {
    let shown = if parameter.secret { "its value".to_owned() } else { shown(value) };
    let message = format!("{}: {shown} {}", parameter.name, problem.message);
    let span = if part.value_span().is_empty() { part.span() } else { part.value_span() };
    let written = if parameter.secret { Cow::Borrowed("") } else { String::from_utf8_lossy(value) };
    Error::new(problem.kind, message)
        .with_argument(&parameter.name)
        .with_expected(parameter.choices.clone(), &written)
        .at(span)
        .of_secret(parameter.secret)
}

#[cfg(test)]
mod tests;
