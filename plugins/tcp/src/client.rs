//! The client side of `tcp`.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use endpoints_plugin_api::{Connect, ConnectContext, Connection, Error, ErrorKind, Host};

use crate::attempts::{Attempts, Route, Target, routes};
use crate::bind_address::BindAddress;
use crate::socket::{self, Begun, hint};

/// A way to connect.
#[derive(Debug)]
pub(crate) struct TcpClient {
    pub(crate) host: Host,
    pub(crate) name: String,
    pub(crate) port: u16,
    /// For resolving and connecting together.
    pub(crate) timeout: Duration,
    pub(crate) bind_address: Option<BindAddress>,
}

impl Connect for TcpClient {
    async fn connect(&self, _context: ConnectContext) -> Result<Connection, Error> {
        // Kept outside of what is dropped when the time is over, to tell how far it came.
        let attempts = Mutex::new(Attempts::default());
        match self.host.timeout(self.timeout, self.try_all(&attempts)).await {
            Ok(result) => result,
            Err(_) => Err(lock(&attempts).timed_out(self.target(), self.timeout)),
        }
    }
}

impl TcpClient {
    fn target(&self) -> Target<'_> {
        Target { name: &self.name, port: self.port }
    }

    async fn try_all(&self, attempts: &Mutex<Attempts>) -> Result<Connection, Error> {
        let routes = self.routes(attempts).await?;
        *lock(attempts) = Attempts::Connecting { to: routes.clone(), failures: Vec::new() };
        for route in routes {
            match self.try_one(route).await {
                Ok(connection) => return Ok(connection),
                Err(error) => lock(attempts).push(error),
            }
        }
        Err(lock(attempts).all_failed(self.target()))
    }

    /// The addresses to try; there is at least one.
    async fn routes(&self, attempts: &Mutex<Attempts>) -> Result<Vec<Route>, Error> {
        let targets = self
            .host
            .resolve(&self.name, self.port)
            .await
            .map_err(|error| unresolved(self.target(), error))?;
        let sources = match &self.bind_address {
            None => None,
            Some(bind_address) => {
                *lock(attempts) = Attempts::ResolvingSource;
                let sources = bind_address.resolve(&self.host).await;
                Some(sources.map_err(|error| {
                    error.context(format_args!(
                        "cannot connect to {} from bindAddress={}",
                        self.target(),
                        bind_address.host
                    ))
                })?)
            }
        };
        let routes = routes(&targets, sources.as_deref());
        match &self.bind_address {
            _ if !routes.is_empty() => Ok(routes),
            Some(bind_address) if !targets.is_empty() => {
                let targets: Vec<_> = targets.iter().map(|target| target.ip().to_string()).collect();
                let message = format!(
                    "cannot connect to {} from bindAddress={}: none of its addresses ({}) is of the same family",
                    self.target(),
                    bind_address.host,
                    targets.join(", ")
                );
                Err(Error::new(ErrorKind::AddressNotAvailable, message))
            }
            _ => {
                let message = format!("cannot connect to {}: {} has no address", self.target(), self.name);
                Err(Error::new(ErrorKind::NameResolution, message))
            }
        }
    }

    async fn try_one(&self, route: Route) -> Result<Connection, Error> {
        match socket::begin_connect(route.to, route.from)? {
            Begun::Connected(socket) => self.host.adopt(socket),
            // The list of addresses says already what was being done.
            Begun::Connecting(socket) => {
                self.host.finish_connect(socket).await.map_err(socket::in_system_words)
            }
        }
    }
}

fn lock(attempts: &Mutex<Attempts>) -> MutexGuard<'_, Attempts> {
    attempts.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unresolved(target: Target<'_>, error: Error) -> Error {
    let error = error.context(format_args!("cannot connect to {target}"));
    if target.name.starts_with('[') {
        hint(error, "host takes an IPv6 address without brackets, its colons written \\:")
    } else {
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_in_brackets_says_how_to_write_the_address() {
        let unknown = Error::new(ErrorKind::NameResolution, "unknown");
        let error = unresolved(Target { name: "[::1]", port: 80 }, unknown.clone());
        assert!(error.message().starts_with("cannot connect to [::1]:80: "), "{error}");
        assert!(
            error
                .message()
                .ends_with("unknown (host takes an IPv6 address without brackets, its colons written \\:)")
        );
        let error = unresolved(Target { name: "h.example", port: 80 }, unknown);
        assert_eq!(error.message(), "cannot connect to h.example:80: unknown");
        assert_eq!(error.kind(), ErrorKind::NameResolution);
    }
}
