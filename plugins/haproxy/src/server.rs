//! The server side: reads the header that a proxy sends ahead of everything else.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use endpoints_plugin_api::{
    Arguments, Connection, Error, ErrorKind, Facts, Host, Reachable, Server, TimedOut, name,
};
use ipnet::{IpNet, Ipv4Net};
use tokio::io::AsyncReadExt;

use crate::proxy::{self, Addresses, Command, Header, Invalid, kind};

/// What is read at once: both versions are meant to fit into it (section 2.2 of the protocol's text).
const AT_ONCE: usize = 536;

/// Makes the endpoint; opens nothing.
pub(crate) fn make(host: &Host, arguments: &mut Arguments<'_>) -> Result<Server, Error> {
    let settings = Arc::new(Settings {
        timeout: arguments.duration("timeout")?,
        trust: trust(arguments)?,
        is_optional: arguments.text("mode")? == "optional",
    });
    let inner = arguments.server("endpoint")?;
    let host = host.clone();
    let handshake = move |connection| {
        let (host, settings) = (host.clone(), Arc::clone(&settings));
        async move { settings.accept(&host, connection).await }
    };
    let reachable = |inner| Reachable::new("haproxy").with_nested("endpoint", inner);
    Ok(Server::wrap_reachable(inner, handshake, reachable))
}

/// Networks; an address is the one of itself alone. The host has checked that it is one of them.
fn trust(arguments: &Arguments<'_>) -> Result<Vec<IpNet>, Error> {
    let network = |text: &str| {
        let network = text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse::<IpNet>());
        network.map(canonical).map_err(|_| {
            Error::invalid_argument("trust", format!("trust: {text:?} is neither an address nor a network"))
        })
    };
    arguments.list("trust")?.into_iter().map(network).collect()
}

/// The IPv4 network where it is one that is written as IPv6 (`::ffff:0:0/96`), as peers are compared in that form.
fn canonical(network: IpNet) -> IpNet {
    let len = network.prefix_len().checked_sub(96);
    match (network.network().to_canonical(), len) {
        (IpAddr::V4(ip), Some(len)) if matches!(network, IpNet::V6(_)) => {
            Ipv4Net::new(ip, len).map_or(network, IpNet::V4)
        }
        _ => network,
    }
}

struct Settings {
    timeout: Duration,
    /// Whose header is believed; empty: everybody's.
    trust: Vec<IpNet>,
    is_optional: bool,
}

impl Settings {
    async fn accept(&self, host: &Host, mut connection: Connection) -> Result<Connection, Error> {
        if !self.trust.is_empty() {
            let peer = peer(&mut connection);
            if !self.trusts(peer.as_deref()) {
                // Nothing was read, and where headers are optional there may be none.
                let message = format!("{} is not among the proxies that trust names", shown(peer.as_deref()));
                return Err(Error::new(ErrorKind::PermissionDenied, message));
            }
        }
        let mut read = Vec::with_capacity(AT_ONCE);
        let header = match host.timeout(self.timeout, self.read(&mut connection, &mut read)).await {
            Ok(header) => header,
            Err(timed_out) => self.late(timed_out, &read),
        };
        let len = match header {
            Ok(len) => len,
            Err(error) => {
                let peer = peer(&mut connection);
                return Err(error.context(format_args!("no PROXY header from {}", shown(peer.as_deref()))));
            }
        };
        connection.unread(&read[len..]);
        Ok(match proxy::parse(&read[..len]) {
            Ok(Some(header)) => connection.with_facts(facts(&header)),
            // Optional, and not there.
            _ => connection,
        })
    }

    /// Reads until the header is there; gives its length, 0 where there is none and need be none.
    async fn read(&self, connection: &mut Connection, read: &mut Vec<u8>) -> Result<usize, Error> {
        loop {
            let count = match connection.read_buf(read).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset && read.is_empty() => {
                    return Err(given_up());
                }
                count => count.map_err(|error| Error::from_io("reading it failed", &error))?,
            };
            match proxy::parse(read) {
                Ok(Some(header)) => return Ok(header.len),
                Ok(None) if count > 0 => {}
                Ok(None) if self.is_optional && read.is_empty() => return Ok(0),
                Ok(None) if read.is_empty() => return Err(given_up()),
                Ok(None) => {
                    let message = "the connection was closed in the middle of it";
                    return Err(Error::new(ErrorKind::HandshakeFailed, message));
                }
                // What only looks like a header is not passed on: whoever sends it may be playing tricks.
                Err(Invalid::Signature) if self.is_optional => return Ok(0),
                Err(problem) => return Err(Error::new(ErrorKind::HandshakeFailed, problem.message())),
            }
        }
    }

    fn late(&self, timed_out: TimedOut, read: &[u8]) -> Result<usize, Error> {
        // Where servers speak first, a client that sends no header sends nothing.
        if self.is_optional && read.is_empty() { Ok(0) } else { Err(timed_out.into()) }
    }

    fn trusts(&self, peer: Option<&str>) -> bool {
        let Some(address) = peer.and_then(|peer| peer.parse::<SocketAddr>().ok()) else { return false };
        let ip = address.ip().to_canonical();
        self.trust.iter().any(|network| network.contains(&ip))
    }
}

/// Who only looks whether there is a server closes the connection before anything has failed.
fn given_up() -> Error {
    Error::new(ErrorKind::Cancelled, "the connection was closed before it")
}

/// The address of who really connected.
fn peer(connection: &mut Connection) -> Option<String> {
    let facts = connection.facts();
    let known = [name::PEER_IP, name::PEER_UNIX].iter().find_map(|name| facts.get(name))?;
    Some(String::from_utf8_lossy(known).into_owned())
}

fn shown(peer: Option<&str>) -> &str {
    match peer {
        Some("") | None => "the client",
        Some(peer) => peer,
    }
}

/// Bytes of what a header without TLVs tells: two IPv4 addresses, the version and the command.
const USUAL_FACTS: usize = 160;

/// What a header tells; addresses only where they count.
fn facts(header: &Header<'_>) -> Facts {
    let mut facts = Facts::with_capacity(USUAL_FACTS);
    match header.addresses {
        Addresses::Unknown => {}
        Addresses::Ip { source, destination, .. } => {
            facts.push_ip(name::PEER_IP, source);
            facts.push_ip(name::LOCAL_IP, destination);
        }
        Addresses::Unix { source, destination, .. } => {
            facts.push(name::PEER_UNIX, source);
            facts.push(name::LOCAL_UNIX, destination);
        }
    }
    facts.push(name::PROXY_VERSION, [b'0' + header.version]);
    facts.push(name::PROXY_COMMAND, if header.command == Command::Local { "LOCAL" } else { "PROXY" });
    // Fields that are only there to fill the header up tell nothing.
    for tlv in header.tlvs.into_iter().filter(|tlv| tlv.kind != kind::NOOP) {
        facts.push(name::PROXY_TLV, [&[tlv.kind], tlv.value].concat());
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::Encoder;

    #[test]
    fn fields_become_facts_in_their_order_except_fillers() {
        let addresses = Addresses::Unix { source: b"", destination: b"/s", is_datagram: false };
        let mut encoder = Encoder::new(Command::Proxy, &addresses);
        for number in 0..10_000_u16 {
            encoder = encoder.with(kind::NOOP, b"").with(0xe0, &number.to_be_bytes());
        }
        let bytes = encoder.finish();
        let header = proxy::parse(&bytes).unwrap().unwrap();
        let facts = facts(&header);
        let told: Vec<_> =
            facts.iter().filter(|(name, _)| *name == name::PROXY_TLV).map(|(_, value)| value).collect();
        // Behind them there is the checksum.
        let count = told.len() - 1;
        assert!(count > 8000 && told[count][0] == kind::CRC32C, "{count}");
        for (number, tlv) in told[..count].iter().enumerate() {
            assert_eq!(tlv[1..], u16::try_from(number).unwrap().to_be_bytes());
        }
    }
}
