//! This project's side of a test: registries, an echo server, a client.

use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use endpoints::serve::Serve;
use endpoints::{Connection, Error, Origin, Registry};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::harness::{PATIENCE, built};

/// Where the schemes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plugins {
    /// What there is compiled in; the others are loaded all the same.
    BuiltIn,
    /// All loaded from shared libraries.
    Loaded,
}

impl Plugins {
    pub(crate) const BOTH: [Self; 2] = [Self::BuiltIn, Self::Loaded];

    /// A folder with the shared libraries of those that are to be loaded.
    pub(crate) fn folder(self) -> TempDir {
        let folder = tempfile::tempdir().expect("a folder for plugins");
        let names: &[&str] = match self {
            Self::BuiltIn => &["socks5"],
            Self::Loaded => &["socks5", "haproxy", "stdio", "systemd", "tcp", "tls", "unix"],
        };
        for name in names {
            let file = format!("libendpoints_plugin_{name}.so");
            let copy = folder.path().join(&file);
            fs::copy(built(&file), &copy).expect("a copy of a plugin");
            // Whoever builds with a umask that lets the group write would have the plugin refused.
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))
                .expect("the right to change a mode");
        }
        folder
    }

    /// The command, with those in `folder`.
    pub(crate) fn command(self, folder: &Path) -> Command {
        let mut command = Command::new(built("endpoints"));
        command.args(["--no-default-plugin-path", "--plugin-path"]).arg(folder);
        if self == Self::Loaded {
            command.arg("--no-built-in");
        }
        command
    }

    /// A registry that has them.
    pub(crate) fn registry(self, folder: &Path) -> Registry {
        let builder = Registry::builder().plugin_path(folder).default_plugin_path(false);
        let builder = if self == Self::Loaded { builder.no_built_in() } else { builder };
        let registry = builder.build().expect("a registry");
        let origin = |scheme| match registry.manifest(scheme) {
            Ok((_, origin)) => origin,
            Err(error) => panic!("{error}: {:?}", registry.plugins()),
        };
        assert_eq!(matches!(origin("tcp"), Origin::BuiltIn), self == Self::BuiltIn);
        assert!(matches!(origin("socks5"), Origin::File(_)));
        registry
    }
}

/// A runtime as applications have it.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// Runs a future to its end, which must come in time.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    runtime().block_on(async { timeout(PATIENCE, future).await.expect("an end in time") })
}

/// Sends all of `sent` and ends that direction, while it receives until the peer ends the other.
pub(crate) async fn exchange(connection: Connection, sent: &[u8]) -> Vec<u8> {
    let (mut read, mut write) = tokio::io::split(connection);
    let send = async {
        write.write_all(sent).await.expect("sending");
        write.shutdown().await.expect("ending the sending direction");
    };
    let mut received = Vec::with_capacity(sent.len());
    let (received_all, ()) = tokio::join!(read.read_to_end(&mut received), send);
    received_all.expect("receiving");
    received
}

/// A server of this project that sends everything back, in this process.
#[derive(Debug)]
pub(crate) struct EchoServer {
    /// Client descriptions by which it is reached.
    pub(crate) reachable: Vec<String>,
    runtime: Runtime,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<endpoints::serve::Outcome>,
}

impl EchoServer {
    pub(crate) fn start(registry: &Registry, description: &str) -> Result<Self, Error> {
        let runtime = runtime();
        let listener = runtime.block_on(registry.server(description)?.listen())?;
        let reachable = listener.reachable().iter().map(ToString::to_string).collect();
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = Serve::new(listener).run(
            |_, incoming| async move {
                let Ok(connection) = incoming.await else { return };
                let (mut read, mut write) = tokio::io::split(connection);
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            },
            async { drop(stopped.await) },
        );
        let served = runtime.spawn(serve);
        Ok(Self { reachable, runtime, stop, served })
    }

    /// Stops listening, and waits until that is done.
    pub(crate) fn stop(self) {
        let _ = self.stop.send(());
        let outcome = self.runtime.block_on(self.served).expect("the server");
        assert!(outcome.error.is_none() && outcome.cut == 0, "{outcome:?}");
    }
}
