//! A process that has rights which its user has not: what that user puts into the environment leads to no plugin.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use endpoints_tests::object::{built as plugin, file_name};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Run, built, finish};
use crate::{is_root, missing, skip};

const PASS: &str = "endpoints_fixture_pass";
/// A user and a group that nobody is in.
const SOMEBODY: u32 = 54_321;

/// Folders that only root can write to, with a plugin where the environment is going to point.
struct Places {
    folder: TempDir,
}

impl Places {
    fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        open(folder.path());
        for place in ["environment", "data/endpoints/plugins", "home/.local/share/endpoints/plugins"] {
            let place = folder.path().join(place);
            fs::create_dir_all(&place).expect("a folder");
            let file = place.join(file_name(PASS));
            fs::copy(plugin(PASS), &file).expect("a copy");
            open(&file);
        }
        Self { folder }
    }

    /// Whether programs there get the rights that their files give them.
    fn give_rights(&self) -> bool {
        let mounted = rustix::fs::statvfs(self.folder.path()).expect("the file system");
        !mounted.f_flag.contains(rustix::fs::StatVfsMountFlags::NOSUID)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A copy of the command.
    fn program(&self, name: &str) -> PathBuf {
        let program = self.path(name);
        // By another process: what a test beside this one starts may have files for a moment that are open here, and none is
        // executed while somebody has it open to write (ETXTBSY).
        let copied = Command::new("cp").arg(built("endpoints")).arg(&program).status();
        assert!(copied.expect("cp").success());
        open(&program);
        program
    }

    /// Runs it as somebody who is not root, in an environment that points to the plugins.
    fn run(&self, program: &Path, arguments: &[&str]) -> Run {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().uid(SOMEBODY).gid(SOMEBODY);
        command.env("ENDPOINTS_PLUGIN_PATH", self.path("environment"));
        command.env("XDG_DATA_HOME", self.path("data")).env("HOME", self.path("home"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(command.spawn().expect("it starts"))
    }
}

fn open(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("its mode");
}

/// Sees to it that the environment leads that program to no plugin, and that it says so.
fn assert_ignored(places: &Places, program: &Path) {
    let listed = places.run(program, &["list-plugins", "--json"]).json();
    let files = listed["plugins"].as_array().expect("an array").iter();
    let files: Vec<_> = files.filter(|plugin| plugin["origin"]["kind"] == "file").collect();
    let ours = places.folder.path().to_str().expect("text");
    let is_ours =
        |plugin: &&&Value| plugin["origin"]["path"].as_str().is_some_and(|path| path.starts_with(ours));
    assert_eq!(files.iter().find(is_ours), None);
    let why = places.run(program, &["list-plugins", "--why", "pass"]);
    assert_eq!(why.status, Some(2), "{why:?}");
    for place in ["environment (ENDPOINTS_PLUGIN_PATH)", "data/endpoints/plugins (user data)"] {
        let line = why.text().lines().find(|line| line.contains(place)).map(str::to_owned);
        let line = line.unwrap_or_else(|| panic!("{place} is not told: {}", why.text()));
        assert!(line.contains("ignored: the environment names it"), "{line}");
    }
    assert!(why.text().contains("nobody provides pass"), "{why:?}");
    let explained = places.run(program, &["explain", "--client", "--json", r"pass:tcp\:127.0.0.1\:80"]);
    assert_eq!(explained.error()["kind"], "unknown-scheme", "{explained:?}");
    // What the program is told otherwise counts, and can be loaded by such a process.
    let given = places.path("environment");
    let arguments =
        ["explain", "--client", r"pass:tcp\:127.0.0.1\:80", "--plugin-path", given.to_str().expect("text")];
    let explained = places.run(program, &arguments);
    assert_eq!(explained.status, Some(0), "{explained:?}");
}

#[test]
fn the_environment_counts_for_nothing_with_raised_privileges() {
    if !is_root() {
        return skip("raised privileges", "only root can give rights away");
    }
    let places = Places::new();
    if !places.give_rights() {
        return skip("raised privileges", "programs in the folder of temporary files get none (nosuid)");
    }
    // Without such rights it counts: the test can see what it is about.
    let program = places.program("plain");
    let listed = places.run(&program, &["list-plugins", "--why", "pass"]);
    assert_eq!(listed.status, Some(0), "{listed:?}");
    assert!(listed.text().contains("pass is provided by endpoints-fixture-pass"), "{listed:?}");

    let program = places.program("set-user-id");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).expect("its mode");
    assert_ignored(&places, &program);

    let program = places.program("set-group-id");
    chown(&program, None, Some(SOMEBODY + 1)).expect("chown");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o2755)).expect("its mode");
    assert_ignored(&places, &program);
}

#[test]
fn the_environment_counts_for_nothing_with_file_capabilities() {
    if !is_root() {
        return skip("file capabilities", "only root can give them");
    }
    let places = Places::new();
    if !places.give_rights() {
        return skip("file capabilities", "programs in the folder of temporary files get none (nosuid)");
    }
    let program = places.program("capable");
    let mut setcap = Command::new("setcap");
    setcap.arg("cap_net_bind_service=ep").arg(&program);
    match setcap.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin").status() {
        Ok(status) if status.success() => assert_ignored(&places, &program),
        problem => missing("file capabilities", &format!("setcap: {problem:?}")),
    }
}
