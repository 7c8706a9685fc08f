//! What the host lends the plugin.

use std::future::Future;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::time::Duration;

use tokio::runtime::Handle;

use super::host::{TestHost, lock};
use super::network::Named;
use super::socket;
use super::sys::Watch;
use crate::abi::bytes::RBytes;
use crate::abi::conn::{Body, Taken};
use crate::abi::endpoint::Foreign;
use crate::abi::host::CLIENT;
use crate::abi::services::Services;
use crate::connection::Carrier;
use crate::error::{Error, ErrorKind};
use crate::services::LogLevel;

impl TestHost {
    /// Calls `f` within the runtime of this thread, else that of the test.
    pub(super) fn within<R>(&self, f: impl FnOnce() -> R) -> R {
        let _entered = Handle::try_current().is_err().then(|| self.shared().runtime.enter());
        f()
    }
}

/// A host, as it is lent to one instance of the plugin.
pub(super) struct Lent(pub(super) TestHost);

impl Services for Lent {
    type Watched = Watch;

    fn endpoint(&self, role: u32, description: &[u8]) -> Result<Foreign, Error> {
        let named = Named { host: self.0.clone(), name: String::from_utf8_lossy(description).into_owned() };
        let endpoint = if role == CLIENT { named.client() } else { named.server() };
        Ok(endpoint)
    }

    fn finish_connect(
        &self,
        socket: OwnedFd,
    ) -> impl Future<Output = Result<Taken, Error>> + Send + 'static + use<> {
        let begun = self.0.within(|| socket::connecting(socket));
        async move { taken(socket::connected(socket::finished(begun?).await?)?) }
    }

    fn adopt(&self, socket: OwnedFd) -> Result<Taken, Error> {
        taken(self.0.within(|| socket::connected(socket))?)
    }

    fn watch(&self, descriptor: RawFd) -> Result<Watch, Error> {
        let open = self.0.shared().opened.enter(format!("the watched descriptor {descriptor}"));
        self.0.within(|| Watch::new(descriptor, open)).map_err(|error| {
            Error::from_io(format_args!("the descriptor {descriptor} cannot be watched"), &error)
        })
    }

    fn sleep(&self, time: Duration) -> Result<impl Future<Output = ()> + Send + 'static + use<>, Error> {
        Ok(self.0.within(|| tokio::time::sleep(time)))
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> Result<(), Error> {
        let open = self.0.shared().opened.enter("a spawned task".to_owned());
        self.0.within(|| {
            tokio::spawn(async move {
                future.await;
                drop(open);
            })
        });
        Ok(())
    }

    fn spawn_blocking(&self, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        self.0.within(|| drop(tokio::task::spawn_blocking(work)));
        Ok(())
    }

    fn resolve(
        &self,
        host: &str,
        port: u16,
    ) -> impl Future<Output = Result<Vec<SocketAddr>, Error>> + Send + 'static + use<> {
        let told = lock(&self.0.shared().names).get(host).cloned();
        let runtime = self.0.shared().runtime.clone();
        let host = host.to_owned();
        async move {
            let failed = |reason: &dyn std::fmt::Display| {
                Error::new(ErrorKind::NameResolution, format!("cannot resolve {host:?}: {reason}"))
            };
            let addresses: Vec<_> = match told {
                Some(told) => told.into_iter().map(|ip| SocketAddr::new(ip, port)).collect(),
                None => {
                    let name = host.clone();
                    let look_up = move || std::net::ToSocketAddrs::to_socket_addrs(&(&*name, port));
                    let found = runtime.spawn_blocking(look_up).await.map_err(|error| failed(&error))?;
                    found.map_err(|error| failed(&error))?.collect()
                }
            };
            if addresses.is_empty() { Err(failed(&"it has no address")) } else { Ok(addresses) }
        }
    }

    fn log_enabled(&self, level: u32) -> bool {
        level <= lock(&self.0.shared().log).level as u32
    }

    fn log(&self, level: u32, message: &str) {
        let level = match level {
            1 => LogLevel::Error,
            2 => LogLevel::Warn,
            3 => LogLevel::Info,
            4 => LogLevel::Debug,
            _ => LogLevel::Trace,
        };
        lock(&self.0.shared().log).lines.push((level, message.to_owned()));
    }
}

/// A stream of the host, on its way to the plugin.
fn taken(carrier: Carrier) -> Result<Taken, Error> {
    match carrier {
        Carrier::Stream(stream) => {
            Ok(Taken { body: Body::Stream(stream.0), facts: RBytes::EMPTY, leftover: RBytes::EMPTY })
        }
        _ => Err(Error::new(ErrorKind::Internal, "a socket was not taken into the reactor")),
    }
}
