//! What the host lends its plugins.

use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use endpoints_plugin_api as api;
use endpoints_plugin_api::abi::conn::Taken;
use endpoints_plugin_api::abi::endpoint::Foreign as ForeignEndpoint;
use endpoints_plugin_api::abi::services::Services;
use tokio::runtime::Handle;

use crate::connection::Connection;
use crate::endpoint::{self, RoleKind};
use crate::registry::{Inner, Registry};
use crate::serve::is_worker;
use crate::stream::Stream;

mod sys;

pub(crate) use sys::Watch;

/// The services of one registry; cloned for each plugin with its name.
#[derive(Clone)]
pub(crate) struct HostServices {
    registry: Weak<Inner>,
    /// The runtime that last connected or listened, for calls from threads that have none.
    runtime: Arc<RwLock<Option<Handle>>>,
    plugin: Arc<str>,
}

impl HostServices {
    pub(crate) fn new(registry: Weak<Inner>) -> Self {
        Self { registry, runtime: Arc::default(), plugin: "".into() }
    }

    pub(crate) fn for_plugin(&self, name: &str) -> Self {
        Self { plugin: name.into(), ..self.clone() }
    }

    /// Remembers the runtime of the caller, who connects or listens.
    ///
    /// # Errors
    /// If the caller is in none.
    pub(crate) fn note_runtime(&self) -> Result<(), api::Error> {
        let handle = Handle::try_current().map_err(|_| no_runtime())?;
        // One that lives no longer than what it serves is none to call on, where there is another.
        if is_worker() && self.runtime.read().is_ok_and(|runtime| runtime.is_some()) {
            return Ok(());
        }
        let known = |known: &Option<Handle>| known.as_ref().is_some_and(|known| known.id() == handle.id());
        if !self.runtime.read().is_ok_and(|runtime| known(&runtime)) {
            // Where several runtimes connect at once any of them will do, so nobody waits for the lock.
            if let Ok(mut runtime) = self.runtime.try_write() {
                *runtime = Some(handle);
            }
        }
        Ok(())
    }

    /// Calls `f` within the runtime of this thread, else the one that connected or listened last.
    pub(crate) fn within<R>(&self, f: impl FnOnce() -> R) -> Result<R, api::Error> {
        if Handle::try_current().is_ok() {
            return Ok(f());
        }
        let handle = self.runtime.read().unwrap_or_else(PoisonError::into_inner).clone();
        let handle = handle.ok_or_else(no_runtime)?;
        let _entered = handle.enter();
        Ok(f())
    }
}

fn no_runtime() -> api::Error {
    api::Error::new(api::ErrorKind::Internal, "there is no tokio runtime: connect and listen within one")
}

impl Services for HostServices {
    type Watched = Watch;

    fn endpoint(&self, role: u32, description: &[u8]) -> Result<ForeignEndpoint, api::Error> {
        let internal = |message: &str| api::Error::new(api::ErrorKind::Internal, message);
        let role = RoleKind::from_code(role).ok_or_else(|| internal("there is no such role"))?;
        let inner = self.registry.upgrade().ok_or_else(|| internal("the registry is gone"))?;
        let made = endpoint::make_for_plugin(&Registry(inner), role, description);
        made.map(endpoint::export).map_err(|error| match error.argument() {
            // A plugin that makes an endpoint of its own arguments calls them the same.
            Some(argument) => error.to_api().with_argument(argument),
            None => error.to_api(),
        })
    }

    fn finish_connect(
        &self,
        socket: OwnedFd,
    ) -> impl Future<Output = Result<Taken, api::Error>> + Send + 'static + use<> {
        let connecting = self.within(|| Stream::connecting(socket));
        async move {
            let connecting = connecting?.map_err(|error| error.to_api())?;
            let (stream, peer) = connecting.connected().await.map_err(|error| error.to_api())?;
            Ok(Connection::new(stream, peer).into_taken())
        }
    }

    fn adopt(&self, socket: OwnedFd) -> Result<Taken, api::Error> {
        let stream = self.within(|| Stream::from_socket(socket))?.map_err(|error| error.to_api())?;
        Ok(Connection::new(stream, None).into_taken())
    }

    fn watch(&self, descriptor: RawFd) -> Result<Watch, api::Error> {
        self.within(|| Watch::new(descriptor))?.map_err(|error| {
            api::Error::from_io(format_args!("the descriptor {descriptor} cannot be watched"), &error)
        })
    }

    fn sleep(&self, time: Duration) -> Result<impl Future<Output = ()> + Send + 'static + use<>, api::Error> {
        self.within(|| tokio::time::sleep(time))
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> Result<(), api::Error> {
        self.within(|| drop(tokio::spawn(future)))
    }

    fn spawn_blocking(&self, work: impl FnOnce() + Send + 'static) -> Result<(), api::Error> {
        self.within(|| drop(tokio::task::spawn_blocking(work)))
    }

    fn resolve(
        &self,
        host: &str,
        port: u16,
    ) -> impl Future<Output = Result<Vec<SocketAddr>, api::Error>> + Send + 'static + use<> {
        let host = host.to_owned();
        // The look-up runs on a thread of its own, begun here so that it finds this runtime.
        let begun = self.within(|| {
            let host = host.clone();
            tokio::task::spawn_blocking(move || {
                std::net::ToSocketAddrs::to_socket_addrs(&(host.as_str(), port)).map(Vec::from_iter)
            })
        });
        async move {
            let failed = |reason: &dyn std::fmt::Display| {
                let message = format!("cannot resolve {host:?}: {reason}");
                api::Error::new(api::ErrorKind::NameResolution, message)
            };
            match begun?.await {
                Ok(Ok(addresses)) if addresses.is_empty() => Err(failed(&"it has no address")),
                Ok(Ok(addresses)) => Ok(addresses),
                Ok(Err(error)) => Err(failed(&error)),
                Err(_) => Err(failed(&"the look-up was given up")),
            }
        }
    }

    fn log_enabled(&self, level: u32) -> bool {
        match level {
            1 => tracing::enabled!(target: TARGET, tracing::Level::ERROR),
            2 => tracing::enabled!(target: TARGET, tracing::Level::WARN),
            3 => tracing::enabled!(target: TARGET, tracing::Level::INFO),
            4 => tracing::enabled!(target: TARGET, tracing::Level::DEBUG),
            _ => tracing::enabled!(target: TARGET, tracing::Level::TRACE),
        }
    }

    fn log(&self, level: u32, message: &str) {
        let plugin = &*self.plugin;
        match level {
            1 => tracing::error!(target: TARGET, plugin, "{message}"),
            2 => tracing::warn!(target: TARGET, plugin, "{message}"),
            3 => tracing::info!(target: TARGET, plugin, "{message}"),
            4 => tracing::debug!(target: TARGET, plugin, "{message}"),
            _ => tracing::trace!(target: TARGET, plugin, "{message}"),
        }
    }
}

/// The target of log lines that plugins write.
const TARGET: &str = "endpoints::plugin";
