//! Arguments that the command line does not allow.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ColorChoice, Command, CommandFactory};
use serde_json::json;

use crate::context::Context;
use crate::options::{Cli, Global};
use crate::output::print;

/// Shows help where it was asked for, else what is wrong; gives the exit status.
pub(crate) fn report(error: clap::Error, arguments: &[OsString]) -> ExitCode {
    let given = Given::of(arguments);
    if !error.use_stderr() {
        let text = error.render();
        let text =
            if given.color == ColorChoice::Always { text.ansi().to_string() } else { text.to_string() };
        let Err(failure) = print(text.as_bytes()) else { return ExitCode::SUCCESS };
        return failure.report(&Context::new(Global { json: given.json, ..Global::default() }));
    }
    let error = without_values(error, arguments, given.json);
    if given.json {
        let _ = writeln!(io::stderr(), "{}", as_json(&error));
    } else {
        let text = error.render();
        let coloured = match given.color {
            ColorChoice::Auto => crate::context::wants_color(crate::options::When::Auto),
            choice => choice == ColorChoice::Always,
        };
        let text = if coloured { text.ansi().to_string() } else { text.to_string() };
        let _ = io::stderr().write_all(text.as_bytes());
    }
    ExitCode::from(2)
}

/// What can be told of the arguments though they are wrong.
struct Given {
    json: bool,
    color: ColorChoice,
}

impl Given {
    fn of(arguments: &[OsString]) -> Self {
        let mut given = Self { json: false, color: ColorChoice::Auto };
        // What follows belongs to somebody else.
        let own = arguments.iter().take_while(|argument| *argument != "--" && *argument != "--exec");
        let mut value_of_color = false;
        for argument in own.filter_map(|argument| argument.to_str()) {
            let value = argument.strip_prefix("--color=").or_else(|| value_of_color.then_some(argument));
            match value {
                Some("always") => given.color = ColorChoice::Always,
                Some("never") => given.color = ColorChoice::Never,
                _ => {}
            }
            value_of_color = argument == "--color";
            given.json |= argument == "--json";
        }
        given
    }
}

/// The error without an argument that is out of place: it may be part of a description, and its secret.
fn without_values(error: clap::Error, arguments: &[OsString], json: bool) -> clap::Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let surplus = text(ContextKind::InvalidArg);
    let message = match error.kind() {
        ErrorKind::UnknownArgument if !surplus.starts_with('-') => {
            let mut cli = Cli::command();
            cli.build();
            let advice = |command: &Command| {
                let after = |pair: &[OsString]| pair[0] == "--no-built-in" && pair[1] == *surplus;
                // A description with its secret might stand there as well.
                let is_list = !surplus.contains([':', '=']) && arguments.windows(2).any(after);
                if is_list { format!("write --no-built-in={surplus}") } else { takes(command) }
            };
            let command = command_of(&error, &mut cli);
            let message = format!("there are more arguments than the command takes; {}", advice(command));
            return command.error(error.kind(), message);
        }
        ErrorKind::InvalidSubcommand if text(ContextKind::InvalidSubcommand).contains([':', '=']) => {
            "a command comes before descriptions: see --help"
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand if json => "a command is missing: see --help",
        _ => return error,
    };
    Cli::command().error(error.kind(), message)
}

/// The command whose usage an error shows.
fn command_of<'a>(error: &clap::Error, cli: &'a mut Command) -> &'a mut Command {
    let usage = match error.get(ContextKind::Usage) {
        Some(ContextValue::StyledStr(usage)) => usage.to_string(),
        _ => String::new(),
    };
    let is_used = |command: &&Command| usage.split_whitespace().any(|word| word == command.get_name());
    let name = cli.get_subcommands().find(is_used).map(|command| command.get_name().to_owned());
    match name {
        Some(name) if cli.find_subcommand(&name).is_some() => {
            cli.find_subcommand_mut(&name).unwrap_or_else(|| unreachable!("{name} was found"))
        }
        _ => cli,
    }
}

/// What a command takes beside options.
fn takes(command: &Command) -> String {
    let names: Vec<String> = command
        .get_positionals()
        .map(|one| one.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect())
        .collect();
    let takes_descriptions = names.iter().any(|name| matches!(&**name, "DESCRIPTION" | "SERVER" | "CLIENT"));
    match names.as_slice() {
        _ if takes_descriptions => "quote a description for the shell where it has spaces".to_owned(),
        [] => format!("{} takes options alone", command.get_name()),
        names => format!("{} takes one {}", command.get_name(), names.join(" and one ")),
    }
}

fn as_json(error: &clap::Error) -> serde_json::Value {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    };
    let suggestion = |kind| match error.get(kind) {
        // Of several that are similar, the most similar one comes last.
        Some(ContextValue::Strings(texts)) => texts.last().cloned(),
        _ => text(kind),
    };
    let list = |kind| match error.get(kind) {
        Some(ContextValue::Strings(texts)) => Some(texts.clone()),
        _ => None,
    };
    let suggestions =
        [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue];
    let expected = [ContextKind::ValidValue, ContextKind::ValidSubcommand];
    let rendered = error.render().to_string();
    json!({ "error": {
        "kind": "usage",
        "message": message(&rendered),
        "scheme": null,
        "argument": text(ContextKind::InvalidArg),
        "span": null,
        "expected": expected.into_iter().find_map(list),
        "suggestion": suggestions.into_iter().find_map(suggestion),
        "retryable": false,
    } })
}

/// The message alone, of what clap writes for people: its first paragraph on one line.
fn message(rendered: &str) -> String {
    let text = rendered.strip_prefix("error: ").unwrap_or(rendered);
    let paragraph = text.lines().take_while(|line| !line.trim().is_empty());
    paragraph.map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn error(arguments: &[&str]) -> clap::Error {
        let error = Cli::try_parse_from([&["endpoints"], arguments].concat()).expect_err("wrong arguments");
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        without_values(error, &arguments, true)
    }

    #[test]
    fn misplaced_descriptions_are_not_repeated() {
        for wrong in [
            &["connect", "socks5:h:80:password=hunter2", "hunter2"][..],
            &["socks5:h:80:password=hunter2"],
            &["forward", "tcp:80", "tcp:h:80", "hunter2"],
            &["list-plugins", "--no-built-in", "socks5:h:80:password=hunter2"],
        ] {
            let error = error(wrong);
            assert!(!error.to_string().contains("hunter2"), "{error}");
            assert!(!as_json(&error).to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_surplus_argument_is_told_by_what_its_command_takes() {
        for (wrong, advice, usage) in [
            (
                &["new-plugin", "a", "b"][..],
                "new-plugin takes one NAME",
                "endpoints new-plugin [OPTIONS] <NAME>",
            ),
            (
                &["list-plugins", "p", "greet"],
                "list-plugins takes options alone",
                "endpoints list-plugins [OPTIONS]",
            ),
            (
                &["list-plugins", "--no-built-in", "tcp"],
                "write --no-built-in=tcp",
                "endpoints list-plugins [OPTIONS]",
            ),
            (
                &["--json", "inspect", "A.so", "B.so"],
                "inspect takes one SCHEME|FILE",
                "endpoints inspect [OPTIONS] ",
            ),
            (&["explain", "--client", "a", "tcp:90"], "quote a description", "endpoints explain [OPTIONS] "),
            (&["parse", "a", "b"], "quote a description", "endpoints parse [OPTIONS] "),
            (&["listen", "tcp:80", "x"], "quote a description", "endpoints listen [OPTIONS] "),
            (&["quote", "a", "b"], "quote takes one ", "endpoints quote [OPTIONS] "),
        ] {
            let text = error(wrong).to_string();
            assert!(text.contains("there are more arguments than the command takes; "), "{wrong:?}: {text}");
            assert!(text.contains(advice) && text.contains(usage), "{wrong:?}: {text}");
        }
    }

    #[test]
    fn only_commands_for_users_are_suggested() {
        for wrong in ["plugins", "newplugin", "checkplugin", "check-plugin-chil", "--json"] {
            let error = error(&[wrong]);
            assert!(!error.to_string().contains("child"), "{error}");
            assert!(!as_json(&error).to_string().contains("child"), "{error}");
        }
        assert_eq!(as_json(&error(&["newplugin"]))["error"]["suggestion"], "new-plugin");
    }

    #[test]
    fn errors_are_json_in_the_shape_of_all_errors() {
        let json = as_json(&error(&["lisen", "tcp:80"]));
        assert_eq!(json["error"]["kind"], "usage");
        assert_eq!(json["error"]["suggestion"], "listen");
        let message = json["error"]["message"].as_str().expect("a message");
        assert!(message.starts_with("unrecognized subcommand") && !message.contains('\n'), "{message}");
        let json = as_json(&error(&["quote", "--colour", "never", "x"]));
        assert_eq!(
            (json["error"]["argument"].as_str(), json["error"]["suggestion"].as_str()),
            (Some("--colour"), Some("--color"))
        );
    }

    #[test]
    fn options_are_found_among_wrong_ones() {
        let given = |arguments: &[&str]| Given::of(&arguments.iter().map(OsString::from).collect::<Vec<_>>());
        assert!(given(&["endpoints", "--nonsense", "--json"]).json);
        assert!(!given(&["endpoints", "listen", "x", "--exec", "--json"]).json);
        assert_eq!(given(&["endpoints", "--color", "never"]).color, ColorChoice::Never);
        assert_eq!(given(&["endpoints", "--color=always"]).color, ColorChoice::Always);
    }
}
