//! Results on standard output, and values as JSON.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use endpoints::{Address, Error, ErrorKind, Origin};
use serde_json::{Value, json};

use crate::failure::Failure;

/// Writes a result, all at once.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Failure> {
    // Not by the standard library's own stream, which counts as written what cannot be, where the descriptor is open for reading.
    let output = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    output.and_then(|mut output| output.write_all(bytes)).map_err(|error| Failure::output(&error))
}

/// Writes a JSON document on a line of its own.
pub(crate) fn print_json(value: &Value) -> Result<(), Failure> {
    print(format!("{value}\n").as_bytes())
}

/// Text as a string, other bytes as `{"hex":"…"}`.
pub(crate) fn bytes_json(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() }),
    }
}

/// What a person sees of a value: itself, with what would steer the terminal, or hide, escaped.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if text.is_empty() || text.contains(|c: char| c.is_control() || c == '\u{fffd}') {
        format!("\"{}\"", bytes.escape_ascii())
    } else {
        text.into_owned()
    }
}

/// One line of text without what would steer the terminal.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Fails where a description, or nothing, is given for a scheme; it may have secrets, so that the scheme alone is told.
pub(crate) fn scheme_alone(taker: &str, given: &[u8]) -> Result<(), Error> {
    let message = match given.iter().position(|byte| *byte == b':') {
        None if given.is_empty() => format!("{taker} takes a scheme, as in {taker} tcp"),
        None => return Ok(()),
        Some(colon) => {
            let scheme = String::from_utf8_lossy(&given[..colon]);
            format!("{taker} takes a scheme alone, and not a description: {taker} {scheme}")
        }
    };
    Err(Error::new(ErrorKind::InvalidSetting, message))
}

pub(crate) fn error_json(error: &Error) -> Value {
    json!({
        "kind": error.kind().name(),
        "message": error.message(),
        "scheme": error.scheme(),
        "argument": error.argument(),
        "span": error.span().map(|span| [span.start, span.end]),
        "expected": Some(error.expected()).filter(|expected| !expected.is_empty()),
        "suggestion": error.suggestion(),
        "retryable": error.is_retryable(),
    })
}

pub(crate) fn origin_json(origin: &Origin) -> Value {
    match origin.path() {
        None => json!({ "kind": "built-in", "path": null }),
        Some(path) => json!({ "kind": "file", "path": bytes_json(path.as_os_str().as_bytes()) }),
    }
}

/// An address as bytes: as it is shown, but a path exactly.
pub(crate) fn address_bytes(address: &Address) -> Vec<u8> {
    match address {
        Address::UnixPath(path) => path.as_os_str().as_bytes().to_vec(),
        Address::UnixAbstract(name) => [b"@", name.as_slice()].concat(),
        other => other.to_string().into_bytes(),
    }
}

/// Rows with their columns aligned, by characters; the last column is as long as it is.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Not by a format's width, which ends at 65,535.
            let space = width - cell.chars().count() + 2;
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', space));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_text_where_they_can_be() {
        assert_eq!(bytes_json("wéb".as_bytes()), json!("wéb"));
        assert_eq!(bytes_json(b"a\xff\x00"), json!({ "hex": "61ff00" }));
    }

    #[test]
    fn tables_take_cells_of_any_length() {
        let long = "a".repeat(100_000);
        assert_eq!(table(&[vec!["x".into(), long.clone()]]), format!("x  {long}\n"));
        assert_eq!(table(&[vec!["é".into(), "1".into()], vec!["ab".into(), "2".into()]]), "é   1\nab  2\n");
    }

    #[test]
    fn nothing_shown_steers_the_terminal() {
        assert_eq!(shown(b"/run/a b"), "/run/a b");
        assert_eq!(shown(b"\x1b[2J"), r#""\x1b[2J""#);
        assert_eq!(shown(b"\xff"), r#""\xff""#);
        assert_eq!(shown(b""), r#""""#);
        assert_eq!(harmless("a\x1bb\n"), "a\u{fffd}b\u{fffd}");
    }

    #[test]
    fn columns_are_aligned_by_characters() {
        let rows = [vec!["é".into(), "b".into()], vec!["ccc".into(), String::new()]];
        assert_eq!(table(&rows), "é    b\nccc\n");
    }
}
