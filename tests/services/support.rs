//! The two forms of a plugin.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use endpoints::{Connection, Error, Listener, Origin, Registry};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;

/// A registry, and the folder of the plugin where it is loaded.
pub(crate) struct World {
    pub(crate) registry: Registry,
    _plugins: Option<TempDir>,
}

impl World {
    /// Both forms of the plugin of a crate, which provides the scheme. TCP is built in.
    pub(crate) fn both(krate: &str, scheme: &str) -> [Self; 2] {
        let compiled = Registry::builder().default_plugin_path(false).build().expect("a registry");
        assert_eq!(compiled.manifest(scheme).expect("the plugin").1, Origin::BuiltIn);
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join(format!("lib{krate}.so"));
        fs::copy(built(krate), &file).expect("a copy of the plugin");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("its mode");
        let loaded = Registry::builder()
            .default_plugin_path(false)
            .without_built_in(scheme)
            .plugin_path(folder.path())
            .build()
            .expect("a registry");
        assert_eq!(loaded.manifest(scheme).expect("the plugin").1, Origin::File(file));
        [Self { registry: compiled, _plugins: None }, Self { registry: loaded, _plugins: Some(folder) }]
    }

    pub(crate) async fn try_connect(&self, description: &str) -> Result<Connection, Error> {
        self.registry.client(description).expect(description).connect().await
    }

    pub(crate) async fn connect(&self, description: &str) -> Connection {
        self.try_connect(description).await.expect(description)
    }

    pub(crate) async fn listen(&self, description: &str) -> Listener {
        self.registry.server(description).expect(description).listen().await.expect(description)
    }

    /// All that is read from a connection.
    pub(crate) async fn told(&self, description: &str) -> String {
        let mut words = String::new();
        self.connect(description).await.read_to_string(&mut words).await.expect(description);
        words
    }
}

/// The shared object of a crate, built beside this test.
fn built(krate: &str) -> std::path::PathBuf {
    let test = std::env::current_exe().expect("the test's own file");
    let profile = test.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST");
    let file = profile.join(format!("lib{krate}.so"));
    assert!(file.is_file(), "there is no {}: run `cargo build --workspace` first", file.display());
    file
}
