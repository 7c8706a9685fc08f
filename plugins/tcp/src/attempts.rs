//! Which addresses are tried, and what is said when none of them answers.

use std::fmt::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use endpoints_plugin_api::{Error, ErrorKind};

use crate::bind_address::is_ipv6;
use crate::racing::interleave;

/// One way to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) to: SocketAddr,
    pub(crate) from: Option<SocketAddr>,
}

/// The addresses to try, in their order (see [`interleave`]): each once, and, where there are addresses to connect from,
/// only those that one of them has the family of.
pub(crate) fn routes(targets: &[SocketAddr], sources: Option<&[SocketAddr]>) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::with_capacity(targets.len());
    for &to in targets {
        let from = match sources {
            None => None,
            Some(sources) => match sources.iter().find(|from| from.is_ipv4() == to.is_ipv4()) {
                None => continue,
                Some(&from) => Some(from),
            },
        };
        // A resolver may name an address twice, for two lines of /etc/hosts.
        if !routes.iter().any(|route| route.to == to) {
            routes.push(Route { to, from });
        }
    }
    interleave(routes, |route| route.to)
}

/// What is connected to, as people write it: `example.com:80`, `[::1]:80`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) name: &'a str,
    pub(crate) port: u16,
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A name in brackets is none that exists, but is shown as it was written.
        if self.name.contains(':') && !self.name.starts_with('[') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

impl Target<'_> {
    /// Whether the target tells its only address already.
    fn is_address(&self) -> bool {
        self.name.parse::<Ipv4Addr>().is_ok() || is_ipv6(self.name)
    }
}

/// How far one call of `connect` has come.
#[derive(Debug, Default)]
pub(crate) enum Attempts {
    /// The name of the target is being resolved.
    #[default]
    ResolvingTarget,
    /// The name to connect from is being resolved.
    ResolvingSource,
    /// The addresses are being tried, in this order.
    Connecting(Vec<Attempt>),
}

/// An address, and what has become of it.
#[derive(Debug)]
pub(crate) struct Attempt {
    route: Route,
    fate: Fate,
}

#[derive(Debug)]
enum Fate {
    NotTried,
    Trying,
    Failed(Error),
}

impl Attempts {
    pub(crate) fn new(routes: Vec<Route>) -> Self {
        Self::Connecting(routes.into_iter().map(|route| Attempt { route, fate: Fate::NotTried }).collect())
    }

    /// The address at that place is being tried now.
    pub(crate) fn start(&mut self, place: usize) -> Option<Route> {
        let attempt = self.attempt(place)?;
        attempt.fate = Fate::Trying;
        Some(attempt.route)
    }

    /// The address at that place has failed.
    pub(crate) fn fail(&mut self, place: usize, error: Error) {
        if let Some(attempt) = self.attempt(place) {
            attempt.fate = Fate::Failed(error);
        }
    }

    fn attempt(&mut self, place: usize) -> Option<&mut Attempt> {
        match self {
            Self::Connecting(attempts) => attempts.get_mut(place),
            Self::ResolvingTarget | Self::ResolvingSource => None,
        }
    }

    /// The error for `target` when every address has failed.
    pub(crate) fn all_failed(&self, target: Target<'_>) -> Error {
        let message = format!("cannot connect to {target}: {}", self.list(target));
        let telling = match self {
            Self::Connecting(attempts) => {
                attempts.iter().filter_map(Attempt::failure).min_by_key(|error| rank(error.kind()))
            }
            _ => None,
        };
        match telling {
            Some(error) => error.clone().with_message(message),
            None => Error::new(ErrorKind::Internal, message),
        }
    }

    /// The error for `target` when `limit` is over.
    pub(crate) fn timed_out(&self, target: Target<'_>, limit: Duration) -> Error {
        let message =
            format!("cannot connect to {target} within the timeout of {limit:?}: {}", self.list(target));
        Error::new(ErrorKind::TimedOut, message)
    }

    /// Every address and what became of it.
    fn list(&self, target: Target<'_>) -> String {
        let attempts = match self {
            Self::ResolvingTarget => return format!("{} is still being resolved", target.name),
            Self::ResolvingSource => return "bindAddress is still being resolved".to_owned(),
            Self::Connecting(attempts) => attempts,
        };
        let mut list = String::new();
        for (place, attempt) in attempts.iter().enumerate() {
            let fate = match &attempt.fate {
                Fate::NotTried => "not tried yet",
                Fate::Trying => "no answer yet",
                Fate::Failed(error) => error.message(),
            };
            if attempts.len() == 1 && target.is_address() {
                return fate.to_owned();
            }
            let separator = if place == 0 { "" } else { "; " };
            // Writing to a text cannot fail.
            let _ = write!(list, "{separator}{}: {fate}", attempt.route.to);
        }
        list
    }
}

impl Attempt {
    fn failure(&self) -> Option<&Error> {
        match &self.fate {
            Fate::Failed(error) => Some(error),
            Fate::NotTried | Fate::Trying => None,
        }
    }
}

/// The lower, the more an error says about the target rather than about the way to it: a host without IPv6 reports each
/// IPv6 address as unreachable, which says nothing.
fn rank(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Unreachable => 1,
        kind if kind.is_retryable() => 0,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    const NAME: Target<'_> = Target { name: "example.com", port: 80 };

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn connecting(to: &[&str], failures: &[i32]) -> Attempts {
        let mut attempts = Attempts::new(routes(&addresses(to), None));
        for (place, &number) in failures.iter().enumerate() {
            attempts.start(place).unwrap();
            attempts.fail(place, Error::from(io::Error::from_raw_os_error(number)));
        }
        // The next one is under way.
        attempts.start(failures.len());
        attempts
    }

    const REFUSED: i32 = 111;
    const NETWORK_UNREACHABLE: i32 = 101;
    const NOT_AVAILABLE: i32 = 99;

    #[test]
    fn addresses_keep_the_resolvers_order_and_stand_once() {
        let targets = addresses(&["[::1]:80", "127.0.0.1:80", "[::1]:80", "127.0.0.1:80"]);
        let routes: Vec<_> = routes(&targets, None).into_iter().map(|route| (route.to, route.from)).collect();
        assert_eq!(routes, [(targets[0], None), (targets[1], None)]);
    }

    #[test]
    fn only_addresses_of_the_sources_families_are_tried() {
        let targets = addresses(&["[::1]:80", "127.0.0.1:80", "127.0.0.2:80"]);
        assert_eq!(routes(&addresses(&["[::1]:80", "[::2]:80", "127.0.0.1:80"]), None)[1].to, targets[1]);
        let v4 = addresses(&["127.0.0.9:0", "127.0.0.8:0"]);
        let chosen = routes(&targets, Some(&v4));
        assert_eq!(chosen.iter().map(|route| route.to).collect::<Vec<_>>(), targets[1..]);
        assert!(chosen.iter().all(|route| route.from == Some(v4[0])));

        let both = addresses(&["127.0.0.9:0", "[::2]:0"]);
        let from: Vec<_> = routes(&targets, Some(&both)).into_iter().filter_map(|route| route.from).collect();
        assert_eq!(from, [both[1], both[0], both[0]]);
        assert_eq!(routes(&targets[..1], Some(&v4)), []);
    }

    #[test]
    fn one_error_names_every_address_and_its_reason() {
        let attempts = connecting(&["[2001:db8::1]:80", "192.0.2.1:80"], &[NETWORK_UNREACHABLE, REFUSED]);
        let error = attempts.all_failed(NAME);
        assert_eq!(
            error.message(),
            "cannot connect to example.com:80: [2001:db8::1]:80: Network is unreachable; 192.0.2.1:80: Connection refused"
        );
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::ConnectionRefused, Some(REFUSED)));
    }

    #[test]
    fn the_kind_is_that_of_the_most_telling_failure() {
        let to = ["[2001:db8::1]:80", "192.0.2.1:80", "192.0.2.2:80"];
        for (failures, kind) in [
            ([NETWORK_UNREACHABLE, REFUSED, NETWORK_UNREACHABLE], ErrorKind::ConnectionRefused),
            ([NOT_AVAILABLE, NETWORK_UNREACHABLE, NOT_AVAILABLE], ErrorKind::Unreachable),
            ([NOT_AVAILABLE, NOT_AVAILABLE, NOT_AVAILABLE], ErrorKind::AddressNotAvailable),
        ] {
            assert_eq!(connecting(&to, &failures).all_failed(NAME).kind(), kind);
        }
    }

    #[test]
    fn an_address_stands_once_in_its_own_error() {
        let target = Target { name: "::1", port: 80 };
        let error = connecting(&["[::1]:80"], &[REFUSED]).all_failed(target);
        assert_eq!(error.message(), "cannot connect to [::1]:80: Connection refused");
        let zoned = Target { name: "fe80::1%lo", port: 80 };
        let error = connecting(&["[fe80::1%1]:80"], &[REFUSED]).all_failed(zoned);
        assert_eq!(error.message(), "cannot connect to [fe80::1%lo]:80: Connection refused");
        let error = connecting(&["[::1]:80"], &[]).timed_out(target, Duration::from_secs(30));
        assert_eq!(error.message(), "cannot connect to [::1]:80 within the timeout of 30s: no answer yet");
    }

    #[test]
    fn a_timeout_says_what_was_being_done() {
        let limit = Duration::from_millis(1500);
        let text = |attempts: &Attempts| {
            let error = attempts.timed_out(NAME, limit);
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            let start = "cannot connect to example.com:80 within the timeout of 1.5s: ";
            error.message().strip_prefix(start).unwrap().to_owned()
        };
        assert_eq!(text(&Attempts::default()), "example.com is still being resolved");
        assert_eq!(text(&Attempts::ResolvingSource), "bindAddress is still being resolved");
        let attempts = connecting(&["192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80"], &[REFUSED]);
        assert_eq!(
            text(&attempts),
            "192.0.2.1:80: Connection refused; 192.0.2.2:80: no answer yet; 192.0.2.3:80: not tried yet"
        );
    }
}
