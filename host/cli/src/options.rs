//! The options that all commands have, and the list of commands.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use endpoints::PluginRule;
use endpoints::serve::WhenFull;

use crate::{
    check_plugin, connect, explain, forward, inspect, list_plugins, listen, new_plugin, parse, quote, run,
};

/// Listen and connect wherever the user says, by descriptions such as tcp:host=example.com:port=80
#[derive(Debug, Parser)]
#[command(name = "endpoints", version, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the plugins that were found, usable or not
    ListPlugins(With<list_plugins::Options>),
    /// Show all that a plugin declares about its schemes
    Inspect(With<inspect::Options>),
    /// Show the parts of a description, whose scheme need not exist
    Parse(With<parse::Options>),
    /// Escape one argument so that it stands for itself in a description
    Quote(With<quote::Options>),
    /// Show what a description means, opening nothing
    Explain(With<explain::Options>),
    /// Join standard input and output to a connection
    #[command(allow_negative_numbers = true)]
    Connect(With<connect::Options>),
    /// Serve connections: one on standard input and output, or all with --echo or --exec
    #[command(allow_negative_numbers = true)]
    Listen(With<listen::Options>),
    /// Relay every connection accepted on one endpoint to another
    #[command(allow_negative_numbers = true)]
    Forward(With<forward::Options>),
    /// Run several services, as a file says
    Run(With<run::Options>),
    /// Drive plugin files through conformance checks, each in a process of its own
    CheckPlugin(With<check_plugin::Options>),
    /// Write a crate to begin a plugin with
    NewPlugin(With<new_plugin::Options>),
}

/// The options of a command beside those of all. They are declared for each command, not as clap's global ones, because
/// of a list given before and after the command's name clap would keep the second alone.
#[derive(Debug, Args)]
pub(crate) struct With<T: Args> {
    #[command(flatten)]
    pub(crate) own: T,
    #[command(flatten)]
    pub(crate) global: Global,
}

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Options of all commands")]
pub(crate) struct Global {
    /// Write results, events and errors as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Look for plugins in this directory first; may be repeated
    #[arg(long, value_name = "DIR")]
    pub(crate) plugin_path: Vec<PathBuf>,
    /// Look for no plugins in the default places
    #[arg(long)]
    pub(crate) no_default_plugin_path: bool,
    /// Use no built-in plugin, or not those of these schemes
    #[arg(long, value_name = "SCHEME,…", num_args = 0.., require_equals = true, value_delimiter = ',')]
    pub(crate) no_built_in: Option<Vec<String>>,
    /// Have this plugin provide the scheme though another comes before it
    #[arg(long, value_name = "SCHEME=PLUGIN", value_parser = preference)]
    pub(crate) prefer: Vec<(String, String)>,
    /// Use only plugin files that this rule or another allows: path:FILE, path:FOLDER, name:PLUGIN or sha256:DIGITS
    #[arg(long, value_name = "RULE")]
    pub(crate) allow_plugin: Vec<PluginRule>,
    /// Do not use plugin files that this rule matches, even if another allows them
    #[arg(long, value_name = "RULE")]
    pub(crate) deny_plugin: Vec<PluginRule>,
    /// Log more to standard error; twice, still more
    #[arg(short, long, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// How to write the log
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    /// When to colour messages
    #[arg(long, value_name = "WHEN")]
    pub(crate) color: Option<When>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    Auto,
    Always,
    Never,
}

impl Global {
    /// These options and those after the command's name: lists are joined, and what can be said once counts as said last.
    pub(crate) fn and(mut self, inner: Self) -> Self {
        self.json |= inner.json;
        self.plugin_path.extend(inner.plugin_path);
        self.no_default_plugin_path |= inner.no_default_plugin_path;
        self.no_built_in = match (self.no_built_in, inner.no_built_in) {
            // An empty list means all.
            (Some(one), Some(two)) if one.is_empty() || two.is_empty() => Some(Vec::new()),
            (Some(one), Some(two)) => Some([one, two].concat()),
            (one, two) => one.or(two),
        };
        self.prefer.extend(inner.prefer);
        self.allow_plugin.extend(inner.allow_plugin);
        self.deny_plugin.extend(inner.deny_plugin);
        self.verbose = self.verbose.saturating_add(inner.verbose);
        self.log_format = inner.log_format.or(self.log_format);
        self.color = inner.color.or(self.color);
        self
    }
}

fn preference(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((scheme, plugin)) if !scheme.is_empty() && !plugin.is_empty() => {
            Ok((scheme.into(), plugin.into()))
        }
        _ => Err("write a scheme and a plugin's name or file, as in tcp=my-tcp".into()),
    }
}

/// How much accepted connections may take.
#[derive(Debug, Args)]
pub(crate) struct Limits {
    /// Serve at most so many connections at a time
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) max_connections: Option<u32>,
    /// What to do with more: let them wait in the backlog, or accept and close them
    #[arg(long, value_name = "WHAT", default_value = "wait", requires = "max_connections")]
    pub(crate) when_full: Full,
    /// Serve at most so many connections from one peer at a time: an IPv4 address, the /64 of an IPv6 address, or the user
    /// of a Unix socket
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) max_per_peer: Option<u32>,
    /// Let at most so many handshakes of accepted connections go on at a time; further connections wait in the backlog
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) max_handshakes: Option<u32>,
    /// Give the handshake of an accepted connection at most so much time
    #[arg(long, value_name = "S", value_parser = time_for_a_handshake, default_value = "30")]
    pub(crate) handshake_timeout: Duration,
    /// End a connection on which nothing has moved for so long
    #[arg(long, value_name = "S", value_parser = some_time)]
    pub(crate) idle_timeout: Option<Duration>,
}

/// What is done with a connection beyond the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Full {
    Wait,
    Refuse,
}

impl From<Full> for WhenFull {
    fn from(full: Full) -> Self {
        match full {
            Full::Wait => Self::Wait,
            Full::Refuse => Self::Refuse,
        }
    }
}

/// How many there may be of something.
fn count(text: &str) -> Result<u32, String> {
    from_one(text, u32::MAX, 1000)
}

/// How many threads there are.
pub(crate) fn threads(text: &str) -> Result<u16, String> {
    from_one(text, 1024, 4)
}

fn from_one<N: Copy + FromStr + PartialOrd + From<u8> + Display>(
    text: &str,
    most: N,
    example: N,
) -> Result<N, String> {
    match text.parse() {
        Ok(number) if (N::from(1)..=most).contains(&number) => Ok(number),
        _ => Err(format!("write a whole number from 1 to {most}, as in {example}")),
    }
}

/// A length of time, as descriptions write it.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    endpoints::parse_duration(text).map_err(|error| error.message().to_owned())
}

/// A length of time that is not nothing, of an option that is no limit where it is left out.
pub(crate) fn some_time(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("no time at all; leave the option out for no limit".to_owned()),
        time => Ok(time),
    }
}

/// The same of the option that is a limit also where it is left out.
fn time_for_a_handshake(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => {
            Err("no time at all; no handshake would succeed: write seconds, as in 30".to_owned())
        }
        time => Ok(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_declarations_are_sound() {
        Cli::command().debug_assert();
    }

    fn global(arguments: &[&str]) -> Global {
        let cli = Cli::try_parse_from([&["endpoints"], arguments].concat()).expect("valid arguments");
        let Command::Quote(with) = cli.command else { panic!("not quote") };
        cli.global.and(with.global)
    }

    #[test]
    fn options_before_and_after_the_command_are_joined() {
        let joined = global(&["--plugin-path", "/a", "-v", "quote", "--plugin-path=/b", "-v", "--json", "x"]);
        assert_eq!(joined.plugin_path, [PathBuf::from("/a"), "/b".into()]);
        assert_eq!((joined.verbose, joined.json), (2, true));
        assert_eq!(global(&["--color=always", "quote", "--color", "never", "x"]).color, Some(When::Never));
    }

    #[test]
    fn built_in_schemes_are_a_list_or_all() {
        let none = |arguments: &[&str]| global(arguments).no_built_in;
        assert_eq!(none(&["quote", "x"]), None);
        assert_eq!(none(&["quote", "--no-built-in", "x"]), Some(vec![]));
        assert_eq!(none(&["--no-built-in=tcp,unix", "quote", "x"]), Some(vec!["tcp".into(), "unix".into()]));
        assert_eq!(none(&["--no-built-in", "quote", "--no-built-in=tcp", "x"]), Some(vec![]));
    }

    #[test]
    fn times_are_written_as_in_descriptions() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert!(duration("-1").is_err() && duration("").is_err() && duration("1 s").is_err());
    }
}
