//! A registry with the plugins in C, beside those in Rust.

use std::env;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use endpoints::{Connection, Error, Listener, Registry};
use endpoints_tests::c::build_plugin;
use tempfile::TempDir;

use crate::support::{copy, file_name, reachable};

/// More flags for the C compiler, with spaces between them: so that a process can test another build.
pub(crate) const FLAGS: &str = "ENDPOINTS_TEST_C_FLAGS";

/// Fixtures in Rust that stand around others.
const WRAPPERS: [&str; 2] = ["endpoints_fixture_pass", "endpoints_fixture_faulty"];

/// A registry, and the folder of its plugins.
pub(crate) struct World {
    pub(crate) registry: Registry,
    plugins: Arc<TempDir>,
}

impl World {
    /// The plugins in C as the tests' environment wants them built; those in Rust built in.
    pub(crate) fn new() -> Self {
        Self::of(plugins())
    }

    /// The plugins in C, built with these flags.
    pub(crate) fn built_with(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        build(flags, folder.path());
        Self::of(Arc::new(folder))
    }

    fn of(plugins: Arc<TempDir>) -> Self {
        let registry = Registry::builder().default_plugin_path(false).plugin_path(plugins.path());
        Self { registry: registry.build().expect("a registry"), plugins }
    }

    /// Where the plugins are.
    pub(crate) fn folder(&self) -> &Path {
        self.plugins.path()
    }

    /// Listens, as the description says.
    pub(crate) async fn listen(&self, description: &str) -> Listener {
        let server =
            self.registry.server(description).unwrap_or_else(|error| panic!("{description}: {error}"));
        server.listen().await.unwrap_or_else(|error| panic!("{description}: {error}"))
    }

    /// Connects, as the description says.
    pub(crate) async fn connect(&self, description: &str) -> Connection {
        self.try_connect(description).await.unwrap_or_else(|error| panic!("{description}: {error}"))
    }

    pub(crate) async fn try_connect(&self, description: &str) -> Result<Connection, Error> {
        self.registry.client(description)?.connect().await
    }

    /// Both ends of a new connection, the connecting one first.
    pub(crate) async fn pair(&self, listener: &Listener) -> (Connection, Connection) {
        let accepting = async { listener.accept().await.expect("accept").await.expect("handshake") };
        tokio::join!(async { self.connect(&reachable(listener)).await }, accepting)
    }
}

/// The folder that all share while somebody uses it.
fn plugins() -> Arc<TempDir> {
    static SHARED: Mutex<Weak<TempDir>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(folder) = shared.upgrade() {
        return folder;
    }
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let flags = env::var(FLAGS).unwrap_or_else(|_| "-O2".to_owned());
    build(&flags.split(' ').collect::<Vec<_>>(), folder.path());
    *shared = Arc::downgrade(&folder);
    folder
}

fn build(flags: &[&str], folder: &Path) {
    for name in ["ctcp", "cxor", "cchop"] {
        build_plugin(name, flags, &folder.join(file_name(name)))
            .unwrap_or_else(|words| panic!("{name}:\n{words}"));
    }
    for name in WRAPPERS {
        copy(name, &folder.join(file_name(name)));
    }
}
