//! The examples and what they talk to.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use endpoints::Description;
use endpoints_tests::{build, make_certificates};
use tempfile::TempDir;

use crate::harness::{Peer, program, run};

/// A folder with certificates, and for sockets.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub(crate) fn with_certificates() -> Self {
        let place = Self::new();
        make_certificates(&place.path().join("pki")).expect("certificates");
        place
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// A file of it, as it stands in a description.
    pub(crate) fn quoted(&self, name: &str) -> String {
        endpoints::quote_str(self.path().join(name).to_str().expect("UTF-8")).into_owned()
    }
}

/// An example; it finds the plugins that were built.
pub(crate) fn example(name: &str) -> Command {
    let program = build::example(name);
    let mut command = Command::new(&program);
    command.stdin(Stdio::null());
    command
}

/// A running example that listens.
pub(crate) struct Server {
    pub(crate) process: Peer,
    /// Where a client reaches it.
    pub(crate) reached_by: Description,
}

impl Server {
    pub(crate) fn start(place: &Place, name: &str, arguments: &[&str]) -> Self {
        let mut process = Peer::start(example(name).args(arguments), place.path());
        let line = process.line("listening on ");
        Self { process, reached_by: line.parse().expect("a description") }
    }

    /// The port, where there is one on any level.
    pub(crate) fn port(&self) -> u16 {
        port(&self.reached_by)
    }

    /// Ends it as a user would.
    pub(crate) fn interrupt(mut self) {
        self.process.signal(rustix::process::Signal::INT);
        let status = self.process.ended();
        assert!(status.success(), "{status}: {}", self.process.log());
    }
}

fn port(description: &Description) -> u16 {
    let inner = || {
        let inner = description.keyword("endpoint").expect("a port, or an endpoint within");
        port(&Description::parse(inner.value()).expect("a description"))
    };
    let port = description.keyword("port");
    port.map_or_else(inner, |port| String::from_utf8_lossy(&port.value()).parse().expect("a port"))
}

/// The answer that curl gets.
pub(crate) fn curl(arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program("curl"));
    command.args(["-q", "--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "60"]);
    run(command.args(arguments), None).map(|answer| String::from_utf8(answer).expect("UTF-8"))
}

/// A folder with plugins that are not compiled in.
pub(crate) fn plugins(place: &Place) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;

    let folder = place.path().join("plugins");
    fs::create_dir(&folder).expect("a folder");
    let file = "libendpoints_plugin_socks5.so";
    fs::copy(crate::harness::built(file), folder.join(file)).expect("a copy of the plugin");
    for path in [folder.join(file), folder.clone()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("the right to change a mode");
    }
    folder
}

/// A real SOCKS5 proxy, and its port.
pub(crate) fn microsocks(place: &Place) -> (Peer, u16) {
    let mut command = Command::new(program("microsocks"));
    let mut proxy = Peer::start(command.args(["-i", "127.0.0.1", "-p", "0"]), place.path());
    let port = proxy.port();
    (proxy, port)
}
