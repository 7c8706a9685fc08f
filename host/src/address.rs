//! Addresses of listeners and peers.

use std::ffi::OsStr;
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use endpoints_plugin_api::{Facts, name};
use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix};

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

/// Of a Unix address as a program may write it. The kernel tells a path that fills it with a NUL behind it, which is one byte more (unix(7), BUGS),
/// and which rustix panics about: whoever can connect could end a service by that.
const LONGEST_UNIX: u32 = 110;

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

    /// The address of a socket; `None` for those of families that nobody listens on here. One with a path of 108 bytes has none that can
    /// be told.
    pub(crate) fn from_socket(address: SocketAddrAny) -> Option<Self> {
        if let Ok(address) = SocketAddr::try_from(address.clone()) {
            return Some(Self::from_ip(address));
        }
        if address.address_family() == AddressFamily::UNIX && address.addr_len() > LONGEST_UNIX {
            return Some(Self::UnixUnnamed);
        }
        let address = SocketAddrUnix::try_from(address).ok()?;
        // The kernel tells of a socket without a name in a form that is also that of an empty abstract one.
        Some(match (address.path_bytes(), address.abstract_name()) {
            (Some(path), _) => Self::UnixPath(Path::new(OsStr::from_bytes(path)).to_owned()),
            (None, Some(name)) if !name.is_empty() => Self::UnixAbstract(name.to_owned()),
            _ => Self::UnixUnnamed,
        })
    }

    /// Tells it as a fact about this side (`local`) or the peer.
    pub(crate) fn tell(&self, local: bool, facts: &mut Facts) {
        let unix = if local { name::LOCAL_UNIX } else { name::PEER_UNIX };
        match self {
            Self::Ip(address) => facts.push_ip(if local { name::LOCAL_IP } else { name::PEER_IP }, *address),
            Self::UnixPath(path) => facts.push(unix, path.as_os_str().as_bytes()),
            Self::UnixAbstract(abstract_name) => facts.push(unix, [&[0], abstract_name.as_slice()].concat()),
            Self::UnixUnnamed => facts.push(unix, ""),
            Self::Name(text) => facts.push(name::PEER_NAME, text),
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
    fn what_is_told_is_understood() {
        for address in [
            Address::Ip("127.0.0.1:80".parse().unwrap()),
            Address::Ip("[2001:db8::1]:443".parse().unwrap()),
            Address::UnixPath("/run/a".into()),
            Address::UnixAbstract(b"a".to_vec()),
            Address::UnixUnnamed,
            Address::Name("example.com:80".into()),
        ] {
            let mut facts = Facts::new();
            address.tell(false, &mut facts);
            let (name, value) = facts.iter().next().unwrap();
            assert_eq!(Address::from_fact(name, value), Some(address));
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
