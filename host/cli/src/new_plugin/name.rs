//! Names that a crate, a folder and a scheme can have.

/// Checks a name; `is_built_in` tells of which schemes a host has already.
///
/// # Errors
/// One line: what is wrong with it, and a name that would do.
pub(super) fn check(name: &str, is_built_in: impl Fn(&str) -> bool) -> Result<(), String> {
    let Some(problem) = problem(name, &is_built_in) else { return Ok(()) };
    let nearest = nearest(name, &is_built_in);
    Err(format!("{name:?} cannot be the name of a plugin: {problem}; {nearest} would do"))
}

/// The most characters that crates.io accepts.
const LONGEST: usize = 64;

fn problem(name: &str, is_built_in: impl Fn(&str) -> bool) -> Option<String> {
    let problem = if name.is_empty() {
        "it is empty"
    } else if name.contains('/') {
        "it is a path, and the folder is made where the command runs"
    } else if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        "a scheme begins with a small letter from a to z"
    } else if !name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')) {
        "crates and schemes have only small letters from a to z, digits and - in common"
    } else if name.ends_with('-') {
        "it ends with -"
    } else if name.contains("--") {
        // The crate's name in Rust would have two `_` there.
        "- stands twice in a row, which Rust warns of"
    } else if name.len() > LONGEST {
        return Some(format!("it is longer than {LONGEST} characters"));
    } else if KEYWORDS.contains(&name) {
        "it is a keyword of Rust"
    } else if TAKEN.contains(&name) {
        "a crate of that name is needed beside it"
    } else if is_built_in(name) {
        "the scheme is built in"
    } else {
        return None;
    };
    Some(problem.to_owned())
}

/// The most similar name that will do.
fn nearest(name: &str, is_built_in: impl Fn(&str) -> bool) -> String {
    let last = name.rsplit('/').find(|part| !part.is_empty()).unwrap_or_default();
    let mut nearest = String::new();
    for c in last.chars().map(|c| c.to_ascii_lowercase()) {
        match c {
            'a'..='z' => nearest.push(c),
            '0'..='9' if !nearest.is_empty() => nearest.push(c),
            _ if !nearest.is_empty() && !nearest.ends_with('-') => nearest.push('-'),
            _ => {}
        }
    }
    // Room for what is put before it.
    nearest.truncate(LONGEST - PREFIX.len());
    let nearest = nearest.trim_end_matches('-');
    if nearest.is_empty() {
        return format!("{PREFIX}scheme");
    }
    let mut nearest = nearest.to_owned();
    while problem(&nearest, &is_built_in).is_some() && nearest.len() < LONGEST {
        nearest.insert_str(0, PREFIX);
    }
    nearest
}

const PREFIX: &str = "my-";

/// Keywords of the edition 2024, also reserved ones, as far as they are names otherwise (the Rust reference, "Keywords").
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn",
    "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop",
    "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static",
    "struct", "super", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use", "virtual",
    "where", "while", "yield",
];

/// Crates that the plugin, its tests, or a program that compiles it in depend on by that name.
const TAKEN: &[&str] =
    &["alloc", "core", "endpoints", "endpoints-plugin-api", "proc-macro", "std", "test", "tokio"];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str) -> Result<(), String> {
        super::check(name, |scheme| ["tcp", "unix", "my-unix"].contains(&scheme))
    }

    #[test]
    fn names_that_all_accept() {
        for name in ["a", "my-thing", "abc2", "a-b-c", &"x".repeat(64)] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn other_names_are_refused_with_one_that_will_do() {
        for (name, reason, nearest) in [
            ("", "empty", "my-scheme"),
            ("My_Thing", "small letter", "my-thing"),
            ("my_thing", "in common", "my-thing"),
            ("a.b+c", "in common", "a-b-c"),
            ("2fast", "begins", "fast"),
            ("-x", "begins", "x"),
            ("x-", "ends", "x"),
            ("foo--bar", "twice in a row", "foo-bar"),
            ("a---b--c", "twice in a row", "a-b-c"),
            ("é日", "begins", "my-scheme"),
            ("../there/it", "path", "it"),
            ("/", "path", "my-scheme"),
            ("type", "keyword", "my-type"),
            ("tcp", "built in", "my-tcp"),
            ("TCP", "begins", "my-tcp"),
            ("tokio", "needed", "my-tokio"),
            ("a\nb", "in common", "a-b"),
        ] {
            let message = check(name).expect_err(name);
            assert!(message.contains(reason), "{name}: {message}");
            assert!(message.ends_with(&format!("; {nearest} would do")), "{name}: {message}");
            assert!(!message.contains('\n'), "{message}");
            assert_eq!(check(nearest), Ok(()), "{nearest}");
        }
        let message = check(&"x".repeat(65)).expect_err("long");
        assert!(message.contains("longer than 64"), "{message}");
    }

    #[test]
    fn what_would_do_will_do() {
        // However many are taken.
        let message = check("unix").expect_err("taken");
        assert!(message.ends_with("; my-my-unix would do"), "{message}");
        let long = "y".repeat(64);
        let is_built_in = |scheme: &str| long.starts_with(scheme);
        let nearest = nearest(&long, is_built_in);
        assert_eq!(super::check(&nearest, is_built_in), Ok(()), "{nearest}");
    }
}
