//! The `endpoints` command. What it does, a program can do with a few calls of the library of the same name.

mod caret;
mod check_plugin;
mod connect;
mod context;
mod events;
mod exec;
mod explain;
mod failure;
mod forward;
mod inspect;
mod list_plugins;
mod listen;
mod manager;
mod new_plugin;
mod options;
mod output;
mod parse;
mod progress;
mod queue;
mod quote;
mod run;
mod service;
mod standard;
mod standard_error;
mod statistics;
mod stdio;
mod usage;
mod why;
mod work;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, Parser};

use crate::context::Context;
use crate::failure::Outcome;
use crate::options::{Cli, Command, Global, With};

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // What the command runs of itself is no command for users, and none is suggested that clap does not know.
    match arguments.get(1).and_then(|command| command.to_str()) {
        Some(check_plugin::CHILD) => return endpoints_check::serve(),
        Some(exec::CHILD) => return exec::become_command(&arguments[2..]),
        _ => {}
    }
    let Cli { global, command } = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return usage::report(error, &arguments),
    };
    match command {
        Command::ListPlugins(with) => run(global, with, list_plugins::run),
        Command::Inspect(with) => run(global, with, inspect::run),
        Command::Parse(with) => run(global, with, parse::run),
        Command::Quote(with) => run(global, with, quote::run),
        Command::Explain(with) => run(global, with, explain::run),
        Command::Connect(with) => run(global, with, connect::run),
        Command::Listen(with) => run(global, with, listen::run),
        Command::Forward(with) => run(global, with, forward::run),
        Command::Run(with) => run(global, with, run::run),
        Command::CheckPlugin(with) => run(global, with, check_plugin::run),
        Command::NewPlugin(with) => run(global, with, new_plugin::run),
    }
}

fn run<T: Args>(outer: Global, with: With<T>, command: fn(&Context, T) -> Outcome) -> ExitCode {
    let context = Context::new(outer.and(with.global));
    context.set_up_log();
    let status = command(&context, with.own).unwrap_or_else(|failure| failure.report(&context));
    manager::flush();
    standard_error::flush();
    status
}
