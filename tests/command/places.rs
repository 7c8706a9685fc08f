//! Where plugins are looked for, and what is told of places and files that cannot be used.

use std::fs;
use std::path::Path;

use endpoints_tests::object;
use tempfile::TempDir;

use crate::harness::{Run, built, endpoints, finish, run};
use crate::plugins::folder_with_socks5;

/// With a value of `ENDPOINTS_PLUGIN_PATH`, in a working directory.
fn run_with_path(folder: &Path, path: &str, arguments: &[&str]) -> Run {
    let mut command = endpoints(arguments);
    command.current_dir(folder).env("ENDPOINTS_PLUGIN_PATH", path);
    finish(command.spawn().expect("the command starts"))
}

#[test]
fn mistakes_in_the_environment_are_told() {
    let folder = TempDir::new().expect("a folder");
    fs::create_dir(folder.path().join("p")).expect("a folder");
    fs::write(folder.path().join("file"), "").expect("a file");
    let file = folder.path().join("file").into_os_string().into_string().expect("UTF-8");
    for (path, problem, is_warned_of) in [
        ("p", "p (ENDPOINTS_PLUGIN_PATH): ignored: it is not absolute", true),
        (&*file, "file (ENDPOINTS_PLUGIN_PATH): cannot be read: Not a directory", true),
        ("/nonexistent/p", "/nonexistent/p (ENDPOINTS_PLUGIN_PATH): no such directory", false),
    ] {
        let why = run_with_path(folder.path(), path, &["list-plugins", "--why", "tcp"]);
        let shown = why.text();
        assert!(shown.lines().any(|line| line.starts_with("2. ") && line.contains(problem)), "{shown}");
        assert_eq!(why.stderr.contains(problem), is_warned_of, "{why:?}");
        let why = run_with_path(folder.path(), path, &["list-plugins", "--json", "--why", "tcp"]).json();
        let place = &why["places"][1];
        assert_eq!(place["place"], path);
        let outcome = problem.split_once("): ").expect("an outcome").1;
        assert!(place["outcome"].as_str().is_some_and(|text| text.starts_with(outcome)), "{place}");
        let none = run_with_path(folder.path(), path, &["list-plugins", "--skip-built-in"]);
        assert!(
            none.text().starts_with("no plugin was found\n") && none.text().contains(problem),
            "{none:?}"
        );
        let unknown = run_with_path(folder.path(), path, &["explain", "--client", "greet:"]);
        assert_eq!(unknown.status, Some(2));
        let error = unknown.stderr.lines().find(|line| line.starts_with("error: ")).expect("an error");
        assert!(error.contains(problem), "{error}");
    }
    // An empty part is no mistake.
    let empty = run_with_path(folder.path(), ":", &["list-plugins", "--skip-built-in"]);
    assert_eq!((empty.text().as_str(), empty.stderr.as_str()), ("no plugin was found\n", ""));
}

#[test]
fn names_of_files_and_folders_do_not_steer_the_terminal() {
    let around = TempDir::new().expect("a folder");
    let folder = around.path().join("\x1b[31mred\x07");
    fs::create_dir(&folder).expect("a folder");
    let file = folder.join("\x1b]0;title\x07.so");
    object::patched("endpoints_plugin_socks5", &file, |bytes| {
        object::replaced(bytes, "Connects through", r"\u001b[1m throug", 2)
    });
    fs::write(folder.join("\x1b[1mbad.so"), "text").expect("a file");
    let (folder, file) = (folder.to_str().expect("UTF-8"), file.to_str().expect("UTF-8"));
    let description = r"socks5:h:1:tcp\:p\:2";
    for (arguments, words) in [
        (&["list-plugins"][..], "title"),
        (&["list-plugins", "--why", "socks5"], "socks5 is provided by endpoints-plugin-socks5 ("),
        (&["list-plugins", "--why", "nothing"], "nobody"),
        (&["inspect", "socks5"], "title"),
        (&["inspect", file], "title"),
        (&["explain", "-v", "--client", description], "provided by"),
        (&["explain", "-v", "--log-format", "json", "--client", description], "provided by"),
        (&["explain", "--client", "nobody:"], ""),
        (&["inspect", "/nonexistent/\x1b[31m.so"], ""),
    ] {
        let shown = run(arguments.iter().chain(&["--no-default-plugin-path", "--plugin-path", folder]));
        let all = format!("{}{}", shown.text(), shown.stderr);
        assert!(all.contains(words), "{arguments:?}: {all}");
        let steers = |c: char| c.is_control() && c != '\n';
        assert!(!all.contains(steers), "{arguments:?}: {all:?}");
    }
}

#[test]
fn a_description_in_place_of_a_scheme_is_told_from_one() {
    for (arguments, words) in [
        (&["list-plugins", "--why", ""][..], "--why takes a scheme, as in --why tcp"),
        (
            &["list-plugins", "--why", "greet:tcp"],
            "--why takes a scheme alone, and not a description: --why greet",
        ),
        (&["inspect", ""], "inspect takes a scheme, as in inspect tcp"),
        (&["inspect", "tcp:80"], "inspect takes a scheme alone, and not a description: inspect tcp"),
        (&["inspect", "unix:/run/x"], "inspect takes a scheme alone, and not a description: inspect unix"),
        (&["inspect", "socks5:h:80:password=hunter2"], "inspect socks5\n"),
        (&["list-plugins", "--no-built-in="], "\"\" is no built-in scheme; there are "),
    ] {
        let shown = run(arguments);
        assert_eq!((shown.status, shown.stdout.len()), (Some(2), 0), "{arguments:?}: {shown:?}");
        assert!(shown.stderr.contains(words), "{arguments:?}: {shown:?}");
    }
    // A file may have a colon in its name.
    let folder = folder_with_socks5();
    let file = folder.path().join("a:b.so");
    fs::rename(folder.path().join("libendpoints_plugin_socks5.so"), &file).expect("another name");
    assert_eq!(run([std::ffi::OsStr::new("inspect"), file.as_os_str()]).status, Some(0));
}

#[test]
fn a_scheme_in_place_of_a_file_is_told_from_one() {
    let checked = run(["check-plugin", "tcp"]);
    assert_eq!(checked.status, Some(2));
    assert!(checked.stderr.contains("tcp cannot be checked: it is a scheme that is built in"), "{checked:?}");
    let folder = folder_with_socks5();
    let path = folder.path().to_str().expect("UTF-8");
    let checked = run(["check-plugin", "socks5", "--plugin-path", path]);
    assert!(
        checked.stderr.contains("the file of its plugin: ") && checked.stderr.contains(path),
        "{checked:?}"
    );
    let checked = run(["check-plugin", "nothing"]);
    assert!(checked.stderr.contains("give the path of a file that is there"), "{checked:?}");
    // A link that was named is not to be taken away, and a folder is not either.
    let inspected = run(["inspect", "/"]);
    assert!(inspected.stderr.contains("it is a folder; give the file of a plugin"), "{inspected:?}");
    let checked = run(["check-plugin", "--level", "load", built("deps").to_str().expect("UTF-8")]);
    assert!(checked.text().contains("it is a folder; give the file of a plugin"), "{checked:?}");
}
