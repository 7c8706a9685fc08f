//! `endpoints quote`: text that stands for itself in a description.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use clap::Args;

use crate::context::Context;
use crate::failure::Outcome;
use crate::output::{bytes_json, print, print_json};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What to escape
    text: OsString,
}

pub(crate) fn run(context: &Context, options: Options) -> Outcome {
    let quoted = endpoints::quote(options.text.as_bytes());
    if context.json() {
        print_json(&bytes_json(&quoted))?;
    } else {
        print(&[&*quoted, b"\n"].concat())?;
    }
    Ok(ExitCode::SUCCESS)
}
