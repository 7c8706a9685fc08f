//! The real Twisted on the other side, with the very same descriptions.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use endpoints::{Error, ErrorKind, Registry};
use tempfile::TempDir;

use crate::data::{MEGABYTE, hash, noise, noise_file};
use crate::harness::{Peer, need, program};
use crate::ours::{EchoServer, Plugins, exchange, wait};

const LENGTH: usize = 5 * MEGABYTE;

const LISTENING: &str = "listening";

/// Runs one of the scripts beside this file.
fn script(name: &str, arguments: &[&str], folder: &Path) -> Peer {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(name);
    Peer::start(Command::new(program("twisted")).arg(script).args(arguments), folder)
}

/// Twisted as a server; it listens, or has said why not.
fn server(description: &str, folder: &Path) -> (Peer, String) {
    let mut peer = script("twisted_server.py", &[description], folder);
    let said = peer.line("");
    (peer, said)
}

/// Twisted as a client that sends `file`: what it said in the end.
fn client(description: &str, file: &Path, folder: &Path) -> String {
    let mut peer = script("twisted_client.py", &[description, &file.display().to_string()], folder);
    peer.ended();
    peer.line("")
}

/// A folder, a file to send and a registry.
struct Setting {
    folder: TempDir,
    file: PathBuf,
    _plugins: TempDir,
    registry: Registry,
}

impl Setting {
    fn new(plugins: Plugins) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = noise_file(folder.path(), "file", LENGTH, 4);
        let plugin_folder = plugins.folder();
        let registry = plugins.registry(plugin_folder.path());
        Self { folder, file, _plugins: plugin_folder, registry }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn lock(&self) -> PathBuf {
        self.folder.path().join("socket.lock")
    }

    fn unix(&self, arguments: &str) -> String {
        format!("unix:{}{arguments}", self.socket().display())
    }

    fn identities(&self) -> [Identity; 2] {
        [self.socket(), self.lock()].map(|path| Identity::of(&path))
    }

    /// The socket, the lock, and whatever else has a name that begins like theirs.
    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).expect("the folder");
        let names = entries.filter_map(|entry| entry.expect("an entry").file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| name.starts_with("socket")).collect();
        names.sort();
        names
    }

    fn serve(&self, description: &str) -> Result<EchoServer, Error> {
        EchoServer::start(&self.registry, description)
    }

    /// Our client at a server that sends everything back and says goodbye.
    fn connect(&self, description: &str) -> Result<(), Error> {
        let client = self.registry.client(description)?;
        wait(async {
            let sent = noise(LENGTH, 5);
            let received = exchange(client.connect().await?, &sent).await;
            assert_eq!(received.len(), LENGTH + "goodbye".len());
            assert!(received.starts_with(&sent) && received.ends_with(b"goodbye"), "other bytes came back");
            Ok(())
        })
    }

    /// Twisted's client at our server.
    fn twisted_connects(&self, description: &str) {
        let said = client(description, &self.file, self.folder.path());
        assert_eq!(said, format!("received {LENGTH} {}", hash(&self.file)), "by {description}");
    }

    fn twisted_listens(&self, description: &str) -> Peer {
        let (peer, said) = server(description, self.folder.path());
        assert_eq!(said, LISTENING, "{}", peer.log());
        peer
    }
}

#[test]
fn twisted_connects_to_us() {
    need!("twisted", "sha256sum");
    for plugins in Plugins::BOTH {
        let setting = Setting::new(plugins);
        for description in
            ["tcp:0:interface=127.0.0.1".to_owned(), "tcp6:0:interface=\\:\\:1".to_owned(), setting.unix("")]
        {
            let server = setting.serve(&description).expect("a listener");
            // The descriptions that we give out are understood there as they are.
            for reachable in &server.reachable {
                setting.twisted_connects(reachable);
                if reachable.starts_with("unix") {
                    setting.twisted_connects(&format!("{reachable}:lockfile=1"));
                }
            }
            server.stop();
        }
        assert!(setting.files().is_empty(), "{:?} are left behind", setting.files());
    }
}

#[test]
fn we_connect_to_twisted() {
    need!("twisted");
    for plugins in Plugins::BOTH {
        let setting = Setting::new(plugins);
        let mut peer = setting.twisted_listens("tcp:0:interface=127.0.0.1");
        setting.connect(&format!("tcp:127.0.0.1:{}", peer.port())).expect("a connection");
        let mut peer = setting.twisted_listens("tcp6:0:interface=\\:\\:1");
        setting.connect(&format!("tcp:host=\\:\\:1:port={}", peer.port())).expect("a connection");
        let _peer = setting.twisted_listens(&setting.unix(""));
        setting.connect(&setting.unix("")).expect("a connection");
        setting.connect(&setting.unix(":checkPID=1")).expect("a connection");
    }
}

#[test]
fn no_lock_no_connection() {
    need!("twisted");
    for plugins in Plugins::BOTH {
        let setting = Setting::new(plugins);
        let _peer = setting.twisted_listens(&setting.unix(":lockfile=0"));
        setting.connect(&setting.unix("")).expect("a connection");
        let error = setting.connect(&setting.unix(":checkPID=1")).expect_err("there is no lock");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    }
}

#[test]
fn no_lock_no_connection_of_twisted() {
    need!("twisted", "sha256sum");
    for plugins in Plugins::BOTH {
        let setting = Setting::new(plugins);
        let server = setting.serve(&setting.unix(":lockfile=0")).expect("a listener");
        setting.twisted_connects(&setting.unix(""));
        let said = client(&setting.unix(":lockfile=1"), &setting.file, setting.folder.path());
        assert_eq!(said, "error BadFileError");
        server.stop();
    }
}

#[test]
fn twisted_holds_the_lock() {
    need!("twisted");
    for plugins in Plugins::BOTH {
        let setting = Setting::new(plugins);
        let _peer = setting.twisted_listens(&setting.unix(""));
        let before = setting.identities();
        for _ in 0..2 {
            let error = setting.serve(&setting.unix("")).expect_err("it is Twisted's");
            assert_eq!(error.kind(), ErrorKind::AddressInUse, "{error}");
            assert!(error.to_string().contains("socket.lock"), "{error}");
        }
        // Without a lock of our own there is still its socket.
        let error = setting.serve(&setting.unix(":lockfile=0")).expect_err("it is Twisted's");
        assert_eq!(error.kind(), ErrorKind::AddressInUse, "{error}");
        assert_eq!(setting.identities(), before);
        assert_eq!(setting.files(), ["socket", "socket.lock"]);
        setting.connect(&setting.unix(":checkPID=1")).expect("Twisted serves as before");
    }
}

#[test]
fn we_hold_the_lock() {
    need!("twisted", "sha256sum");
    for plugins in Plugins::BOTH {
        let setting = Setting::new(plugins);
        let ours = setting.serve(&setting.unix("")).expect("a listener");
        let before = setting.identities();
        let (mut peer, said) = server(&setting.unix(""), setting.folder.path());
        assert_eq!(said, "error CannotListenError");
        peer.ended();
        assert_eq!(setting.identities(), before);
        setting.twisted_connects(&setting.unix(":lockfile=1"));
        ours.stop();
        // What we left is free for Twisted.
        drop(setting.twisted_listens(&setting.unix("")));
    }
}

#[test]
fn twisted_was_killed() {
    need!("twisted", "sha256sum");
    for plugins in Plugins::BOTH {
        let setting = Setting::new(plugins);
        setting.twisted_listens(&setting.unix("")).kill();
        assert_eq!(setting.files(), ["socket", "socket.lock"], "nothing to recover from");
        let error = setting.connect(&setting.unix(":checkPID=1")).expect_err("it is dead");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
        let ours = setting.serve(&setting.unix("")).expect("we take over");
        setting.twisted_connects(&setting.unix(":lockfile=1"));
        ours.stop();
        assert!(setting.files().is_empty(), "{:?} are left behind", setting.files());
    }
}

#[test]
fn we_were_killed() {
    need!("twisted", "sha256sum");
    for plugins in Plugins::BOTH {
        let setting = Setting::new(plugins);
        let files = plugins.folder();
        let mut command = plugins.command(files.path());
        command.args(["listen", "--echo", &setting.unix("")]);
        let mut ours = Peer::start(&mut command, setting.folder.path());
        assert_eq!(ours.line("listening on "), setting.unix("").replace("unix:", "unix:path="));
        setting.twisted_connects(&setting.unix(":lockfile=1"));
        ours.kill();
        assert_eq!(setting.files(), ["socket", "socket.lock"], "nothing to recover from");
        let _peer = setting.twisted_listens(&setting.unix(""));
        setting.connect(&setting.unix(":checkPID=1")).expect("Twisted has taken over");
    }
}

/// What tells a file from another in its place, and from itself after it was changed.
#[derive(Debug, PartialEq)]
struct Identity {
    inode: u64,
    changed: (i64, i64),
}

impl Identity {
    fn of(path: &Path) -> Self {
        let metadata =
            fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { inode: metadata.ino(), changed: (metadata.ctime(), metadata.ctime_nsec()) }
    }
}
