//! Addresses of listeners and peers.

use std::ffi::OsStr;
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use endpoints_plugin_api::name;
use rustix::net::{SocketAddrAny, SocketAddrUnix};
use smallvec::SmallVec;

/// The value of a fact; an IPv4 address and a port fit without an allocation.
type FactValue = SmallVec<[u8; "255.255.255.255:65535".len()]>;

/// An address of one end of a connection, or of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// An IP address and port. An IPv4 address is one also where the socket is of IPv6 and has it as `::ffff:192.0.2.1`.
    Ip(SocketAddr),
    /// A Unix socket's path.
    UnixPath(PathBuf),
    /// A name in Linux' abstract namespace, without the leading NUL.
    UnixAbstract(Vec<u8>),
    /// A Unix socket without a name, as clients mostly have.
    UnixUnnamed,
    /// A host name and port that somebody else resolves, as `example.com:80`.
    Name(String),
}

impl Address {
    /// The port, where there is one.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Ip(address) => Some(address.port()),
            Self::Name(name) => name.rsplit_once(':').and_then(|(_, port)| port.parse().ok()),
            _ => None,
        }
    }

    /// The IP address and port, where it is one.
    #[must_use]
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            _ => None,
        }
    }

    /// The path, where it is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::UnixPath(path) => Some(path),
            _ => None,
        }
    }

    pub(crate) fn from_ip(address: SocketAddr) -> Self {
        let mapped = match address {
            SocketAddr::V6(six) => six.ip().to_ipv4_mapped(),
            SocketAddr::V4(_) => None,
        };
        Self::Ip(mapped.map_or(address, |ip| SocketAddr::new(ip.into(), address.port())))
    }

    pub(crate) fn from_unix(address: &tokio::net::unix::SocketAddr) -> Self {
        match (address.as_pathname(), address.as_abstract_name()) {
            (Some(path), _) => Self::UnixPath(path.to_owned()),
            (None, Some(name)) => Self::UnixAbstract(name.to_owned()),
            (None, None) => Self::UnixUnnamed,
        }
    }

    /// The address of a socket; `None` for those of families that nobody listens on here.
    pub(crate) fn from_socket(address: SocketAddrAny) -> Option<Self> {
        if let Ok(address) = SocketAddr::try_from(address.clone()) {
            return Some(Self::from_ip(address));
        }
        let address = SocketAddrUnix::try_from(address).ok()?;
        // The kernel tells of a socket without a name in a form that is also that of an empty abstract one.
        Some(match (address.path_bytes(), address.abstract_name()) {
            (Some(path), _) => Self::UnixPath(Path::new(OsStr::from_bytes(path)).to_owned()),
            (None, Some(name)) if !name.is_empty() => Self::UnixAbstract(name.to_owned()),
            _ => Self::UnixUnnamed,
        })
    }

    /// As a fact about this side (`local`) or the peer: its name and value.
    pub(crate) fn to_fact(&self, local: bool) -> (&'static str, FactValue) {
        let unix = if local { name::LOCAL_UNIX } else { name::PEER_UNIX };
        match self {
            Self::Ip(address) => (if local { name::LOCAL_IP } else { name::PEER_IP }, ip_text(*address)),
            Self::UnixPath(path) => (unix, path.as_os_str().as_bytes().into()),
            Self::UnixAbstract(abstract_name) => (unix, [&[0], abstract_name.as_slice()].concat().into()),
            Self::UnixUnnamed => (unix, FactValue::new()),
            Self::Name(text) => (name::PEER_NAME, text.as_bytes().into()),
        }
    }

    pub(crate) fn from_fact(fact: &str, value: &[u8]) -> Option<Self> {
        match fact {
            name::LOCAL_IP | name::PEER_IP => {
                std::str::from_utf8(value).ok()?.parse().ok().map(Self::from_ip)
            }
            name::LOCAL_UNIX | name::PEER_UNIX => Some(match value {
                [] => Self::UnixUnnamed,
                [0, abstract_name @ ..] => Self::UnixAbstract(abstract_name.to_vec()),
                path => Self::UnixPath(Path::new(OsStr::from_bytes(path)).to_owned()),
            }),
            name::PEER_NAME => std::str::from_utf8(value).ok().map(|text| Self::Name(text.to_owned())),
            _ => None,
        }
    }
}

/// As `Display` writes it. Every accepted connection with a wrapper around it needs two of these, and the machinery of
/// formatting takes more than ten times as many instructions.
fn ip_text(address: SocketAddr) -> FactValue {
    let SocketAddr::V4(address) = address else { return address.to_string().into_bytes().into() };
    let mut text = FactValue::new();
    for (octet, end) in address.ip().octets().into_iter().zip(*b"...:") {
        push_number(&mut text, octet.into());
        text.push(end);
    }
    push_number(&mut text, address.port());
    text
}

fn push_number(text: &mut FactValue, number: u16) {
    let mut begun = false;
    for unit in [10_000, 1000, 100, 10, 1] {
        let digit = number / unit % 10;
        begun |= digit != 0 || unit == 1;
        if begun {
            text.push(b'0' + digit as u8);
        }
    }
}

/// For people and logs: `127.0.0.1:80`, a path, `@name` or `unnamed`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::UnixPath(path) => path.display().fmt(f),
            Self::UnixAbstract(name) => write!(f, "@{}", String::from_utf8_lossy(name)),
            Self::UnixUnnamed => f.write_str("unnamed"),
            Self::Name(name) => name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ip_addresses_are_facts_in_the_form_that_is_displayed() {
        for text in [
            "0.0.0.0:0",
            "127.0.0.1:80",
            "10.200.30.99:100",
            "255.255.255.255:65535",
            "1.2.3.4:10009",
            "[2001:db8::1]:443",
        ] {
            let address = Address::Ip(text.parse().unwrap());
            let (name, value) = address.to_fact(false);
            assert_eq!(value.as_slice(), text.as_bytes());
            assert_eq!(Address::from_fact(name, &value), Some(address));
        }
    }

    #[test]
    fn ipv4_written_as_ipv6_is_ipv4() {
        for (text, expected) in [
            ("[::ffff:192.0.2.1]:80", "192.0.2.1:80"),
            ("192.0.2.1:80", "192.0.2.1:80"),
            ("[::192.0.2.1]:80", "[::192.0.2.1]:80"),
            // The zone of a link-local address stays.
            ("[fe80::1%3]:80", "[fe80::1%3]:80"),
        ] {
            let expected = Address::Ip(expected.parse().unwrap());
            assert_eq!(Address::from_ip(text.parse().unwrap()), expected);
            assert_eq!(Address::from_fact(name::PEER_IP, text.as_bytes()), Some(expected));
        }
    }
}
