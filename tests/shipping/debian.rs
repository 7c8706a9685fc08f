//! The Debian package of the book, in a system of its own: a mount namespace in which `/usr`, dpkg's records and its log are
//! covered by overlays. `dpkg -i` does there what it does everywhere, down to the real path that hosts look at, the real
//! check of dependencies and the real renaming; this machine sees nothing of it, and when the last process in it has ended,
//! however the test ended, it is gone. With `dpkg --root`, the command would not find the plugin where it looks by itself.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use endpoints_tests::build::files;
use endpoints_tests::object::edition;
use tempfile::TempDir;

use crate::{is_root, missing};

/// Whether packages can be built here.
pub(crate) fn can_package() -> bool {
    Command::new("dpkg-shlibdeps").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// A system like this machine's, to be changed at will.
pub(crate) struct System {
    /// Holds the namespace.
    holder: Child,
}

impl System {
    /// None, and said, where there cannot be one.
    pub(crate) fn new() -> Option<Self> {
        if !is_root() || !can_package() {
            missing("installing Debian packages", "that takes root, on Debian, with dpkg-dev");
            return None;
        }
        let script = r#"
            set -eu
            changes=$(mktemp -d)
            mount -t tmpfs -o mode=755 tmpfs "$changes"
            for folder in /usr /var/lib/dpkg /var/log; do
                mkdir -p "$changes$folder/upper" "$changes$folder/work"
                mount -t overlay -o "lowerdir=$folder,upperdir=$changes$folder/upper,workdir=$changes$folder/work" \
                    overlay "$folder"
            done
            umount --lazy "$changes"
            rmdir "$changes"
            echo ready
            # Until the test has ended, in whatever way.
            exec cat
        "#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "--kill-child", "sh", "-c", script]);
        let made = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut holder = match made {
            Ok(holder) => holder,
            Err(error) => {
                missing("Debian packages", &format!("unshare: {error}"));
                return None;
            }
        };
        let mut line = String::new();
        let stdout = holder.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("it can be read");
        if line.trim() != "ready" {
            let words = holder.wait_with_output().expect("its end").stderr;
            missing("Debian packages", &format!("no namespace: {}", String::from_utf8_lossy(&words)));
            return None;
        }
        Some(Self { holder })
    }

    /// A command that runs in there.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, command: impl IntoIterator<Item = A>) -> Command {
        let mut inside = Command::new("nsenter");
        inside.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id())).arg("--").args(command);
        inside.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("XDG_DATA_HOME", "/nonexistent");
        inside.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C.UTF-8");
        inside.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        inside
    }

    /// Runs one, which must succeed; gives what it prints.
    #[track_caller]
    pub(crate) fn run<A: AsRef<OsStr>>(&self, command: impl IntoIterator<Item = A>) -> String {
        let mut command = self.command(command);
        succeeded(&mut command)
    }
}

impl Drop for System {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[track_caller]
fn succeeded(command: &mut Command) -> String {
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("text")
}

/// The page that has the files of the package.
const PAGE: &str = include_str!("../../docs/src/packaging.md");

/// What the package is called in these tests.
pub(crate) const PACKAGE: &str = "endpoints-plugin-edition";

/// A source tree as the book says, but with the fixture `edition` in place of the plugin `xor`.
pub(crate) struct Source {
    folder: TempDir,
}

impl Source {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let files = files(PAGE);
        let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["debian/control", "debian/changelog", "debian/copyright", "build-package"]);
        fs::create_dir(folder.path().join("debian")).expect("a folder");
        for (name, text) in files {
            fs::write(folder.path().join(name), text.replace("xor", "edition")).expect("a file");
        }
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("text").to_owned()
    }

    /// The package of a build of that version.
    pub(crate) fn package(&self, version: &str) -> String {
        edition(version, Path::new(&self.path("libedition.so")));
        let mut script = Command::new("sh");
        script.args(["build-package", "libedition.so"]).current_dir(self.folder.path());
        succeeded(&mut script);
        let mut built: Vec<_> = fs::read_dir(self.folder.path())
            .expect("the folder")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .collect();
        built.sort();
        built.pop().expect("a package").to_str().expect("text").to_owned()
    }

    /// Begins a new version of the package, as its maintainer would.
    pub(crate) fn new_version(&self, version: &str) {
        let file = self.path("debian/changelog");
        let older = fs::read_to_string(&file).expect("the changelog");
        let newer = format!(
            "{PACKAGE} ({version}) unstable; urgency=medium\n\n  * Another build.\n\n \
             -- Jo Example <jo@example.org>  Sun, 02 Aug 2026 12:00:00 +0000\n\n"
        );
        fs::write(file, newer + &older).expect("the changelog");
    }
}
