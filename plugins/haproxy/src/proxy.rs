//! Headers of the PROXY protocol, versions 1 and 2, from bytes and to bytes, without input and output.
//!
//! The source is the protocol's text, `doc/proxy-protocol.txt` of HAProxy; sections are those of that text.

mod encode;
mod tlv;
mod v1;
mod v2;

use std::fmt;
use std::net::SocketAddr;

pub use encode::{Encoder, encode_v1};
pub use tlv::{Ssl, Tlv, Tlvs, kind};

/// The first twelve bytes of version 2 (section 2.2).
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// A header that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// 1 or 2.
    pub version: u8,
    /// What the connection is.
    pub command: Command,
    /// From where to where the proxied connection goes.
    pub addresses: Addresses<'a>,
    /// What else version 2 tells; checked already.
    pub tlvs: Tlvs<'a>,
    /// How many bytes the header has.
    pub len: usize,
}

/// What a connection with a header is (section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// The proxy's own, such as a health check: the real addresses count.
    Local,
    /// That of somebody else.
    Proxy,
}

/// From where to where a proxied connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses<'a> {
    /// The proxy does not say: the real addresses count.
    Unknown,
    /// Over IPv4 or IPv6.
    Ip {
        /// Who connected.
        source: SocketAddr,
        /// Where to.
        destination: SocketAddr,
        /// Whether it is UDP, not TCP.
        is_datagram: bool,
    },
    /// Between Unix sockets; names begin with NUL where they are abstract, and are empty where there is none.
    Unix {
        /// Who connected.
        source: &'a [u8],
        /// Where to.
        destination: &'a [u8],
        /// Whether it is a datagram socket, not a stream.
        is_datagram: bool,
    },
}

/// Why bytes are no header, and will not become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// They begin otherwise than headers do.
    Signature,
    /// Version 1: no protocol that there is.
    Protocol,
    /// Version 1: two spaces in a row, or one at the end.
    Spacing,
    /// Version 1: fewer fields than there must be.
    MissingField,
    /// Version 1: more fields than there can be.
    ExtraField,
    /// Version 1: an address that is none of the family, or not in its plain form.
    Address,
    /// Version 1: a port that is none, or not in its plain form.
    Port,
    /// Version 1: a line that does not end in CR LF.
    LineEnd,
    /// Version 1: a line longer than 107 bytes.
    TooLong,
    /// Version 2: a version that is not 2.
    Version,
    /// Version 2: neither LOCAL nor PROXY.
    Command,
    /// Version 2: no address family that there is.
    Family,
    /// Version 2: neither stream nor datagram.
    Transport,
    /// Version 2: less room than the addresses need.
    AddressTooShort,
    /// Version 2: a TLV that goes past the end, or whose value is not of its type.
    Tlv,
    /// Version 2: the checksum is wrong.
    Checksum,
}

impl Invalid {
    /// One line about it.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::Signature => "it does not begin with a PROXY header",
            Self::Protocol => "the protocol is none of TCP4, TCP6 and UNKNOWN",
            Self::Spacing => "its fields do not have one space between them",
            Self::MissingField => "it has too few fields",
            Self::ExtraField => "it has too many fields",
            Self::Address => "an address is none",
            Self::Port => "a port is none",
            Self::LineEnd => "its line does not end in CR LF",
            Self::TooLong => "its line is longer than 107 bytes",
            Self::Version => "its version is neither 1 nor 2",
            Self::Command => "its command is neither LOCAL nor PROXY",
            Self::Family => "its address family is unknown",
            Self::Transport => "its transport is unknown",
            Self::AddressTooShort => "it is too short for its addresses",
            Self::Tlv => "a TLV in it is damaged",
            Self::Checksum => "its checksum is wrong",
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for Invalid {}

/// Reads the header at the beginning of `bytes`; `None` where more bytes may make them one.
///
/// What comes out does not depend on how many bytes more than the header there are.
///
/// # Errors
/// Why they are no header, and will not become one.
#[inline]
pub fn parse(bytes: &[u8]) -> Result<Option<Header<'_>>, Invalid> {
    match bytes.first() {
        None => Ok(None),
        Some(b'P') => v1::parse(bytes),
        Some(b'\r') => v2::parse(bytes),
        Some(_) => Err(Invalid::Signature),
    }
}

#[cfg(test)]
mod tests;
