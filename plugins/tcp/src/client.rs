//! The client side of `tcp`.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use endpoints_plugin_api::{Connect, ConnectContext, Connection, Error, ErrorKind, Host};

use crate::attempts::{Attempts, Route, Target, routes};
use crate::bind_address::BindAddress;
use crate::options::Options;
use crate::racing::{Next, Race};
use crate::socket::{self, Begun, hint};

/// A way to connect.
#[derive(Debug)]
pub(crate) struct TcpClient {
    pub(crate) host: Host,
    pub(crate) name: String,
    pub(crate) port: u16,
    /// For resolving and connecting together.
    pub(crate) timeout: Duration,
    /// How long an attempt has before the next address joins.
    pub(crate) attempt_delay: Duration,
    pub(crate) bind_address: Option<BindAddress>,
    pub(crate) options: Options,
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
        let count = routes.len();
        *lock(attempts) = Attempts::new(routes);
        self.race(attempts, count).await
    }

    /// Tries all addresses, as RFC 8305 says. Attempts that are under way when one has won are dropped, and so closed.
    async fn race(&self, attempts: &Mutex<Attempts>, count: usize) -> Result<Connection, Error> {
        let mut race = Race::new(count, self.attempt_delay);
        let begun = Instant::now();
        let mut running: Vec<(usize, Attempting<'_>)> = Vec::with_capacity(1);
        loop {
            let ended = match race.next(begun.elapsed()) {
                Next::Start(place) => {
                    let started = lock(attempts).start(place);
                    if let Some(route) = started {
                        running.push((place, Box::pin(self.try_one(route))));
                    }
                    continue;
                }
                Next::Lost => return Err(lock(attempts).all_failed(self.target())),
                Next::Wait(None) => first(&mut running).await,
                Next::Wait(Some(until)) => {
                    let wait = until.saturating_sub(begun.elapsed());
                    match self.host.timeout(wait, first(&mut running)).await {
                        Ok(ended) => ended,
                        Err(_) => continue,
                    }
                }
            };
            match ended {
                (_, Ok(connection)) => return Ok(connection),
                (place, Err(error)) => {
                    lock(attempts).fail(place, error);
                    race.failed();
                }
            }
        }
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
        match socket::begin_connect(route.to, route.from, &self.options)? {
            Begun::Connected(socket) => self.host.adopt(socket),
            // The list of addresses says already what was being done.
            Begun::Connecting(socket) => {
                self.host.finish_connect(socket).await.map_err(socket::in_system_words)
            }
        }
    }
}

type Attempting<'a> = Pin<Box<dyn Future<Output = Result<Connection, Error>> + Send + 'a>>;

/// Waits for the first attempt to end and takes it out; never ends where there is none.
async fn first(running: &mut Vec<(usize, Attempting<'_>)>) -> (usize, Result<Connection, Error>) {
    poll_fn(|cx| {
        for index in 0..running.len() {
            if let Poll::Ready(result) = running[index].1.as_mut().poll(cx) {
                return Poll::Ready((running.remove(index).0, result));
            }
        }
        Poll::Pending
    })
    .await
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
