//! What the client asks of the proxy, and its encoding.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::bound::AddressType;
use super::{Field, LOGIN_VERSION, ProtocolError, VERSION};

/// The command "connect", RFC 1928 section 4.
const COMMAND_CONNECT: u8 = 1;

/// Where the proxy shall connect to (DST.ADDR and DST.PORT, RFC 1928 section 4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A name of 1 to 255 bytes, which the proxy resolves.
    ///
    /// It is sent as it stands; an internationalised name has to be given in its ASCII form. An IPv4 or IPv6 address
    /// written as a name, without brackets, is sent as an address.
    Name {
        /// The name.
        host: String,
        /// The port.
        port: u16,
    },
    /// An IPv4 or IPv6 address.
    ///
    /// An IPv6 scope or flow label is not sent: the protocol has no place for it, and a scope would mean nothing on
    /// another machine.
    Ip(SocketAddr),
}

impl Target {
    /// The CONNECT request, RFC 1928 section 4.
    pub(super) fn into_request(self) -> Result<Vec<u8>, ProtocolError> {
        let mut request = vec![VERSION, COMMAND_CONNECT, 0];
        let (host, port) = match self {
            Self::Name { host, port } => (host.parse().map_err(|_| host), port),
            Self::Ip(address) => (Ok(address.ip()), address.port()),
        };
        match host {
            Ok(IpAddr::V4(ip)) => {
                request.push(AddressType::V4.code());
                request.extend(ip.octets());
            }
            Ok(IpAddr::V6(ip)) => {
                request.push(AddressType::V6.code());
                request.extend(ip.octets());
            }
            Err(name) => {
                request.push(AddressType::Name.code());
                push_counted(&mut request, Field::TargetName, name.as_bytes())?;
            }
        }
        request.extend(port.to_be_bytes());
        Ok(request)
    }
}

/// A user name and a password, each of 1 to 255 bytes in whatever encoding the proxy expects.
///
/// They cross the network in the clear (RFC 1929 section 3). `Debug` shows neither: user names, too, are used to
/// carry tokens.
#[derive(Clone)]
pub struct Credentials {
    username: Vec<u8>,
    password: Vec<u8>,
}

impl Credentials {
    /// Takes credentials as they are; [`Handshake::new`](super::Handshake::new) checks their lengths.
    pub fn new(username: impl Into<Vec<u8>>, password: impl Into<Vec<u8>>) -> Self {
        Self { username: username.into(), password: password.into() }
    }

    /// The request of RFC 1929 section 2.
    pub(super) fn into_login(self) -> Result<Vec<u8>, ProtocolError> {
        let mut login = vec![LOGIN_VERSION];
        push_counted(&mut login, Field::Username, &self.username)?;
        push_counted(&mut login, Field::Password, &self.password)?;
        Ok(login)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials { username: ***, password: *** }")
    }
}

/// Appends a field behind its length of one byte.
fn push_counted(message: &mut Vec<u8>, field: Field, bytes: &[u8]) -> Result<(), ProtocolError> {
    if bytes.is_empty() {
        return Err(ProtocolError::Empty { field });
    }
    let length = u8::try_from(bytes.len()).map_err(|_| ProtocolError::TooLong { field })?;
    message.push(length);
    message.extend(bytes);
    Ok(())
}
