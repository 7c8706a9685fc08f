//! How a listener is reached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use rustix::net::SocketAddrUnix;

use crate::facts::Facts;

/// A client description in parts: a way to reach a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reachable {
    /// The scheme.
    pub scheme: String,
    /// The arguments by name.
    pub arguments: Vec<(String, Argument)>,
}

/// The value of one argument of a [`Reachable`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// The value itself; whoever prints it quotes it.
    Value(Vec<u8>),
    /// A description inside the description.
    Nested(Reachable),
}

impl Reachable {
    /// A description without arguments.
    #[must_use]
    pub fn new(scheme: impl Into<String>) -> Self {
        Self { scheme: scheme.into(), arguments: Vec::new() }
    }

    /// The ways to reach a listening socket from this machine, as Linux' own sockets are reached.
    #[must_use]
    pub fn of_socket(socket: impl AsFd) -> Vec<Self> {
        Self::of(socket).into_iter().collect()
    }

    fn of(socket: impl AsFd) -> Option<Self> {
        let bound = rustix::net::getsockname(socket).ok()?;
        if let Ok(bound) = SocketAddr::try_from(bound.clone()) {
            return Some(Self::tcp(bound));
        }
        // A path of 108 bytes is told with a NUL behind it (unix(7), BUGS), which rustix panics about.
        if bound.addr_len() > 110 {
            return None;
        }
        let bound = SocketAddrUnix::try_from(bound).ok()?;
        if let Some(name) = bound.abstract_name().filter(|name| !name.is_empty()) {
            return Some(Self::new("unix").with("abstract", name));
        }
        Some(Self::new("unix").with("path", bound.path_bytes()?))
    }

    /// The way to reach, from this machine, what is bound to an internet address.
    fn tcp(bound: SocketAddr) -> Self {
        // A socket bound to ::ffff:192.0.2.1 is reached, as any of IPv4, by 192.0.2.1.
        let host = match bound.ip().to_canonical() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.to_string(),
            ip => match bound {
                SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{ip}%{}", v6.scope_id()),
                _ => ip.to_string(),
            },
        };
        Self::new("tcp").with("host", host).with("port", bound.port().to_string())
    }

    /// The same with one more argument.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.arguments.push((name.to_owned(), Argument::Value(value.as_ref().to_vec())));
        self
    }

    /// The same with a nested description.
    #[must_use]
    pub fn with_nested(mut self, name: &str, inner: Self) -> Self {
        self.arguments.push((name.to_owned(), Argument::Nested(inner)));
        self
    }

    /// Takes the form of the boundary apart: a fact with an empty name begins a description and holds its scheme; a
    /// name with `@` before it has a nested description in the same form as its value.
    #[must_use]
    pub fn decode(facts: &Facts) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for (name, value) in facts.iter() {
            if name.is_empty() {
                all.push(Self::new(String::from_utf8_lossy(value)));
            } else if let Some(last) = all.last_mut() {
                match name.strip_prefix('@') {
                    None => last.arguments.push((name.to_owned(), Argument::Value(value.to_vec()))),
                    Some(name) => {
                        if let Some(inner) =
                            Self::decode(&Facts::from_bytes(value.to_vec())).into_iter().next()
                        {
                            last.arguments.push((name.to_owned(), Argument::Nested(inner)));
                        }
                    }
                }
            }
        }
        all
    }

    /// Puts descriptions into the form of the boundary.
    #[must_use]
    pub fn encode(all: &[Self]) -> Facts {
        let mut facts = Facts::new();
        for one in all {
            facts.push("", &one.scheme);
            for (name, value) in &one.arguments {
                match value {
                    Argument::Value(value) => facts.push(name, value),
                    Argument::Nested(inner) => {
                        let inner = Self::encode(std::slice::from_ref(inner));
                        facts.push(&format!("@{name}"), inner.into_bytes());
                    }
                }
            }
        }
        facts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_reached_where_it_is_bound() {
        for (bound, host, port) in [
            ("0.0.0.0:80", "127.0.0.1", "80"),
            ("[::]:80", "::1", "80"),
            ("[::ffff:0.0.0.0]:80", "127.0.0.1", "80"),
            ("192.0.2.1:41213", "192.0.2.1", "41213"),
            ("[2001:db8::1]:80", "2001:db8::1", "80"),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1", "80"),
            ("[fe80::1%2]:80", "fe80::1%2", "80"),
        ] {
            let expected = Reachable::new("tcp").with("host", host).with("port", port);
            assert_eq!(Reachable::tcp(bound.parse().unwrap()), expected, "{bound}");
        }
    }
}
