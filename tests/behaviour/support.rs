//! Registries of both forms, and small tools that the bodies share.

use std::fs;
use std::future::Future;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use endpoints::{Connection, Description, ErrorKind, Listener, Registry, RegistryBuilder};
use endpoints_tests::make_certificates;
pub(crate) use endpoints_tests::object::{built, file_name};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The plugins that are built in too.
pub(crate) const TRANSPORTS: [&str; 6] = [
    "endpoints_plugin_haproxy",
    "endpoints_plugin_stdio",
    "endpoints_plugin_systemd",
    "endpoints_plugin_tcp",
    "endpoints_plugin_tls",
    "endpoints_plugin_unix",
];

/// Those that there are as files alone.
pub(crate) const WRAPPERS: [&str; 3] =
    ["endpoints_plugin_socks5", "endpoints_fixture_pass", "endpoints_fixture_faulty"];

/// A registry, and the folder of its plugins.
pub(crate) struct World {
    pub(crate) registry: Registry,
    _plugins: Arc<TempDir>,
}

impl World {
    /// The transports compiled in; the wrappers from files.
    pub(crate) fn built_in() -> Self {
        Self::from(Registry::builder())
    }

    /// Everything from files.
    pub(crate) fn loaded() -> Self {
        Self::from(Registry::builder().no_built_in())
    }

    fn from(builder: RegistryBuilder) -> Self {
        let plugins = all_plugins();
        let registry =
            builder.default_plugin_path(false).plugin_path(plugins.path()).build().expect("a registry");
        Self { registry, _plugins: plugins }
    }

    /// Listens, as the description says.
    pub(crate) async fn listen(&self, description: &str) -> Listener {
        let server = self.registry.server(description).expect(description);
        server.listen().await.expect(description)
    }

    /// Connects, as the description says.
    pub(crate) async fn connect(&self, description: &str) -> Connection {
        let client = self.registry.client(description).expect(description);
        client.connect().await.expect(description)
    }

    /// Connects to the first address by which the listener says it is reached.
    pub(crate) async fn reach(&self, listener: &Listener) -> Connection {
        self.connect(&reachable(listener)).await
    }

    /// Both ends of a new connection, the connecting one first.
    pub(crate) async fn pair(&self, listener: &Listener) -> (Connection, Connection) {
        let accepting = async { listener.accept().await.expect("accept").await.expect("handshake") };
        tokio::join!(self.reach(listener), accepting)
    }

    /// What a `connect` that fails says.
    pub(crate) async fn connect_error(&self, description: &str) -> endpoints::Error {
        let client = self.registry.client(description).expect(description);
        client.connect().await.expect_err(description)
    }

    /// What a `listen` that fails says.
    pub(crate) async fn listen_error(&self, description: &str) -> endpoints::Error {
        let server = self.registry.server(description).expect(description);
        server.listen().await.expect_err(description)
    }

    /// Sees to it that TCP still works.
    pub(crate) async fn assert_tcp_works(&self) {
        assert_tcp_works(&self.registry).await;
    }
}

/// Sees to it that a registry still serves TCP, there and back.
pub(crate) async fn assert_tcp_works(registry: &Registry) {
    let server = registry.server("tcp:0:interface=127.0.0.1").expect("tcp");
    let listener = server.listen().await.expect("listen");
    let client = registry.client(format!("tcp:127.0.0.1:{}", port(&listener))).expect("tcp");
    let accepting = async { listener.accept().await.expect("accept").await.expect("handshake") };
    let (client, mut accepted) = tokio::join!(client.connect(), accepting);
    exchange(&mut client.expect("connect"), &mut accepted).await;
}

/// Runs bodies that take a [`World`], each in both forms.
macro_rules! both_forms {
    ($($body:ident),* $(,)?) => {
        mod built_in {
            $(#[tokio::test]
            async fn $body() {
                $crate::support::in_time(super::$body(&$crate::support::World::built_in())).await;
            })*
        }
        mod loaded {
            $(#[tokio::test]
            async fn $body() {
                $crate::support::in_time(super::$body(&$crate::support::World::loaded())).await;
            })*
        }
    };
}
pub(crate) use both_forms;

/// Ends a test that hangs.
pub(crate) async fn in_time<T>(body: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), body).await.expect("done within a minute")
}

/// The first description by which a listener is reached.
pub(crate) fn reachable(listener: &Listener) -> String {
    text(listener.reachable().first().expect("a way to reach the listener"))
}

pub(crate) fn text(description: &Description) -> String {
    String::from_utf8(description.text().to_vec()).expect("a description in UTF-8")
}

/// The port of a TCP listener.
pub(crate) fn port(listener: &Listener) -> u16 {
    listener.addresses()[0].port().expect("a port")
}

/// A wrapper's description around another.
pub(crate) fn around(wrapper: &str, inner: &str) -> String {
    format!("{wrapper}:{}", endpoints::quote_str(inner))
}

/// Says something each way.
pub(crate) async fn exchange(one: &mut Connection, other: &mut Connection) {
    say(one, other, b"there").await;
    say(other, one, b"and back").await;
}

pub(crate) async fn say(from: &mut Connection, to: &mut Connection, words: &[u8]) {
    from.write_all(words).await.expect("write");
    from.flush().await.expect("flush");
    let mut heard = vec![0; words.len()];
    to.read_exact(&mut heard).await.expect("read");
    assert_eq!(heard, words);
}

/// Reads until the peer has sent everything.
pub(crate) async fn rest(connection: &mut Connection) -> Vec<u8> {
    let mut bytes = Vec::new();
    connection.read_to_end(&mut bytes).await.expect("read");
    bytes
}

/// Sends back what comes, until it ends.
pub(crate) async fn echo(mut connection: Connection) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = connection.read(&mut bytes).await {
        if connection.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
    let _ = connection.shutdown().await;
}

/// A TCP listener whose backlog is full: who connects waits.
pub(crate) struct FullBacklog {
    pub(crate) address: SocketAddr,
    _listener: std::os::fd::OwnedFd,
    _fillers: Vec<TcpStream>,
}

impl FullBacklog {
    pub(crate) fn new() -> Self {
        Self::at(([127, 0, 0, 1], 0).into())
    }

    pub(crate) fn at(at: SocketAddr) -> Self {
        use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
        let listener = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        bind(&listener, &at).expect("bind");
        listen(&listener, 0).expect("listen");
        let address = SocketAddr::try_from(getsockname(&listener).expect("a name")).expect("an IP address");
        let mut fillers = Vec::new();
        while let Ok(filler) = TcpStream::connect_timeout(&address, Duration::from_millis(150)) {
            fillers.push(filler);
        }
        assert!(!fillers.is_empty(), "a listener has room for one connection");
        Self { address, _listener: listener, _fillers: fillers }
    }

    /// The description of a client whose connecting never ends, unless `more` limits it.
    pub(crate) fn client(&self, more: &str) -> String {
        format!("tcp:127.0.0.1:{}{more}", self.address.port())
    }
}

/// A port on which nobody listens.
pub(crate) fn closed_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.local_addr().expect("an address").port()
}

/// The number of a process that has ended.
pub(crate) fn dead_process() -> u32 {
    let mut child = Command::new("true").spawn().expect("true(1)");
    child.wait().expect("its end");
    child.id()
}

/// A folder in which `pki/` is, with certificates made by the script of the recorded cases; `None`, and said on screen,
/// where there is no openssl to make them with.
pub(crate) fn pki() -> Option<&'static Path> {
    static MADE: OnceLock<Option<TempDir>> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let openssl = Command::new("openssl").arg("version").output().is_ok();
        let required = std::env::var_os("ENDPOINTS_TEST_REQUIRE_PEERS").is_some_and(|value| value == "1");
        assert!(openssl || !required, "openssl is not installed: run tests/install-peers");
        if !openssl {
            skip("certificates", "openssl is not installed");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        make_certificates(&folder.path().join("pki")).expect("certificates");
        Some(folder)
    });
    made.as_ref().map(TempDir::path)
}

/// Says on screen, past the test harness, that something was not tested.
pub(crate) fn skip(what: &str, why: &str) {
    let _ = writeln!(io::stderr(), "not tested: {what}: {why}");
}

/// Runs a command that runs one test of this file in a namespace of its own, and ends as that test does. Where no namespace can be
/// had, which `unshare` says and the command by its status 77, says so.
#[track_caller]
pub(crate) fn in_a_namespace(what: &str, command: &mut Command) {
    match command.output() {
        Ok(output) if output.status.success() => {
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(said.contains("1 passed"), "the test did not run: {said}");
        }
        Ok(output) if output.status.code() == Some(77) || output.stderr.starts_with(b"unshare: ") => {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            let required = std::env::var_os("ENDPOINTS_TEST_REQUIRE_PEERS").is_some_and(|value| value == "1");
            assert!(!required, "no namespace for {what}: {why}");
            skip(what, &why);
        }
        Ok(output) => panic!(
            "{}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => skip(what, &error.to_string()),
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A folder with all plugins; shared as long as somebody uses it, as the files are large.
pub(crate) fn all_plugins() -> Arc<TempDir> {
    static SHARED: Mutex<Weak<TempDir>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(folder) = shared.upgrade() {
        return folder;
    }
    let folder = Arc::new(folder_with(&[TRANSPORTS.as_slice(), &WRAPPERS].concat()));
    *shared = Arc::downgrade(&folder);
    folder
}

/// A fresh folder with copies of these plugins.
pub(crate) fn folder_with(plugins: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for plugin in plugins {
        copy(plugin, &folder.path().join(file_name(plugin)));
    }
    folder
}

/// Copies a plugin to a place, with rights that hosts accept whatever those of the target folder are.
pub(crate) fn copy(plugin: &str, to: &Path) {
    fs::copy(built(plugin), to).expect("a copy of the plugin");
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).expect("its mode");
}

/// A registry of files alone, from these folders in order.
pub(crate) fn files(folders: &[&Path]) -> Registry {
    let builder = Registry::builder().no_built_in().default_plugin_path(false);
    folders.iter().fold(builder, |builder, folder| builder.plugin_path(*folder)).build().expect("a registry")
}

/// Compares the kind of an error, showing all of it where it is another.
pub(crate) fn assert_kind(error: &endpoints::Error, kind: ErrorKind) {
    assert_eq!(error.kind(), kind, "{error}");
}
