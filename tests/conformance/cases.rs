//! Reading the recorded cases, and telling of all that fail rather than of the first.

use std::fmt::Debug;
use std::fs;
use std::path::Path;

use serde_json::Value;

pub(crate) fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/conformance"))
}

/// Runs `check` on every case of a file, of which there must be `count`.
///
/// # Panics
///
/// If a case fails, or if there are more or fewer.
pub(crate) fn run(file: &str, count: usize, check: impl Fn(&Value) -> Result<(), String>) {
    let text = fs::read_to_string(folder().join(file)).expect("the file of the cases");
    let mut ran = 0;
    let mut failures = Vec::new();
    for line in text.lines() {
        let case: Value = serde_json::from_str(line).expect("a case in JSON");
        ran += 1;
        if let Err(failure) = check(&case) {
            failures.push(format!("{}: {failure}", case["id"]));
        }
    }
    assert!(failures.is_empty(), "{} of {ran} cases fail:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(ran, count, "cases of {file}");
}

/// Says how `found` differs from `expected`.
pub(crate) fn same<T: PartialEq + Debug + ?Sized>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what} is {found:?}, not {expected:?}")) }
}

/// The text at `name`, or the bytes whose hexadecimal digits are at `name_hex`.
pub(crate) fn bytes(case: &Value, name: &str) -> Option<Vec<u8>> {
    case[name].as_str().map(Vec::from).or_else(|| case[format!("{name}_hex")].as_str().map(unhex))
}

pub(crate) fn unhex(digits: &str) -> Vec<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).expect("a hexadecimal digit") as u8;
    digits.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}
