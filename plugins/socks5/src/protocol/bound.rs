//! What the proxy says about its end of the connection to the target.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::exactly;

/// The address (BND.ADDR) and port (BND.PORT) of the proxy's own socket towards the target, RFC 1928 section 6.
///
/// For information only: many proxies answer `0.0.0.0:0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// An IPv4 or IPv6 address.
    Ip(SocketAddr),
    /// A name. Bytes that are not UTF-8 are replaced by U+FFFD, and it may be empty: nothing but the length is
    /// checked. `Display` escapes control characters.
    Name {
        /// The name as the proxy spells it.
        host: String,
        /// The port.
        port: u16,
    },
}

impl Bound {
    /// Decodes an address and the two bytes of the port behind it.
    pub(super) fn decode(kind: AddressType, bytes: &[u8]) -> Self {
        let (address, port) = bytes.split_at(bytes.len() - 2);
        let port = u16::from_be_bytes(exactly(port));
        match kind {
            AddressType::V4 => Self::Ip((Ipv4Addr::from(exactly::<4>(address)), port).into()),
            AddressType::V6 => Self::Ip((Ipv6Addr::from(exactly::<16>(address)), port).into()),
            AddressType::Name => Self::Name { host: String::from_utf8_lossy(address).into_owned(), port },
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => write!(f, "{address}"),
            Self::Name { host, port } => write!(f, "{}:{port}", host.escape_debug()),
        }
    }
}

/// The form of an address, RFC 1928 section 5 (ATYP).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddressType {
    V4 = 1,
    Name = 3,
    V6 = 4,
}

impl AddressType {
    pub(super) fn from_code(code: u8) -> Option<Self> {
        [Self::V4, Self::Name, Self::V6].into_iter().find(|kind| kind.code() == code)
    }

    pub(super) const fn code(self) -> u8 {
        self as u8
    }
}
