//! A plugin in a package: installed, found, used, upgraded beside hosts that run, and removed.

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use endpoints::{Origin, Registry};
use serde_json::{Value, json};

use crate::debian::{PACKAGE, Source, System, can_package};
use crate::harness::{LIMIT, Service, built, wait};
use crate::missing;

const FIRST: &str = "1.0.0-first.build";
const OTHER: &str = "1.0.0-other.build";
const FILE: &str = "/usr/lib/endpoints/plugins/libedition.so";

/// What `list-plugins` says of the plugin, with nothing but the system's places to look at.
fn listed(system: &System) -> Option<Value> {
    let command = built("endpoints");
    let text = system.run([command.to_str().expect("text"), "list-plugins", "--json"]);
    let mut document: Value = serde_json::from_str(&text).expect("JSON");
    let plugins: Vec<Value> = serde_json::from_value(document["plugins"].take()).expect("an array");
    plugins.into_iter().find(|plugin| plugin["name"] == "endpoints-fixture-edition")
}

/// The command, with the plugin around a listener of its own.
fn host(system: &System) -> Service {
    let command = built("endpoints");
    let command =
        [command.to_str().expect("text"), "listen", "--echo", r"edition:tcp\:0\:interface\=127.0.0.1"];
    Service::started(system.command(command).stdin(Stdio::piped()).spawn().expect("it starts"))
}

/// A connection to a host; the version that its plugin says it is.
fn connection(host: &Service) -> (BufReader<TcpStream>, String) {
    let mut stream = BufReader::new(host.tcp());
    let mut version = String::new();
    stream.read_line(&mut version).expect("its version");
    (stream, version.trim_end().to_owned())
}

/// Sees to it that a new connection is served by that version.
#[track_caller]
fn assert_serves(host: &Service, expected: &str) {
    let (mut stream, version) = connection(host);
    assert_eq!(version, expected);
    echo(&mut stream, b"there and back");
}

fn echo(stream: &mut BufReader<TcpStream>, words: &[u8]) {
    stream.get_mut().write_all(words).expect("write");
    let mut heard = vec![0; words.len()];
    stream.read_exact(&mut heard).expect("read");
    assert_eq!(heard, words);
}

/// Traffic without a pause, until it is told to stop; tells how many times it went there and back.
struct Traffic {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicUsize>,
    thread: thread::JoinHandle<()>,
}

impl Traffic {
    fn through(mut stream: BufReader<TcpStream>) -> Self {
        let (stop, rounds) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&rounds));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                echo(&mut stream, &[b'x'; 5000]);
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, rounds, thread }
    }

    /// Waits until some more went through.
    fn flows(&self) {
        let before = self.rounds.load(Ordering::Relaxed);
        let begun = std::time::Instant::now();
        while self.rounds.load(Ordering::Relaxed) < before + 10 {
            assert!(begun.elapsed() < LIMIT && !self.thread.is_finished(), "traffic has stopped");
            thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("no fault on the way");
    }
}

#[test]
fn a_package_is_built_as_the_book_says() {
    if !can_package() {
        return missing("Debian packages", "there is no dpkg-dev");
    }
    let source = Source::new();
    let package = source.package(FIRST);
    assert!(package.contains("/endpoints-plugin-edition_0.1.0-1_"), "{package}");
    let show = |arguments: &[&str]| {
        let output = std::process::Command::new("dpkg-deb").args(arguments).arg(&package).output();
        String::from_utf8(output.expect("dpkg-deb").stdout).expect("text")
    };
    let content = show(&["--contents"]);
    let mut entries: Vec<(&str, &str)> = Vec::new();
    for line in content.lines() {
        let mut columns = line.split_whitespace();
        let mode = columns.next().expect("a mode");
        assert_eq!(columns.next(), Some("root/root"), "{line}");
        let path = columns.next_back().expect("a path");
        assert_eq!(mode, if path.ends_with('/') { "drwxr-xr-x" } else { "-rw-r--r--" }, "{line}");
        entries.push((mode, path));
    }
    let files: Vec<_> = entries.iter().map(|(_, path)| *path).filter(|path| !path.ends_with('/')).collect();
    assert_eq!(
        files,
        [
            "./usr/lib/endpoints/plugins/libedition.so",
            "./usr/share/doc/endpoints-plugin-edition/changelog.Debian.gz",
            "./usr/share/doc/endpoints-plugin-edition/copyright"
        ]
    );
    let control = show(&["--field"]);
    for line in
        ["Version: 0.1.0-1", "Section: net", "Depends: libc6 (>= ", "Enhances: endpoints", "Installed-Size: "]
    {
        assert!(control.lines().any(|known| known.starts_with(line)), "{line}: {control}");
    }
}

#[test]
fn a_package_is_installed_upgraded_beside_running_hosts_and_removed() {
    let Some(system) = System::new() else { return };
    let source = Source::new();
    let first = source.package(FIRST);
    assert_eq!(listed(&system), None);

    system.run(["dpkg", "-i", &first]);
    assert!(!Path::new(FILE).exists(), "this machine is as it was");
    let found = listed(&system).expect("it is found where it is installed");
    assert_eq!(
        (&found["version"], &found["state"], &found["origin"]["path"]),
        (&json!(FIRST), &json!("available"), &json!(FILE))
    );
    assert_eq!(system.run(["dpkg", "--verify", PACKAGE]), "");

    let old = host(&system);
    let (stream, version) = connection(&old);
    assert_eq!(version, FIRST);
    let traffic = Traffic::through(stream);
    let mut program = Program::start(&system);
    traffic.flows();

    source.new_version("0.2.0-1");
    let second = source.package(OTHER);
    system.run(["dpkg", "-i", &second]);

    // What runs goes on as it was, for connections that there are and for new ones.
    traffic.flows();
    assert_serves(&old, FIRST);
    // As the page for operators has it.
    let maps = format!("/proc/{}/maps", old.child.id());
    assert_eq!(system.run(["grep", "-l", "endpoints/plugins/.*(deleted)", &maps]), format!("{maps}\n"));
    // What is started now has the new version.
    assert_eq!(listed(&system).expect("it is found")["version"], json!(OTHER));
    let new = host(&system);
    assert_serves(&new, OTHER);
    program.go_on();

    system.run(["dpkg", "--purge", PACKAGE]);
    assert_eq!(listed(&system), None);
    assert_eq!(system.run(["sh", "-c", "ls -d /usr/lib/endpoints 2>/dev/null || echo gone"]), "gone\n");
    traffic.flows();
    assert_serves(&old, FIRST);
    assert_serves(&new, OTHER);
    traffic.stop();
    old.stop();
    new.stop();
    program.go_on();
    assert_eq!(program.wait(), Some(0));
}

/// What tells the test below that it is the program.
const INSIDE: &str = "ENDPOINTS_TEST_INSIDE";

/// A program that makes registries by itself: this test, once more.
struct Program {
    child: std::process::Child,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Program {
    fn start(system: &System) -> Self {
        let test = env::current_exe().expect("this test");
        let arguments = ["--exact", "--nocapture", "upgrade::a_program_that_makes_registries_of_its_own"];
        let mut command = system.command([test.to_str().expect("text")].iter().chain(&arguments));
        command.env(INSIDE, "1").stdin(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().expect("it starts");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut program = Self { child, stdout };
        program.expect_done();
        program
    }

    /// Lets it do its next part.
    fn go_on(&mut self) {
        writeln!(self.child.stdin.as_ref().expect("a pipe")).expect("it waits for a line");
        self.expect_done();
    }

    fn expect_done(&mut self) {
        let mut lines = self.stdout.by_ref().lines().map(|line| line.expect("text"));
        assert!(lines.any(|line| line.ends_with("part done")), "the program has failed");
    }

    fn wait(&mut self) -> Option<i32> {
        wait(&mut self.child)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_program_that_makes_registries_of_its_own() {
    if env::var_os(INSIDE).is_none() {
        return;
    }
    let pause = || {
        println!("part done");
        std::io::stdin().read_line(&mut String::new()).expect("a line");
    };
    let registry = || {
        let registry = Registry::builder().build().expect("a registry");
        let listed = registry.manifest("edition").map(|(manifest, _)| manifest.build.version.to_string());
        (registry, listed)
    };
    let runs = async |registry: &Registry| {
        let server = registry.server("tcp:0:interface=127.0.0.1")?;
        let listener = server.listen().await?;
        let port = listener.addresses()[0].port().expect("a port");
        let connection = registry.client(format!(r"edition:tcp\:127.0.0.1\:{port}"))?.connect().await?;
        let info = connection.info();
        Ok::<_, endpoints::Error>(
            String::from_utf8_lossy(info.fact("edition.version").expect("it")).into_owned(),
        )
    };
    let (used, version) = registry();
    let (listed, _) = registry();
    assert_eq!(version.expect("it is installed"), FIRST);
    assert_eq!(used.manifest("edition").expect("it").1, Origin::File(FILE.into()));
    assert_eq!(runs(&used).await.expect("it runs"), FIRST);

    pause();
    assert_eq!(runs(&used).await.expect("it runs as before"), FIRST);
    let error = runs(&listed).await.expect_err("it had not been loaded");
    assert!(
        error.message().contains("the file has changed since it was listed; make a new registry"),
        "{error}"
    );
    let (new, version) = registry();
    assert_eq!(version.expect("it is installed"), OTHER);
    assert_eq!(runs(&new).await.expect("it runs"), OTHER);

    pause();
    assert_eq!(runs(&used).await.expect("it runs as before"), FIRST);
    assert_eq!(runs(&new).await.expect("it runs as before"), OTHER);
    registry().1.expect_err("it is removed");
    println!("part done");
}
