//! Secrets in descriptions: where they stand, also in descriptions that have mistakes, so that no error, log or
//! explanation shows them. Runs no plugin code.

use std::ops::Range;

use crate::arguments;
use crate::endpoint::{DEEPEST, RoleKind};
use crate::error::{Error, nearest};
use crate::grammar::{Description, ParseErrorKind, Part};
use crate::manifest::{Parameter, ParameterType, Role};
use crate::registry::Registry;

/// The text of a description with each byte of a secret as `*`.
pub(crate) fn masked(registry: &Registry, role: RoleKind, text: &[u8]) -> Vec<u8> {
    let mut masked = text.to_vec();
    for span in spans(registry, role, text, 0) {
        if let Some(bytes) = masked.get_mut(span) {
            bytes.fill(b'*');
        }
    }
    masked
}

/// Attaches the description to an error, without its secrets; neither does the message keep what is one.
pub(crate) fn about(registry: &Registry, role: RoleKind, text: &[u8], error: Error) -> Error {
    let shown = masked(registry, role, text);
    // A value of a declared secret was not put in the message in the first place.
    let told = error.span().filter(|_| !error.is_about_secret()).is_some_and(|span| {
        let written = text.get(span.clone()).unwrap_or_default();
        shown.get(span) != Some(written) && tells(&error, written)
    });
    let error = if told {
        error.redacted(r"what stands here is a secret, or follows one as if it were part of it; write a colon in a value as \:")
    } else {
        error
    };
    error.about(shown)
}

/// Whether a message was made from that part of the description.
fn tells(error: &Error, part: &[u8]) -> bool {
    let bare = |text: &str| text.replace('\\', "");
    let part = bare(&String::from_utf8_lossy(part));
    !part.is_empty() && bare(error.message()).contains(&part)
}

/// Where the values of secrets stand, on all levels.
fn spans(registry: &Registry, role: RoleKind, text: &[u8], depth: usize) -> Vec<Range<usize>> {
    if depth > DEEPEST {
        // Nobody looks further, so nobody knows: all of it may be secret.
        return std::iter::once(0..text.len()).collect();
    }
    let Some((description, added)) = parse_leniently(text) else { return Vec::new() };
    let entry = registry.find(&description.scheme()).ok();
    let spans = match entry.as_ref().and_then(|entry| role.of(entry.scheme())) {
        Some(declared) => declared_secrets(registry, role, &description, declared, depth),
        None => likely_secrets(&description, &registry.secrets(), depth),
    };
    spans.into_iter().map(|span| span.start.saturating_sub(added)..span.end.saturating_sub(added)).collect()
}

/// Parses what breaks the grammar too: gives a description each byte of which stands for one of `text`, and how many
/// bytes were added before them.
fn parse_leniently(text: &[u8]) -> Option<(Description, usize)> {
    const NO_SCHEME: &[u8] = b"?:";
    let mut ascii: Vec<u8> = text.iter().map(|byte| if byte.is_ascii() { *byte } else { b'?' }).collect();
    let mut added = 0;
    // One mistake of each kind can be mended.
    for _ in 0..3 {
        match Description::parse(ascii.as_slice()) {
            Ok(description) => return Some((description, added)),
            Err(error) if error.kind() == ParseErrorKind::TrailingBackslash => drop(ascii.pop()),
            Err(_) => {
                added = NO_SCHEME.len();
                ascii.splice(0..0, NO_SCHEME.iter().copied());
            }
        }
    }
    None
}

fn declared_secrets(
    registry: &Registry,
    role: RoleKind,
    description: &Description,
    declared: &Role,
    depth: usize,
) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let nested = |found: &mut Vec<Range<usize>>, role, part: Part<'_>| {
        let inner = spans(registry, role, &part.value(), depth + 1);
        found.extend(inner.into_iter().map(|span| part.locate(span)));
    };
    if arguments::rest(description, declared).is_some() {
        let Some(first) = description.parts().next() else { return found };
        let start = first.span().start;
        let inner = spans(registry, role, first.raw_tail(), depth + 1);
        return inner.into_iter().map(|span| start + span.start..start + span.end).collect();
    }
    let has_secrets = declared.secrets().next().is_some();
    let names = registry.secrets();
    let mut positions = declared.positions.iter();
    // A secret with a colon that was not escaped goes on in the parts behind it, up to the next known keyword.
    let mut goes_on = false;
    for part in description.parts() {
        let parameter: Option<&Parameter> = match part.key() {
            Some(key) => declared.parameter(&key),
            None => positions.next().map(|place| &declared.parameters[*place]),
        };
        let known = parameter.is_some() && part.is_keyword();
        if goes_on && !known {
            found.push(part.span());
            continue;
        }
        goes_on = parameter.is_some_and(|parameter| parameter.secret);
        match parameter.map(|parameter| (parameter.secret, parameter.kind)) {
            Some((true, _)) => found.push(part.value_span()),
            Some((false, ParameterType::Client)) => nested(&mut found, RoleKind::Client, part),
            Some((false, ParameterType::Rest)) => nested(&mut found, role, part),
            Some((false, ParameterType::Server)) => nested(&mut found, RoleKind::Server, part),
            // Under a name that is none, or one value too many: perhaps a secret.
            None if has_secrets || part.key().is_some_and(|key| is_like(&key, &names)) => {
                goes_on = true;
                found.push(part.value_span());
            }
            _ => {}
        }
    }
    found
}

/// Where nothing is known about a scheme, what is named as the secrets of others are is taken for one.
fn likely_secrets(description: &Description, secrets: &[String], depth: usize) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut goes_on = false;
    for part in description.parts() {
        if part.key().is_some_and(|key| is_like(&key, secrets)) {
            goes_on = true;
            found.push(part.value_span());
        } else if goes_on && !part.is_keyword() {
            found.push(part.span());
        } else if depth < DEEPEST
            && let Some((inner, 0)) = parse_leniently(&part.value())
        {
            goes_on = false;
            let inner = likely_secrets(&inner, secrets, depth + 1);
            found.extend(inner.into_iter().map(|span| part.locate(span)));
        }
    }
    found
}

/// Whether a name is that of a secret, or may be meant for it. One with a colon is a description that stands where none
/// belongs, and its last name may be that of anything.
fn is_like(written: &str, secrets: &[String]) -> bool {
    let last = written.rsplit(|letter: char| !letter.is_ascii_alphanumeric()).next().unwrap_or_default();
    written.contains(':') || [written, last].iter().any(|name| nearest(name, secrets).is_some())
}
