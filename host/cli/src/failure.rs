//! How a command fails: what is shown, and the exit status.

use std::io;
use std::process::ExitCode;

use endpoints::{Error, ErrorKind};
use serde_json::json;

use crate::caret;
use crate::context::Context;
use crate::output::{error_json, harmless};
use crate::standard_error;

/// What commands give back.
pub(crate) type Outcome = Result<ExitCode, Failure>;

pub(crate) enum Failure {
    Error(Box<Error>),
    /// Nobody reads the results any more, which is no error.
    NobodyReads,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(Box::new(error))
    }
}

impl Failure {
    /// Standard output cannot be written to.
    pub(crate) fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::NobodyReads,
            _ => Self::system("cannot write to standard output", error),
        }
    }

    /// The operating system refuses something.
    pub(crate) fn system(what: &str, error: &io::Error) -> Self {
        Error::new(ErrorKind::Other, format!("{what}: {error}")).into()
    }

    pub(crate) fn report(self, context: &Context) -> ExitCode {
        let Self::Error(error) = self else { return ExitCode::SUCCESS };
        let text = if context.json() {
            format!("{}\n", json!({ "error": error_json(&error) }))
        } else {
            text(&error, context.color)
        };
        // Where standard error is closed, the exit status has to do.
        standard_error::write(text);
        status(&error)
    }
}

pub(crate) fn status(error: &Error) -> ExitCode {
    // What an argument names may be at fault in itself, as a file that is not there, which is another kind of error.
    let is_request = error.kind().is_invalid_request() || error.argument().is_some();
    ExitCode::from(if is_request { 2 } else { 1 })
}

const RED: &str = "\x1b[1;31m";
const GREEN: &str = "\x1b[32m";
const PLAIN: &str = "\x1b[0m";

fn text(error: &Error, color: bool) -> String {
    format!("{} {}", painted(RED, "error:", color), message(error, color))
}

/// The message, and below it what is at fault and what may have been meant.
pub(crate) fn message(error: &Error, color: bool) -> String {
    let paint = |style: &str, text: &str| painted(style, text, color);
    let mut out = format!("{}\n", harmless(error.message()));
    if let (Some(description), Some(span)) = (error.description(), error.span()) {
        let (line, carets) = caret::under(description, span);
        let indent = &carets[..carets.len() - carets.trim_start().len()];
        out.push_str(&format!("  {line}\n  {indent}{}\n", paint(RED, carets.trim_start())));
    }
    let expected = error.expected().join(", ");
    // Most messages say it themselves.
    if !expected.is_empty() && !error.message().contains(&expected) {
        out.push_str(&format!("  expected: {}\n", harmless(&expected)));
    }
    if let Some(suggestion) = error.suggestion() {
        out.push_str(&format!("  did you mean {}?\n", paint(GREEN, &harmless(suggestion))));
    }
    out
}

fn painted(style: &str, text: &str, color: bool) -> String {
    if color { format!("{style}{text}{PLAIN}") } else { text.to_owned() }
}
