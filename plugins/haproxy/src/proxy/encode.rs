//! Headers to bytes.

use std::net::{IpAddr, SocketAddr};

use super::{Addresses, Command, SIGNATURE, kind};

/// The header of version 1: of TCP over IP, or UNKNOWN.
#[must_use]
pub fn encode_v1(addresses: &Addresses<'_>) -> String {
    match addresses {
        Addresses::Ip { source, destination, is_datagram: false } => {
            let (source, destination) = one_family(*source, *destination);
            let protocol = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            format!(
                "PROXY {protocol} {} {} {} {}\r\n",
                source.ip(),
                destination.ip(),
                source.port(),
                destination.port()
            )
        }
        _ => "PROXY UNKNOWN\r\n".to_owned(),
    }
}

/// Both in IPv6 where they are not of one family.
fn one_family(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let six = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    };
    if source.is_ipv4() == destination.is_ipv4() {
        (source, destination)
    } else {
        (six(source), six(destination))
    }
}

/// Writes a header of version 2.
#[derive(Clone, Debug)]
pub struct Encoder(Vec<u8>);

impl Encoder {
    /// Begins with the addresses; what has none that version 2 can carry is UNSPEC.
    #[must_use]
    pub fn new(command: Command, addresses: &Addresses<'_>) -> Self {
        let mut bytes = SIGNATURE.to_vec();
        bytes.push(if command == Command::Local { 0x20 } else { 0x21 });
        let transport = |is_datagram: &bool| if *is_datagram { 2 } else { 1 };
        match addresses {
            Addresses::Ip { source, destination, is_datagram } => {
                let (source, destination) = one_family(*source, *destination);
                bytes.push(if source.is_ipv4() { 0x10 } else { 0x20 } | transport(is_datagram));
                bytes.extend([0; 2]);
                for address in [source, destination] {
                    match address.ip() {
                        IpAddr::V4(ip) => bytes.extend(ip.octets()),
                        IpAddr::V6(ip) => bytes.extend(ip.octets()),
                    }
                }
                bytes.extend(source.port().to_be_bytes());
                bytes.extend(destination.port().to_be_bytes());
            }
            Addresses::Unix { source, destination, is_datagram }
                if source.len() <= 108 && destination.len() <= 108 =>
            {
                bytes.push(0x30 | transport(is_datagram));
                bytes.extend([0; 2]);
                for name in [source, destination] {
                    bytes.extend_from_slice(name);
                    bytes.extend(std::iter::repeat_n(0, 108 - name.len()));
                }
            }
            _ => bytes.extend([0; 3]),
        }
        Self(bytes)
    }

    /// Adds a field; one that no longer fits into the 65535 bytes of a header, with its checksum, is left out.
    #[must_use]
    pub fn with(mut self, kind: u8, value: &[u8]) -> Self {
        const CHECKSUM: usize = 7;
        let room = 16 + usize::from(u16::MAX) - CHECKSUM;
        let fits = self.0.len() + 3 + value.len() <= room;
        if let Some(len) = u16::try_from(value.len()).ok().filter(|_| fits) {
            self.0.push(kind);
            self.0.extend(len.to_be_bytes());
            self.0.extend_from_slice(value);
        }
        self
    }

    /// The header, with its checksum.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.0.extend([kind::CRC32C, 0, 4]);
        let at = self.0.len();
        self.0.extend([0; 4]);
        // Whatever was added was looked at for its length.
        let len = u16::try_from(self.0.len() - 16).unwrap_or(u16::MAX);
        self.0[14..16].copy_from_slice(&len.to_be_bytes());
        let sum = crc32c::crc32c(&self.0);
        self.0[at..].copy_from_slice(&sum.to_be_bytes());
        self.0
    }
}
