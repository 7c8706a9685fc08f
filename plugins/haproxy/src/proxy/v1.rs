//! Version 1, a line of text (section 2.1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Addresses, Command, Header, Invalid, Tlvs};

/// The longest line, with its CR LF.
const LONGEST: usize = 107;

pub(super) fn parse(bytes: &[u8]) -> Result<Option<Header<'_>>, Invalid> {
    const START: &[u8] = b"PROXY ";
    if !bytes.starts_with(START) {
        // A line that ends within the word is none either.
        return if START.starts_with(bytes) { Ok(None) } else { Err(Invalid::Signature) };
    }
    if let Some((addresses, len)) = usual(bytes) {
        return Ok(Some(Header { version: 1, command: Command::Proxy, addresses, tlvs: Tlvs::NONE, len }));
    }
    let window = &bytes[..bytes.len().min(LONGEST)];
    // The first CR LF, not the first CR: what UNKNOWN is followed by may be anything.
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if window.len() == LONGEST { Err(Invalid::TooLong) } else { Ok(None) };
    };
    let addresses = line(&bytes[START.len()..end])?;
    Ok(Some(Header { version: 1, command: Command::Proxy, addresses, tlvs: Tlvs::NONE, len: end + 2 }))
}

/// Reads what nearly all proxies send, TCP over IPv4, in one go; anything else, and what is damaged or not all there,
/// is left to be looked at closely. No such line is too long.
#[inline]
fn usual(bytes: &[u8]) -> Option<(Addresses<'static>, usize)> {
    let mut rest = bytes.strip_prefix(b"PROXY TCP4 ")?;
    let source = octets(&mut rest)?;
    let destination = octets(&mut rest)?;
    let source_port = number(&mut rest, b' ')?;
    let destination_port = number(&mut rest, b'\r')?;
    let rest = rest.strip_prefix(b"\n")?;
    let addresses = Addresses::Ip {
        source: SocketAddr::new(IpAddr::V4(source), source_port),
        destination: SocketAddr::new(IpAddr::V4(destination), destination_port),
        is_datagram: false,
    };
    Some((addresses, bytes.len() - rest.len()))
}

#[inline]
fn octets(rest: &mut &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    for (place, octet) in octets.iter_mut().enumerate() {
        let end = if place == 3 { b' ' } else { b'.' };
        *octet = u8::try_from(number(rest, end)?).ok()?;
    }
    Some(octets.into())
}

/// A number in its plain form, and the byte behind it.
#[inline]
fn number(rest: &mut &[u8], end: u8) -> Option<u16> {
    let mut value = 0_u32;
    for (place, byte) in rest.iter().enumerate().take(6) {
        if *byte == end && place > 0 {
            // The first digit of more than one is not zero: a longer number is at least ten.
            if place > 1 && rest[0] == b'0' {
                return None;
            }
            *rest = &rest[place + 1..];
            return u16::try_from(value).ok();
        }
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u32::from(digit);
    }
    None
}

fn line(line: &[u8]) -> Result<Addresses<'static>, Invalid> {
    if let Some(rest) = line.strip_prefix(b"UNKNOWN") {
        return if rest.is_empty() || rest[0] == b' ' {
            Ok(Addresses::Unknown)
        } else {
            Err(Invalid::Protocol)
        };
    }
    let is_four = match line.get(..5) {
        Some(b"TCP4 ") => true,
        Some(b"TCP6 ") => false,
        _ if line.contains(&b'\r') || line.contains(&b'\n') => return Err(Invalid::LineEnd),
        _ if line == b"TCP4" || line == b"TCP6" => return Err(Invalid::MissingField),
        _ => return Err(Invalid::Protocol),
    };
    let mut fields = line[5..].split(|byte| *byte == b' ');
    let all = [fields.next(), fields.next(), fields.next(), fields.next()];
    let [Some(source), Some(destination), Some(source_port), Some(destination_port)] = all else {
        return Err(why_not(line, Invalid::MissingField));
    };
    if fields.next().is_some() {
        return Err(why_not(line, Invalid::ExtraField));
    }
    let read = || {
        Some(if is_four {
            (IpAddr::V4(ipv4(source)?), IpAddr::V4(ipv4(destination)?))
        } else {
            (IpAddr::V6(ipv6(source)?), IpAddr::V6(ipv6(destination)?))
        })
    };
    let Some((source, destination)) = read() else { return Err(why_not(line, Invalid::Address)) };
    let (Some(source_port), Some(destination_port)) = (port(source_port), port(destination_port)) else {
        return Err(why_not(line, Invalid::Port));
    };
    Ok(Addresses::Ip {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
        is_datagram: false,
    })
}

/// The reason that says most, where `otherwise` was met.
#[cold]
fn why_not(line: &[u8], otherwise: Invalid) -> Invalid {
    if line.contains(&b'\r') || line.contains(&b'\n') {
        Invalid::LineEnd
    } else if line.split(|byte| *byte == b' ').any(<[u8]>::is_empty) {
        Invalid::Spacing
    } else {
        otherwise
    }
}

/// Four numbers in their plain form.
fn ipv4(text: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0_u8; 4];
    let mut place = 0;
    let (mut value, mut digits) = (0_u16, 0);
    for byte in text {
        match byte {
            b'0'..=b'9' => {
                if digits > 0 && value == 0 {
                    return None;
                }
                value = value * 10 + u16::from(byte - b'0');
                digits += 1;
                if value > 255 {
                    return None;
                }
            }
            b'.' if digits > 0 && place < 3 => {
                octets[place] = u8::try_from(value).ok()?;
                place += 1;
                (value, digits) = (0, 0);
            }
            _ => return None,
        }
    }
    if place != 3 || digits == 0 {
        return None;
    }
    octets[3] = u8::try_from(value).ok()?;
    Some(octets.into())
}

fn ipv6(text: &[u8]) -> Option<Ipv6Addr> {
    // A zone means nothing elsewhere, and is not in the protocol.
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A number in its plain form.
fn port(text: &[u8]) -> Option<u16> {
    match text {
        [b'0'] => Some(0),
        [] | [b'0', ..] => None,
        _ if text.len() > 5 => None,
        _ => {
            let mut value = 0_u32;
            for byte in text {
                if !byte.is_ascii_digit() {
                    return None;
                }
                value = value * 10 + u32::from(byte - b'0');
            }
            u16::try_from(value).ok()
        }
    }
}
