//! Version 2, binary (section 2.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Addresses, Command, Header, Invalid, SIGNATURE, Tlvs};

/// The signature, the version and command, the family and transport, the length.
const FIXED: usize = 16;

#[inline]
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Header<'_>>, Invalid> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED>() else { return beginning(bytes) };
    // As two numbers: comparing slices would be a call.
    let as_numbers = |bytes: &[u8; FIXED]| {
        let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = *bytes;
        (u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u32::from_ne_bytes([i, j, k, l]))
    };
    const WANTED: &[u8; FIXED] = b"\r\n\r\n\0\r\nQUIT\n\0\0\0\0";
    if as_numbers(fixed) != as_numbers(WANTED) {
        return Err(Invalid::Signature);
    }
    let command = command(fixed[12])?;
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let len = FIXED + length;
    if command == Command::Local {
        // Whatever it has is to be skipped.
        let header = Header { version: 2, command, addresses: Addresses::Unknown, tlvs: Tlvs::NONE, len };
        return Ok((rest.len() >= length).then_some(header));
    }
    let (family, transport) = (fixed[13] >> 4, fixed[13] & 15);
    let needed = match family {
        0 => 0,
        1 => 12,
        2 => 36,
        3 => 216,
        _ => return Err(Invalid::Family),
    };
    if transport > 2 {
        return Err(Invalid::Transport);
    }
    if family == 0 || transport == 0 {
        let header = Header { version: 2, command, addresses: Addresses::Unknown, tlvs: Tlvs::NONE, len };
        return Ok((rest.len() >= length).then_some(header));
    }
    if length < needed {
        return Err(Invalid::AddressTooShort);
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let is_datagram = transport == 2;
    let addresses = match family {
        1 => {
            // There is so much: looked at above.
            let Some(room) = body.first_chunk::<12>() else { return Err(Invalid::AddressTooShort) };
            let [a, b, c, d, e, f, g, h, source @ .., _, _] = *room;
            let destination = u16::from_be_bytes([room[10], room[11]]);
            Addresses::Ip {
                source: SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes(source)),
                destination: SocketAddr::new(Ipv4Addr::new(e, f, g, h).into(), destination),
                is_datagram,
            }
        }
        2 => {
            let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
            let ip = |at: usize| {
                let mut octets = [0; 16];
                octets.copy_from_slice(&body[at..at + 16]);
                IpAddr::V6(Ipv6Addr::from(octets))
            };
            Addresses::Ip {
                source: SocketAddr::new(ip(0), port(32)),
                destination: SocketAddr::new(ip(16), port(34)),
                is_datagram,
            }
        }
        _ => Addresses::Unix { source: name(&body[..108]), destination: name(&body[108..216]), is_datagram },
    };
    let tlvs = if length == needed { Tlvs::NONE } else { Tlvs::check(&bytes[..len], FIXED + needed)? };
    Ok(Some(Header { version: 2, command, addresses, tlvs, len }))
}

/// Looks at what is not yet the fixed part.
#[cold]
fn beginning(bytes: &[u8]) -> Result<Option<Header<'_>>, Invalid> {
    let signature = bytes.len().min(SIGNATURE.len());
    if bytes[..signature] != SIGNATURE[..signature] {
        return Err(Invalid::Signature);
    }
    if let Some(byte) = bytes.get(12) {
        command(*byte)?;
    }
    Ok(None)
}

fn command(byte: u8) -> Result<Command, Invalid> {
    match byte {
        0x20 => Ok(Command::Local),
        0x21 => Ok(Command::Proxy),
        _ if byte >> 4 != 2 => Err(Invalid::Version),
        _ => Err(Invalid::Command),
    }
}

/// The name in the room for one: to the first NUL, or, where it begins with one and so is abstract, without those at
/// its end.
fn name(room: &[u8]) -> &[u8] {
    let end = if room[0] == 0 {
        room.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
    } else {
        room.iter().position(|byte| *byte == 0).unwrap_or(room.len())
    };
    &room[..end]
}
