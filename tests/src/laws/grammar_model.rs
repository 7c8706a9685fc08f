//! The description grammar once more, written to be obviously right rather than fast.

use endpoints::grammar::ParseErrorKind;

/// What a text means: its parts as (key, value), unescaped, and which of them is the scheme.
pub(super) struct Meaning {
    pub(super) parts: Vec<(Option<Vec<u8>>, Vec<u8>)>,
    pub(super) scheme: usize,
}

pub(super) fn parse(text: &[u8]) -> Result<Meaning, ParseErrorKind> {
    let mut parts = Vec::new();
    let mut key = None;
    let mut value = Vec::new();
    let mut bytes = text.iter().copied().chain([b':']).enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b':' => {
                let key = key.take();
                if key.as_ref().is_some_and(|key: &Vec<u8>| !key.is_ascii()) {
                    return Err(ParseErrorKind::NonAsciiKey);
                }
                parts.push((key, std::mem::take(&mut value)));
            }
            b'=' if key.is_none() => key = Some(std::mem::take(&mut value)),
            b'\\' if at + 1 == text.len() => return Err(ParseErrorKind::TrailingBackslash),
            b'\\' => value.extend(bytes.next().map(|(_, escaped)| escaped)),
            byte => value.push(byte),
        }
    }
    let scheme = parts.iter().position(|(key, _)| key.is_none()).ok_or(ParseErrorKind::NoScheme)?;
    Ok(Meaning { parts, scheme })
}

/// Removes one level of escaping.
pub(super) fn unescape(raw: &[u8]) -> Vec<u8> {
    let mut bytes = raw.iter().copied();
    let mut plain = Vec::new();
    while let Some(byte) = bytes.next() {
        plain.push(if byte == b'\\' { bytes.next().expect("a byte after the backslash") } else { byte });
    }
    plain
}
