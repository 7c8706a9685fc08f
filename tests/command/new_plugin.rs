//! `new-plugin`: what it writes builds, passes its own tests, and works in both forms.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Run, Service, built, endpoints, finish, run, run_with};

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the repository")
}

fn plugin_api() -> PathBuf {
    root().join("plugin-api")
}

/// Runs `new-plugin` in a folder.
fn new_plugin(folder: &Path, arguments: &[&str]) -> Run {
    let mut command = endpoints(["new-plugin"].iter().chain(arguments));
    finish(command.current_dir(folder).spawn().expect("the command starts"))
}

/// A new plugin in a folder of its own, outside of the repository.
fn made(name: &str, kind: &str) -> (TempDir, PathBuf) {
    let folder = TempDir::new().expect("a folder");
    let api = plugin_api();
    let api = api.to_str().expect("text");
    let ended = new_plugin(folder.path(), &[name, "--kind", kind, "--plugin-api", api]);
    assert_eq!((ended.status, &*ended.stderr), (Some(0), ""), "{ended:?}");
    let made = folder.path().join(name);
    (folder, made)
}

/// Runs cargo in a folder, in a target folder of these tests so that dependencies are built once; it must succeed. What the
/// lock file names is there already, as a rule; else cargo may get it.
#[track_caller]
fn cargo(folder: &Path, arguments: &[&str]) -> String {
    let run = |offline: &[&str]| {
        let mut command = Command::new(env!("CARGO"));
        command.current_dir(folder).args(arguments.iter().take(1)).args(offline).args(&arguments[1..]);
        command
            .env("CARGO_TARGET_DIR", target())
            .env("CARGO_INCREMENTAL", "0")
            .env("CARGO_TERM_COLOR", "never");
        command.output().expect("cargo runs")
    };
    let output =
        Some(run(&["--offline"])).filter(|output| output.status.success()).unwrap_or_else(|| run(&[]));
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "cargo {arguments:?}:\n{stdout}\n{stderr}");
    stdout.into_owned()
}

fn target() -> PathBuf {
    let profile = built("endpoints").parent().expect("target/PROFILE").to_owned();
    profile.parent().expect("target").join("new-plugin")
}

#[test]
fn a_transport_can_be_used() {
    let name = format!("app-{}", std::process::id());
    can_be_used("my-transport", "transport", &format!("my-transport:{name}"), "timeout = 30 (default)");
}

#[test]
fn a_wrapper_can_be_used() {
    let server = r"my-wrapper:tcp\:0\:interface\=127.0.0.1";
    // What the listener tells says the word too.
    can_be_used("my-wrapper", "wrapper", server, "timeout = 10 (default)");
}

/// Takes a new plugin through all that its README says, and through more.
fn can_be_used(name: &str, kind: &str, server: &str, default: &str) {
    let (folder, plugin) = made(name, kind);
    // The versions that everything else is tested with.
    fs::copy(root().join("Cargo.lock"), plugin.join("Cargo.lock")).expect("a lock file");
    // What is left of earlier runs was built in other folders.
    cargo(&plugin, &["clean", "-p", name]);
    cargo(&plugin, &["clippy", "--all-targets", "--", "-D", "warnings"]);
    let tested = cargo(&plugin, &["test"]);
    let passed = tested.lines().filter(|line| line.starts_with("test ") && line.ends_with(" ... ok")).count();
    assert!(passed >= 4, "{tested}");
    cargo(&plugin, &["build"]);

    // Loaded from its file.
    let file = format!("lib{}.so", name.replace('-', "_"));
    let loaded = folder.path().join("plugins");
    fs::create_dir(&loaded).expect("a folder");
    fs::copy(target().join("debug").join(&file), loaded.join(&file)).expect("a copy of the plugin");
    for (path, mode) in [(loaded.clone(), 0o755), (loaded.join(&file), 0o644)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
    }
    let place = ["--no-default-plugin-path", "--plugin-path", loaded.to_str().expect("text")];
    let listed = run(["list-plugins", "--json", "--skip-built-in"].iter().chain(&place)).json();
    let plugin_of = &listed["plugins"][0];
    assert_eq!((&plugin_of["name"], &plugin_of["state"]), (&json!(name), &json!("available")), "{listed}");
    assert_eq!(plugin_of["schemes"][0]["kind"], kind);
    let service = Service::start(["listen", "--echo", server].iter().chain(&place));
    let client = service.description.clone();
    assert!(client.starts_with(&format!("{name}:")), "{client}");
    let explained = run(["explain", "--client", &client].iter().chain(&place));
    let words: Vec<_> = explained.text().split_whitespace().map(str::to_owned).collect();
    assert!(words.join(" ").contains(default), "{explained:?}");
    let echoed = run_with(["connect", &client].iter().chain(&place), b"hello\n");
    assert_eq!((echoed.status, echoed.text()), (Some(0), "hello\n".to_owned()), "{echoed:?}");
    service.stop();
    // Its examples are valid.
    let manifest = run(["inspect", "--json", name].iter().chain(&place)).json();
    for role in ["client", "server"] {
        for example in manifest["plugin"]["schemes"][0][role]["examples"].as_array().expect("examples") {
            let example = example.as_str().expect("text");
            let explained = run(["explain", &format!("--{role}"), example].iter().chain(&place));
            assert_eq!(explained.status, Some(0), "{explained:?}");
        }
    }

    // Compiled into a program.
    let program = folder.path().join("program");
    fs::create_dir_all(program.join("src")).expect("a folder");
    fs::write(program.join("Cargo.toml"), program_manifest(name, &plugin)).expect("a manifest");
    fs::write(program.join("src/main.rs"), PROGRAM.replace("NAME", &name.replace('-', "_")))
        .expect("a program");
    fs::copy(root().join("Cargo.lock"), program.join("Cargo.lock")).expect("a lock file");
    assert_eq!(cargo(&program, &["run", "--", server]), format!("{name} (built-in): hello\n"));
}

fn program_manifest(plugin: &str, folder: &Path) -> String {
    let (host, folder) = (root().join("host"), folder.display());
    format!(
        r#"
            [package]
            name = "program-with-{plugin}"
            edition = "2024"
            [dependencies]
            endpoints = {{ path = "{}", default-features = false, features = ["tcp"] }}
            {plugin} = {{ path = "{folder}" }}
            tokio = {{ version = "1", features = ["io-util", "macros", "rt"] }}
            [workspace]
        "#,
        host.display()
    )
}

/// Listens, connects to that, and says who provides it and what arrived.
const PROGRAM: &str = r#"
    use NAME as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::main(flavor = "current_thread")]
    async fn main() -> Result<(), Box<dyn std::error::Error>> {
        let server = std::env::args().nth(1).ok_or("a description is missing")?;
        let registry = endpoints::Registry::builder().default_plugin_path(false).build()?;
        let listener = registry.server(&*server)?.listen().await?;
        let reachable = listener.reachable().remove(0);
        let client = registry.client(reachable.text())?;
        let accepting = async { listener.accept().await?.await };
        let (mut connected, mut accepted) = tokio::try_join!(client.connect(), accepting)?;
        connected.write_all(b"hello").await?;
        connected.shutdown().await?;
        let mut heard = String::new();
        accepted.read_to_string(&mut heard).await?;
        let (manifest, origin) = registry.manifest(client.scheme())?;
        println!("{} ({origin}): {heard}", manifest.build.name);
        Ok(())
    }
"#;

#[test]
fn the_code_is_formatted_whatever_the_name() {
    for name in ["a", "my-thing", &"x".repeat(64)] {
        for kind in ["transport", "wrapper"] {
            let (_folder, plugin) = made(name, kind);
            let output = Command::new(env!("CARGO")).args(["fmt", "--check"]).current_dir(plugin).output();
            let output = output.expect("cargo runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        }
    }
}

#[test]
fn what_was_written_is_told() {
    let folder = TempDir::new().expect("a folder");
    let api = plugin_api();
    let given = ["my-thing", "--plugin-api", api.to_str().expect("text")];
    let ended = new_plugin(folder.path(), &given);
    let text = ended.text();
    let told: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("wrote ")).collect();
    assert!(told.contains(&"my-thing/.github/workflows/ci.yml"), "{text}");
    for file in &told {
        let content = fs::read_to_string(folder.path().join(file)).expect(file);
        assert!(!content.contains("{{"), "{file}: {content}");
    }
    assert!(text.contains("\n  cargo test\n  cargo build\n"), "{text}");
    // The commands are those of the README.
    let readme = fs::read_to_string(folder.path().join("my-thing/README.md")).expect("a README");
    for command in text.lines().filter_map(|line| line.strip_prefix("  ")).skip(1) {
        assert!(readme.contains(command), "{command}: {readme}");
    }
    let again = TempDir::new().expect("a folder");
    let document = new_plugin(again.path(), &[&["--json"], &given[..]].concat()).json();
    assert_eq!((&document["name"], &document["files"]), (&json!("my-thing"), &json!(told)));
    assert_eq!(document["next"][0], "cd my-thing");
}

#[test]
fn the_book_shows_what_is_printed() {
    let folder = TempDir::new().expect("a folder");
    symlink(root(), folder.path().join("endpoints")).expect("a link to the repository");
    let words = "new-plugin greet --kind wrapper --plugin-api endpoints/plugin-api";
    let arguments: Vec<_> = words.split(' ').skip(1).collect();
    let printed = new_plugin(folder.path(), &arguments).text();
    let page = fs::read_to_string(root().join("docs/src/plugins.md")).expect("the chapter");
    let shown = format!("```console\n$ endpoints {words}\n{printed}```\n");
    assert!(page.contains(&shown), "{shown}");
}

#[test]
fn a_dependency_that_is_not_published_is_told_of() {
    let workspace = fs::read_to_string(root().join("Cargo.toml")).expect("the workspace's manifest");
    let published = !workspace.contains("\npublish = false\n");
    for json in [false, true] {
        let folder = TempDir::new().expect("a folder");
        let json: &[&str] = if json { &["--json"] } else { &[] };
        let ended = new_plugin(folder.path(), &[&["my-thing"], json].concat());
        assert_eq!(ended.status, Some(0), "{ended:?}");
        assert_eq!(ended.stderr.contains("not on crates.io yet"), !published, "{ended:?}");
        assert!(published || ended.stderr.contains("--plugin-api PATH"), "{ended:?}");
        let manifest = fs::read_to_string(folder.path().join("my-thing/Cargo.toml")).expect("a manifest");
        assert!(manifest.contains("\nendpoints-plugin-api = { version = \"1\" }\n"), "{manifest}");
    }
}

#[test]
fn wrong_requests_name_what_is_wrong_and_leave_nothing() {
    let folder = TempDir::new().expect("a folder");
    fs::create_dir(folder.path().join("there")).expect("a folder");
    let root = root().to_str().expect("text");
    let inside = format!("give {root}/plugin-api");
    for (arguments, reason) in [
        (&["My_Thing"][..], "small letter from a to z; my-thing would do"),
        (&["foo--bar"], "- stands twice in a row, which Rust warns of; foo-bar would do"),
        (&["type"], "it is a keyword of Rust; my-type would do"),
        (&["tcp"], "the scheme is built in; my-tcp would do"),
        (&["../x"], "it is a path, and the folder is made where the command runs; x would do"),
        (&[""], "it is empty; my-scheme would do"),
        (&["there"], "there is there already; choose another name"),
        (&["x", "--plugin-api", "/nonexistent"], "--plugin-api /nonexistent: No such file or directory"),
        (&["x", "--plugin-api", root], &inside),
        (&["x", "--plugin-api", "."], "--plugin-api .: it is not the folder of endpoints-plugin-api, which"),
    ] {
        let ended = new_plugin(folder.path(), arguments);
        assert_eq!((ended.status, ended.stdout.len()), (Some(2), 0), "{arguments:?}: {ended:?}");
        assert!(ended.stderr.starts_with("error: ") && ended.stderr.contains(reason), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        let ended = new_plugin(folder.path(), &[arguments, &["--json"]].concat());
        assert_eq!((ended.status, &ended.error()["kind"]), (Some(2), &json!("invalid-setting")), "{ended:?}");
    }
    assert_eq!(new_plugin(folder.path(), &["x", "--kind", "both"]).status, Some(2));
    // The folder that was there is as it was.
    let left: Vec<_> = fs::read_dir(folder.path()).expect("a folder").collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(fs::read_dir(folder.path().join("there")).expect("a folder").count(), 0);
    // Where nothing can be written it failed, and the request was sound.
    let ended = new_plugin(Path::new("/proc"), &["x"]);
    assert_eq!(ended.status, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("cannot create the folder x: "), "{ended:?}");
}

#[test]
fn a_built_in_scheme_that_is_left_out_can_be_written_anew() {
    let folder = TempDir::new().expect("a folder");
    let ended = new_plugin(folder.path(), &["tcp", "--no-built-in=tcp"]);
    assert_eq!(ended.status, Some(0), "{ended:?}");
}
