//! The host itself.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;

use super::link::Link;
use super::network::{Network, PeerListener};
use super::pipe::Peer;
use super::plugin::TestPlugin;
use crate::error::Error;
use crate::plugin::Plugin;
use crate::services::LogLevel;

/// A host in memory. A clone is the same host.
#[derive(Clone)]
pub struct TestHost(Arc<Shared>);

pub(super) struct Shared {
    pub(super) runtime: Handle,
    pub(super) network: Network,
    pub(super) opened: Opened,
    pub(super) names: Mutex<HashMap<String, Vec<IpAddr>>>,
    pub(super) log: Mutex<Log>,
}

pub(super) struct Log {
    pub(super) level: LogLevel,
    pub(super) lines: Vec<(LogLevel, String)>,
}

impl TestHost {
    /// A host on the current runtime, which must have tokio's time, and its I/O where the plugin uses descriptors.
    ///
    /// # Panics
    /// Outside of a runtime.
    #[expect(
        clippy::new_without_default,
        reason = "a default that panics outside of a runtime would surprise"
    )]
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            runtime: Handle::current(),
            network: Network::default(),
            opened: Opened::default(),
            names: Mutex::default(),
            log: Mutex::new(Log { level: LogLevel::Trace, lines: Vec::new() }),
        }))
    }

    /// Makes an instance of a plugin.
    ///
    /// # Errors
    /// What [`Plugin::new`] says against it.
    pub fn plugin<P: Plugin>(&self) -> Result<TestPlugin, Error> {
        TestPlugin::new::<P>(self.clone())
    }

    /// Listens under a name, for the plugin to connect to.
    ///
    /// # Errors
    /// [`AddressInUse`](crate::ErrorKind::AddressInUse) if somebody listens there already.
    pub fn listen(&self, name: &str) -> Result<PeerListener, Error> {
        Ok(PeerListener(self.0.network.listen(name)?))
    }

    /// Connects to whoever listens under a name.
    ///
    /// # Errors
    /// [`ConnectionRefused`](crate::ErrorKind::ConnectionRefused) if nobody does.
    pub fn connect(&self, name: &str) -> Result<Peer, Error> {
        Ok(Peer(self.0.network.connect(name, &self.0.network.link_of(name))?))
    }

    /// Says how connections under a name behave from now on, to the plugin's end of them.
    pub fn link(&self, name: &str, link: Link) {
        self.0.network.set_link(name, link);
    }

    /// Says which addresses a host name has. Other names are looked up by the system.
    pub fn resolves(&self, host: &str, addresses: impl IntoIterator<Item = IpAddr>) {
        lock(&self.0.names).insert(host.to_owned(), addresses.into_iter().collect());
    }

    /// Log lines that matter less are not enabled from now on. All are, at first.
    pub fn set_log_level(&self, level: LogLevel) {
        lock(&self.0.log).level = level;
    }

    /// What the plugin has logged so far.
    #[must_use]
    pub fn logged(&self) -> Vec<(LogLevel, String)> {
        lock(&self.0.log).lines.clone()
    }

    /// What the plugin has opened in memory and not closed: listeners and connections; and watched descriptors, and spawned
    /// tasks that go on. The oldest comes first.
    #[must_use]
    pub fn left_open(&self) -> Vec<String> {
        lock(&self.0.opened.0).open.values().cloned().collect()
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.0
    }
}

impl fmt::Debug for TestHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestHost").field("left_open", &self.left_open()).finish_non_exhaustive()
    }
}

/// What is open.
#[derive(Clone, Debug, Default)]
pub(super) struct Opened(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    next: u64,
    open: BTreeMap<u64, String>,
}

impl Opened {
    /// Enters something, until the result is dropped.
    pub(super) fn enter(&self, what: String) -> Open {
        let mut entries = lock(&self.0);
        let number = entries.next;
        entries.next += 1;
        entries.open.insert(number, what);
        Open { number, opened: self.clone() }
    }
}

/// Something that is open.
#[derive(Debug)]
pub(super) struct Open {
    number: u64,
    opened: Opened,
}

impl Drop for Open {
    fn drop(&mut self) {
        lock(&self.opened.0).open.remove(&self.number);
    }
}

/// A test that has panicked elsewhere does not matter here.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
