//! The header `endpoints_plugin.h`, made from the definitions of the boundary in Rust.
//!
//! With `ENDPOINTS_HEADER_UPDATE=1` it is written anew instead of compared.

use std::env;
use std::fs;
use std::path::PathBuf;

use cbindgen::{Builder, Config, DocumentationStyle, EnumConfig, Language, RenameRule, Style};
use endpoints_tests::c::{compiler, cpp_compiler, headers, root};

/// What the header has, by its name in Rust, beside what these refer to.
const ITEMS: [&str; 13] = [
    "REntry",
    "RCreated",
    "RArgument",
    "RConnectContext",
    "RListenContext",
    "RListen",
    "RUnit",
    "RBytesResult",
    "RReadinessResult",
    "RIoSlice",
    "ErrorKind",
    "IoKind",
    "LogLevel",
];

/// Constants that belong to no type, with their names in C.
const CONSTANTS: [(&str, &str); 8] = [
    ("ENTRY_ABI", "ENDPOINTS_ENTRY_ABI"),
    ("CLIENT", "ENDPOINTS_CLIENT"),
    ("SERVER", "ENDPOINTS_SERVER"),
    ("READABLE", "ENDPOINTS_READABLE"),
    ("WRITABLE", "ENDPOINTS_WRITABLE"),
    ("PENDING", "ENDPOINTS_FUTURE_PENDING"),
    ("READY", "ENDPOINTS_FUTURE_READY"),
    ("PANICKED", "ENDPOINTS_FUTURE_PANICKED"),
];

const ABOUT: &str = "/**
 * @file
 * What plugins in C and their hosts agree on: values, tables of functions and constants.
 *
 * Made from the definitions in plugin-api/src/abi; do not edit. The book's chapter \"The plugin boundary\" says what each
 * part promises, and \"Plugins in C\" how to begin. endpoints_plugin_helpers.h has the manifest record, the entry and what
 * most plugins need besides.
 *
 * In short: the first field of a table or of a structure that may grow is its size; a field beyond that is absent. No
 * function of the first version of a table is null. A handle is `data` and `vt`; who is given one calls its `drop` once.
 * Futures, streams and listeners outlive what they came from. What is behind a pointer or in a slice is lent for the length
 * of the call. Any function may be called from any thread, one call at a time for each object unless it says otherwise.
 * Nothing blocks.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */";

/// The header as it should be.
fn generated() -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let sources = root().join("plugin-api/src");
    let mut files: Vec<PathBuf> = fs::read_dir(sources.join("abi"))
        .expect("the boundary")
        .map(|file| file.expect("a file").path())
        .chain(["error.rs", "services.rs"].map(|file| sources.join(file)))
        .collect();
    files.sort();
    let mut builder = Builder::new().with_config(config());
    for (place, file) in files.iter().enumerate() {
        let copy = folder.path().join(format!("{place}.rs"));
        fs::write(&copy, for_c(&fs::read_to_string(file).expect("its text"))).expect("a copy");
        builder = builder.with_src(copy);
    }
    let mut text = Vec::new();
    builder.generate().expect("a header").write(&mut text);
    in_short(&in_c_names(&String::from_utf8(text).expect("UTF-8")))
}

fn config() -> Config {
    let api = endpoints_plugin_api::VERSION;
    let requires = endpoints_plugin_api::manifest::REQUIRES;
    let mut config = Config {
        language: Language::C,
        style: Style::Tag,
        header: Some(ABOUT.to_owned()),
        include_guard: Some("ENDPOINTS_PLUGIN_H".to_owned()),
        no_includes: true,
        sys_includes: ["stddef.h", "stdint.h"].map(str::to_owned).to_vec(),
        after_includes: Some(format!(
            "\n/**\n * The version of the plugin API that this header belongs to.\n */\n#define ENDPOINTS_API_VERSION \"{api}\"\n\n\
             /**\n * The oldest version whose hosts run plugins that are built with it.\n */\n#define ENDPOINTS_API_REQUIRES \"{requires}\""
        )),
        cpp_compat: true,
        usize_is_size_t: true,
        documentation_style: DocumentationStyle::Doxy,
        line_length: 90,
        enumeration: EnumConfig {
            rename_variants: RenameRule::QualifiedScreamingSnakeCase,
            ..EnumConfig::default()
        },
        ..Config::default()
    };
    config.export.include = ITEMS.map(str::to_owned).to_vec();
    config
}

/// A source without what is Rust's own: constants of whole values, links in comments, enums of a given width.
fn for_c(source: &str) -> String {
    let source = source
        .replace("pub const NONE", "const NONE")
        .replace("pub const EMPTY", "const EMPTY")
        .replace("#[repr(u32)]", "#[repr(C)]");
    let lines = source.lines().map(|line| match line.split_once("///") {
        Some((before, comment)) => format!("{before}///{}", without_links(comment)),
        None => line.to_owned(),
    });
    lines.map(|line| line + "\n").collect()
}

/// A comment with the words of its links alone; paths in them as C names them.
fn without_links(comment: &str) -> String {
    let (mut out, mut rest) = (String::new(), comment);
    while let Some((before, after)) = rest.split_once('[') {
        let Some((words, after)) = after.split_once(']') else { break };
        out.push_str(before);
        let target = after.strip_prefix('(').and_then(|after| after.split_once(')'));
        if target.is_some() || words.starts_with('`') {
            out.push_str(&words.replace("::", "_"));
        } else {
            out.push_str(&format!("[{words}]"));
        }
        rest = target.map_or(after, |(_, after)| after);
    }
    out + rest
}

/// The text with the names that C programmers expect in place of those in Rust.
fn in_c_names(text: &str) -> String {
    let words = |text: &str| -> Vec<String> {
        text.split(|c: char| !is_in_name(c)).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let all = words(text);
    let follows = |keyword: &str| -> Vec<String> {
        all.windows(2).filter(|pair| pair[0] == keyword).map(|pair| pair[1].clone()).collect()
    };
    let structures = follows("struct");
    let enums = follows("enum");
    let (mut out, mut word) = (String::new(), String::new());
    for c in text.chars().chain(['\n']) {
        if is_in_name(c) {
            word.push(c);
            continue;
        }
        out.push_str(&c_name(&word, &structures, &enums));
        word.clear();
        out.push(c);
    }
    out.trim_end().to_owned() + "\n"
}

/// The text with comments of one line in one line.
fn in_short(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let (mut out, mut at) = (String::new(), 0);
    while at < lines.len() {
        let indent = &lines[at][..lines[at].len() - lines[at].trim_start().len()];
        let comment = match lines[at..] {
            [begin, line, end, ..] if begin.trim() == "/**" && end.trim() == "*/" => {
                line.trim().strip_prefix("* ")
            }
            _ => None,
        };
        match comment {
            Some(comment) => out.push_str(&format!("{indent}/** {comment} */\n")),
            None => out.push_str(&format!("{}\n", lines[at])),
        }
        at += if comment.is_some() { 3 } else { 1 };
    }
    out
}

fn is_in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn c_name(word: &str, structures: &[String], enums: &[String]) -> String {
    if let Some((_, name)) = CONSTANTS.iter().find(|(rust, _)| *rust == word) {
        return (*name).to_owned();
    }
    let is_type =
        |name: &str| structures.iter().chain(enums).any(|known| known == name) || name == "RIoSlice";
    if is_type(word) {
        return format!("endpoints_{}", snake(word));
    }
    if let Some((owner, constant)) = word.split_once('_').filter(|(owner, _)| is_type(owner)) {
        return format!("ENDPOINTS_{}_{constant}", snake(owner).to_uppercase());
    }
    if enums.iter().any(|name| word.starts_with(&(snake(name).to_uppercase() + "_"))) {
        return format!("ENDPOINTS_{word}");
    }
    word.to_owned()
}

/// `RWakerVTable` as `waker_vt`: without the R of what Rust has another type for, and in snake case.
fn snake(name: &str) -> String {
    let name = name.replace("VTable", "Vt");
    let bare = name.strip_prefix('R').filter(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()));
    let mut out = String::new();
    for c in bare.unwrap_or(&name).chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[test]
fn the_header_is_that_of_the_definitions() {
    let (file, expected) = (headers().join("endpoints_plugin.h"), generated());
    if env::var_os("ENDPOINTS_HEADER_UPDATE").is_some_and(|value| value == "1") {
        fs::write(&file, expected).expect("the header");
        return;
    }
    let found = fs::read_to_string(&file).expect("the header");
    let place = found.lines().zip(expected.lines()).position(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "{} is not what the definitions say, from line {} on; write it anew with ENDPOINTS_HEADER_UPDATE=1",
        file.display(),
        place.map_or_else(|| found.lines().count().min(expected.lines().count()), |place| place + 1)
    );
}

#[test]
fn comments_make_sense_in_c() {
    assert_eq!(without_links(" A future of an [`RConn`](super::conn::RConn)."), " A future of an `RConn`.");
    assert_eq!(
        without_links(" Answers [`IoPoll::PENDING`], as [facts](crate::Facts)."),
        " Answers `IoPoll_PENDING`, as facts."
    );
    let header = generated();
    for rust in ["::", "](", "`R", "Vt`", "Some(", "`None`", "crate"] {
        assert!(!header.contains(rust), "{rust:?} means nothing to a C programmer");
    }
}

#[test]
fn the_headers_stand_alone() {
    let of =
        |folder: PathBuf| fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path());
    let files = of(headers()).chain(of(headers().join("endpoints_plugin"))).filter(|path| path.is_file());
    let mut count = 0;
    for header in files {
        let c = Some((compiler(), ["-std=c11", "-xc"]));
        let cpp = cpp_compiler("the headers in C++").map(|compiler| (compiler, ["-std=c++17", "-xc++"]));
        for (mut command, language) in [c, cpp].into_iter().flatten() {
            command
                .args(language)
                .args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only"])
                .arg(&header);
            let output = command.output().expect("a compiler");
            assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        count += 1;
    }
    assert_eq!(count, 7);
}
