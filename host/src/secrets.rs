//! Secrets in descriptions: where they stand, also in descriptions that have mistakes, so that no error, log or
//! explanation shows them. Runs no plugin code.

use std::ops::Range;

use crate::endpoint::RoleKind;
use crate::error::nearest;
use crate::grammar::{Description, ParseErrorKind, Part};
use crate::manifest::{Parameter, ParameterType, Role};
use crate::registry::Registry;

/// The text of a description with each byte of a secret as `*`.
pub(crate) fn masked(registry: &Registry, role: RoleKind, text: &[u8]) -> Vec<u8> {
    let mut masked = text.to_vec();
    for span in spans(registry, role, text) {
        if let Some(bytes) = masked.get_mut(span) {
            bytes.fill(b'*');
        }
    }
    masked
}

/// Where the values of secrets stand, on all levels.
fn spans(registry: &Registry, role: RoleKind, text: &[u8]) -> Vec<Range<usize>> {
    let Some((description, added)) = parse_leniently(text) else { return Vec::new() };
    let entry = registry.find(&description.scheme()).ok();
    let spans = match entry.as_ref().and_then(|entry| role.of(entry.scheme())) {
        Some(declared) => declared_secrets(registry, role, &description, declared),
        None => likely_secrets(&description, &registry.secrets()),
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
) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let nested = |found: &mut Vec<Range<usize>>, role, part: Part<'_>| {
        let inner = spans(registry, role, &part.value());
        found.extend(inner.into_iter().map(|span| part.locate(span)));
    };
    if declared.parameters.iter().any(|parameter| parameter.kind == ParameterType::Rest) {
        let Some(first) = description.parts().next() else { return found };
        let start = first.span().start;
        let inner = spans(registry, role, first.raw_tail());
        return inner.into_iter().map(|span| start + span.start..start + span.end).collect();
    }
    let secrets: Vec<String> = declared.secrets().map(str::to_owned).collect();
    let mut positions = declared.positions.iter();
    for part in description.parts() {
        let parameter: Option<&Parameter> = match part.key() {
            Some(key) => declared.parameter(&key),
            None => positions.next().map(|place| &declared.parameters[*place]),
        };
        match parameter.map(|parameter| (parameter.secret, parameter.kind)) {
            Some((true, _)) => found.push(part.value_span()),
            Some((false, ParameterType::Client)) => nested(&mut found, RoleKind::Client, part),
            Some((false, ParameterType::Server)) => nested(&mut found, RoleKind::Server, part),
            // Misspelled, or one value too many: perhaps a secret that has lost its name.
            None if part.key().map_or(!secrets.is_empty(), |key| is_like(&key, &secrets)) => {
                found.push(part.value_span());
            }
            _ => {}
        }
    }
    found
}

/// Where nothing is known about a scheme, what is named as the secrets of others are is taken for one.
fn likely_secrets(description: &Description, secrets: &[String]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for part in description.parts() {
        if part.key().is_some_and(|key| is_like(&key, secrets)) {
            found.push(part.value_span());
        } else if let Some((inner, 0)) = parse_leniently(&part.value()) {
            found.extend(likely_secrets(&inner, secrets).into_iter().map(|span| part.locate(span)));
        }
    }
    found
}

/// Whether a name is that of a secret, or may be meant for it.
fn is_like(written: &str, secrets: &[String]) -> bool {
    nearest(written, secrets).is_some()
}
