//! How a handshake fails.

use std::error::Error;
use std::fmt;

use super::METHOD_LOGIN;

/// Why a handshake cannot be made or cannot go on.
///
/// `Display` is one line that says what to do next where that is known. No variant holds credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A field of the request is empty.
    Empty {
        /// Which field.
        field: Field,
    },
    /// A field of the request is longer than the 255 bytes the protocol has room for.
    TooLong {
        /// Which field.
        field: Field,
    },
    /// A reply does not begin with version 5.
    NotSocks5 {
        /// Which reply.
        stage: Stage,
        /// The byte in place of the version.
        version: u8,
    },
    /// The proxy accepts none of the authentication methods offered.
    NoAcceptableMethod {
        /// Whether "user name and password" was among them.
        credentials_given: bool,
    },
    /// The proxy chose an authentication method that was not offered.
    MethodNotOffered {
        /// The method's number, RFC 1928 section 3.
        method: u8,
    },
    /// The reply to the user name and password is not of version 1 of that sub-negotiation.
    AuthenticationVersion {
        /// The byte in place of the version.
        version: u8,
    },
    /// The proxy refused the user name and password.
    AuthenticationRefused {
        /// The status, any number but 0.
        status: u8,
    },
    /// The proxy refused the request, or could not reach the target.
    Refused {
        /// The reason it gave.
        reply: Reply,
    },
    /// The proxy accepted the request with an address of unknown form, so where its reply ends cannot be known.
    BadAddressType {
        /// The number in place of an address type, RFC 1928 section 5.
        address_type: u8,
    },
    /// The stream ended before the handshake did.
    Ended {
        /// How far it had come.
        stage: Stage,
    },
}

impl ProtocolError {
    /// Whether the same handshake over a new connection may succeed although nothing has been changed.
    ///
    /// That is so where the proxy could not reach the target, and where it closed the connection: but not if it did
    /// that in reply to credentials, which is how some proxies refuse them.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused { reply } => reply.is_retryable(),
            Self::Ended { stage } => *stage != Stage::Authentication,
            Self::Empty { .. }
            | Self::TooLong { .. }
            | Self::NotSocks5 { .. }
            | Self::NoAcceptableMethod { .. }
            | Self::MethodNotOffered { .. }
            | Self::AuthenticationVersion { .. }
            | Self::AuthenticationRefused { .. }
            | Self::BadAddressType { .. } => false,
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty { field } => write!(f, "{field} is empty: SOCKS5 needs 1 to 255 bytes"),
            Self::TooLong { field } => {
                write!(f, "{field} is too long: SOCKS5 has room for no more than 255 bytes")
            }
            Self::NotSocks5 { stage: Stage::Method, version } => {
                write!(f, "not a SOCKS5 proxy: {}; check the proxy's port", answer(*version))
            }
            Self::NotSocks5 { stage, version } => {
                write!(
                    f,
                    "the proxy broke the protocol while {stage}: byte 0x{version:02x} in place of version 5"
                )
            }
            Self::NoAcceptableMethod { credentials_given: false } => f.write_str(
                "the proxy does not accept clients without authentication: give a user name and password",
            ),
            Self::NoAcceptableMethod { credentials_given: true } => f.write_str(
                "the proxy accepts neither a user name and password nor clients without authentication: \
                 it needs a method that is not supported here",
            ),
            Self::MethodNotOffered { method: METHOD_LOGIN } => f.write_str(
                "the proxy chose a user name and password (method 0x02), which was not offered: give them",
            ),
            Self::MethodNotOffered { method } => {
                write!(f, "the proxy chose authentication method 0x{method:02x}, which was not offered")
            }
            Self::AuthenticationVersion { version } => write!(
                f,
                "the proxy broke the protocol while {}: byte 0x{version:02x} in place of version 1",
                Stage::Authentication
            ),
            Self::AuthenticationRefused { status } => {
                write!(f, "the proxy refused the user name and password (status 0x{status:02x}): check them")
            }
            Self::Refused { reply } => write!(f, "{reply}"),
            Self::BadAddressType { address_type } => write!(
                f,
                "the proxy broke the protocol while {}: its reply has the unknown address type 0x{address_type:02x}",
                Stage::Request
            ),
            Self::Ended { stage: Stage::Method } => {
                write!(f, "the connection ended while {}: check that it is a SOCKS5 proxy", Stage::Method)
            }
            Self::Ended { stage: Stage::Authentication } => write!(
                f,
                "the connection ended while {}: check the user name and password",
                Stage::Authentication
            ),
            Self::Ended { stage } => write!(f, "the connection ended while {stage}"),
        }
    }
}

impl Error for ProtocolError {}

/// What a first byte other than 5 tells about the server.
fn answer(byte: u8) -> String {
    match byte {
        b'H' => "the answer looks like HTTP".to_owned(),
        b'S' => "the answer looks like SSH".to_owned(),
        // A SOCKS4 reply begins with 0, but servers are known to send their version.
        0 | 4 => format!("the answer looks like SOCKS4 (byte 0x{byte:02x})"),
        // The alert with which a TLS server answers what is not TLS.
        0x15 => "the answer looks like TLS".to_owned(),
        _ => format!("the answer begins with byte 0x{byte:02x} in place of version 5"),
    }
}

/// A field whose length the protocol limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Field {
    /// The name of the target.
    TargetName,
    /// The user name.
    Username,
    /// The password.
    Password,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TargetName => "the target's name",
            Self::Username => "the user name",
            Self::Password => "the password",
        })
    }
}

/// How far a handshake has come. `Display` completes "the connection ended while …".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// The greeting, up to the proxy's choice of an authentication method.
    Method,
    /// The user name and password, up to the proxy's verdict.
    Authentication,
    /// The CONNECT request, up to the end of the proxy's reply.
    Request,
    /// The handshake is complete.
    Established,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Method => "agreeing with the proxy on an authentication method",
            Self::Authentication => "authenticating to the proxy",
            Self::Request => "waiting for the proxy to connect to the target",
            Self::Established => "talking to the target through the proxy",
        })
    }
}

/// Why a proxy refused a request (REP, RFC 1928 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// 1: general SOCKS server failure.
    GeneralFailure,
    /// 2: connection not allowed by ruleset.
    NotAllowed,
    /// 3: network unreachable.
    NetworkUnreachable,
    /// 4: host unreachable.
    HostUnreachable,
    /// 5: connection refused.
    ConnectionRefused,
    /// 6: TTL expired.
    TtlExpired,
    /// 7: command not supported.
    CommandNotSupported,
    /// 8: address type not supported.
    AddressTypeNotSupported,
    /// A number that RFC 1928 does not assign.
    Unknown(u8),
}

impl Reply {
    /// The refusal a reply code stands for, or `None` for 0, which is success.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => return None,
            1 => Self::GeneralFailure,
            2 => Self::NotAllowed,
            3 => Self::NetworkUnreachable,
            4 => Self::HostUnreachable,
            5 => Self::ConnectionRefused,
            6 => Self::TtlExpired,
            7 => Self::CommandNotSupported,
            8 => Self::AddressTypeNotSupported,
            code => Self::Unknown(code),
        })
    }

    /// Whether the same request may succeed later: true where the way to the target failed, or no reason was given.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        match self {
            Self::GeneralFailure
            | Self::NetworkUnreachable
            | Self::HostUnreachable
            | Self::ConnectionRefused
            | Self::TtlExpired => true,
            Self::NotAllowed
            | Self::CommandNotSupported
            | Self::AddressTypeNotSupported
            | Self::Unknown(_) => false,
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GeneralFailure => {
                "the proxy failed to connect to the target and gave no reason: see its log"
            }
            Self::NotAllowed => "the proxy's rules do not allow a connection to the target",
            Self::NetworkUnreachable => "the proxy cannot reach the target's network",
            Self::HostUnreachable => "the proxy cannot reach the target host, or cannot resolve its name",
            Self::ConnectionRefused => {
                "the target refused the proxy's connection: check that it listens on this port"
            }
            Self::TtlExpired => "the proxy's connection to the target took too many hops (TTL expired)",
            Self::CommandNotSupported => "the proxy does not support the command CONNECT",
            Self::AddressTypeNotSupported => {
                "the proxy does not support this form of address: \
                 try the other of a name and an IP address, or the other IP version"
            }
            Self::Unknown(code) => {
                return write!(
                    f,
                    "the proxy refused with reply code 0x{code:02x}, which RFC 1928 does not assign"
                );
            }
        })
    }
}
