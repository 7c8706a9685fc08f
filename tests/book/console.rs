//! Commands in the pages, and what they print.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::{page, tour};

const PAGES: [&str; 4] = ["README.md", "docs/src/checking.md", "docs/src/command.md", "docs/src/library.md"];

#[test]
fn commands_print_what_the_pages_say() {
    let update = env::var_os("ENDPOINTS_BOOK_UPDATE").is_some();
    let mut wrong = Vec::new();
    for name in PAGES {
        let text = page::read(name);
        let mut written = String::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            written += line;
            written += "\n";
            let Some(mark) = line.strip_prefix("<!-- run").and_then(|rest| rest.strip_suffix("-->")) else {
                continue;
            };
            assert_eq!(lines.next(), Some("```console"), "{name}: after {line}");
            let mut block = lines.by_ref().take_while(|line| *line != "```");
            let command = block.next().and_then(|line| line.strip_prefix("$ ")).expect("a command");
            let expected: String = block.map(|line| format!("{line}\n")).collect();
            let printed = run(command, mark.trim() == ": stderr");
            written += &format!("```console\n$ {command}\n{printed}```\n");
            if expected.is_empty() && !update {
                eprintln!("{name}: skipped, as the page has no output yet: {command}");
            } else if expected != printed {
                wrong.push(format!("{name}: {command}\n--- the page\n{expected}--- printed\n{printed}"));
            }
        }
        if update {
            fs::write(page::root().join(name), written).expect("the page is written");
        }
    }
    assert!(
        update || wrong.is_empty(),
        "ENDPOINTS_BOOK_UPDATE=1 writes the pages anew\n{}",
        wrong.join("\n")
    );
}

/// What a command prints on its output, or on its errors.
fn run(command: &str, errors: bool) -> String {
    let words = words(command);
    let program: PathBuf = match words[0].as_str() {
        "endpoints" => page::profile_folder().join("endpoints"),
        "tour" => tour::program().clone(),
        other => panic!("{other}: the pages have only `endpoints` and `tour` run"),
    };
    assert!(program.is_file(), "there is no {}: run `cargo build --workspace` first", program.display());
    let home = tempfile::tempdir().expect("a folder");
    let output = Command::new(program)
        .args(&words[1..])
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap_or_default())
        .env("HOME", home.path())
        .current_dir(home.path())
        .output()
        .expect("the command runs");
    let (wanted, other) =
        if errors { (output.stderr, output.stdout) } else { (output.stdout, output.stderr) };
    assert!(other.is_empty(), "{command}: {}", String::from_utf8_lossy(&other));
    same_everywhere(&String::from_utf8(wanted).expect("text"))
}

/// What is printed, without what depends on the machine that built it.
fn same_everywhere(printed: &str) -> String {
    let line = |line: &str| match line.split_once("  ") {
        Some((name @ ("built with" | "target"), value)) => {
            let value = value.trim_start();
            format!("{name}{}…\n", &line[name.len()..line.len() - value.len()])
        }
        _ => format!("{line}\n"),
    };
    printed.lines().map(line).collect()
}

/// The words of a command, some in single quotes.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (place, text) in command.split('\'').enumerate() {
        if place % 2 == 1 {
            words.push(text.to_owned());
        } else {
            words.extend(text.split_whitespace().map(str::to_owned));
        }
    }
    words
}
