//! Peers: other people's programs, started on loopback and ended with the test.

use std::collections::HashSet;
use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// The time after which whatever is waited for will not come. Generous: machines that test are busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at what nobody announces.
const BETWEEN_LOOKS: Duration = Duration::from_millis(3);

/// Ends the test, and says so, unless all these programs are installed; `"twisted"` is the Python that has it.
macro_rules! need {
    ($($program:literal),+) => {
        if [$($program),+].into_iter().any($crate::harness::is_missing) {
            return;
        }
    };
}
pub(crate) use need;

/// Whether a program is missing, which is said on screen, or fails the test where peers are required.
pub(crate) fn is_missing(program: &str) -> bool {
    let missing = find(program).is_none();
    if missing {
        let required = env::var_os("ENDPOINTS_TEST_REQUIRE_PEERS").is_some_and(|value| value == "1");
        assert!(!required, "{program} is not installed: run tests/install-peers");
        let test = thread::current();
        let test = test.name().unwrap_or("a test");
        // Not by a macro: what those print is shown only for tests that fail. In one piece, as tests run side by side.
        let line = format!("\nSKIPPED: {test}: {program} is not installed\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
    missing
}

/// The program of that name.
pub(crate) fn program(name: &str) -> PathBuf {
    find(name).unwrap_or_else(|| panic!("{name} is not installed: run tests/install-peers"))
}

fn find(name: &str) -> Option<PathBuf> {
    if name == "twisted" {
        // In cargo's target folder, which may have a folder for the platform between it and the profile's.
        return built("")
            .ancestors()
            .map(|folder| folder.join("peers/venv/bin/python"))
            .find(|path| path.exists());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    // Debian keeps daemons where an ordinary user's PATH does not look.
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// What cargo has built under that name in the profile's folder.
pub(crate) fn built(name: &str) -> PathBuf {
    let test = env::current_exe().expect("the path of this test");
    let path = test.ancestors().nth(2).expect("a test lies in a folder of the profile's").join(name);
    assert!(path.exists(), "{} is not there: run cargo build --workspace", path.display());
    path
}

/// A process that runs for a test. It and all its children are killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Peer {
    name: String,
    child: Child,
    output: PathBuf,
    errors: PathBuf,
}

/// How many were started, so that each has files of its own.
static STARTED: AtomicU64 = AtomicU64::new(0);

impl Peer {
    /// Starts a process whose outputs go to files in `folder`.
    pub(crate) fn start(command: &mut Command, folder: &Path) -> Self {
        let name =
            Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let file = |suffix| folder.join(format!("{name}.{number}.{suffix}"));
        let (output, errors) = (file("out"), file("err"));
        let create = |path: &Path| File::create_new(path).expect("a file for a peer's output");
        let child = command
            .stdout(create(&output))
            .stderr(create(&errors))
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self { name, child, output, errors }
    }

    /// The TCP port that the process listens on, as soon as it does; `None` when it has ended instead.
    pub(crate) fn try_port(&mut self) -> Option<u16> {
        self.wait_for("listening on a TCP port", |peer| {
            let own = peer.sockets();
            let port =
                ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| listening_port(table, &own));
            port.map(Some).or_else(|| peer.has_ended().then_some(None))
        })
    }

    /// The TCP port that the process listens on, as soon as it does.
    pub(crate) fn port(&mut self) -> u16 {
        self.try_port().unwrap_or_else(|| panic!("{} ended:\n{}", self.name, self.log()))
    }

    /// Waits until the process listens on the Unix socket at `path`.
    pub(crate) fn wait_for_socket(&mut self, path: &Path) {
        self.wait_for("listening on a Unix socket", |peer| {
            assert!(!peer.has_ended(), "{} ended:\n{}", peer.name, peer.log());
            is_listening(path, &peer.sockets()).then_some(())
        });
    }

    /// The first line of output that starts so, without that start.
    pub(crate) fn line(&mut self, start: &str) -> String {
        self.wait_for(start, |peer| {
            // Ended first, output then: the other way round a last line could be missed.
            let ended = peer.has_ended();
            let mut lines = complete_lines(&peer.output).chain(complete_lines(&peer.errors));
            let found = lines.find_map(|line| line.strip_prefix(start).map(str::to_owned));
            assert!(
                found.is_some() || !ended,
                "{} ended before it said {start:?}:\n{}",
                peer.name,
                peer.log()
            );
            found
        })
    }

    /// The lines of standard output so far.
    pub(crate) fn output(&self) -> Vec<String> {
        complete_lines(&self.output).collect()
    }

    /// Whatever it wrote, for messages.
    pub(crate) fn log(&self) -> String {
        let read = |path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        read(&self.output) + &read(&self.errors)
    }

    /// Sends a signal to the process alone.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("a signal to a process that was not waited for");
    }

    /// Waits until it ends by itself.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.wait_for("ending", |peer| peer.child.try_wait().expect("waiting for a child"))
    }

    /// Kills it and its children without a chance to clean up.
    pub(crate) fn kill(&mut self) {
        // Fails when all are gone, which is as good.
        let _ = kill_process_group(self.pid(), Signal::KILL);
        let _ = self.child.wait();
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("waiting for a child").is_some()
    }

    fn wait_for<T>(&mut self, what: &str, mut look: impl FnMut(&mut Self) -> Option<T>) -> T {
        wait_for(|| look(self))
            .unwrap_or_else(|| panic!("{}: not {what} in time:\n{}", self.name, self.log()))
    }

    /// The inodes of its open sockets.
    fn sockets(&self) -> HashSet<String> {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{}/fd", self.child.id())) else {
            return HashSet::new();
        };
        let links = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        links
            .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
            .collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Looks until there is something; `None` when there is nothing for too long.
pub(crate) fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        match look() {
            None if begun.elapsed() < PATIENCE => thread::sleep(BETWEEN_LOOKS),
            found => return found,
        }
    }
}

/// Runs a program to its end, with its standard input from a file where one is given; its output, if it succeeded.
pub(crate) fn run(command: &mut Command, input: Option<&Path>) -> Result<Vec<u8>, String> {
    let input = input.map_or_else(Stdio::null, |path| File::open(path).expect("the input").into());
    let name = command.get_program().to_string_lossy().into_owned();
    let ended = command.stdin(input).output().unwrap_or_else(|error| panic!("cannot run {name}: {error}"));
    match ended.status.success() {
        true => Ok(ended.stdout),
        false => Err(format!(
            "{name}: {}\n{}{}",
            ended.status,
            String::from_utf8_lossy(&ended.stdout),
            String::from_utf8_lossy(&ended.stderr)
        )),
    }
}

/// A TCP port of loopback that nobody uses now. For peers that cannot be told to choose one.
pub(crate) fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port of loopback");
    socket.local_addr().expect("its address").port()
}

/// The lines that have an end.
fn complete_lines(path: &Path) -> impl Iterator<Item = String> + use<> {
    let text = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let complete = text.rfind('\n').map_or(0, |end| end + 1);
    text[..complete].lines().map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// The port of the first listening socket of `own` in a table of proc(5). To connect instead would disturb the peer.
fn listening_port(table: &str, own: &HashSet<String>) -> Option<u16> {
    const LISTENING: &str = "0A";
    let text = fs::read_to_string(table).ok()?;
    text.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let (_, port) = local.split_once(':')?;
        (*state == LISTENING && own.contains(*inode)).then(|| u16::from_str_radix(port, 16).ok())?
    })
}

/// Whether one of the sockets `own` listens at `path`.
fn is_listening(path: &Path, own: &HashSet<String>) -> bool {
    const LISTENING: &str = "00010000";
    let text = String::from_utf8_lossy(&fs::read("/proc/net/unix").unwrap_or_default()).into_owned();
    text.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, _, _, flags, _, _, inode, bound, ..] = fields.as_slice() else { return false };
        *flags == LISTENING && own.contains(*inode) && Path::new(bound) == path
    })
}
