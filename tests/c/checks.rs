//! Programs in C that look at parts of the helpers and of the plugins by themselves.

use std::process::Command;

use endpoints_tests::c::{compiler, cpp_compiler, headers, root};

/// Compiles a program of these files of `tests/fixtures/c`, and runs it.
fn run(mut compiler: Command, language: &[&str], files: &[&str]) {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("program");
    compiler
        .args(language)
        .args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-O2", "-I"])
        .arg(headers())
        .args(files.iter().map(|file| root().join("tests/fixtures/c").join(file)))
        .arg("-o")
        .arg(&program);
    let built = compiler.output().expect("a compiler");
    assert!(built.status.success(), "{compiler:?}: {}", String::from_utf8_lossy(&built.stderr));
    // The words of the system are compared.
    let output = Command::new(program).env("LC_ALL", "C").output().expect("it runs");
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
}

#[test]
fn helpers_do_as_they_say() {
    run(compiler(), &["-std=c11"], &["checks/helpers.c"]);
    if let Some(compiler) = cpp_compiler("the helpers in C++") {
        run(compiler, &["-std=c++17", "-xc++"], &["checks/helpers.c"]);
    }
}

/// A host that says "ready" and has tried nothing makes no connection of a descriptor, and no end of a stream.
#[test]
fn what_was_not_tried_has_failed() {
    let parts = ["client.c", "listener.c", "socket.c", "stream.c"].map(|file| format!("ctcp/{file}"));
    let parts: Vec<&str> = parts.iter().map(String::as_str).chain(["checks/ctcp.c"]).collect();
    run(compiler(), &["-std=c11"], &parts);
}
