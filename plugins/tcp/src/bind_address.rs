//! The argument `bindAddress`: where to connect from.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use endpoints_plugin_api::{Error, Host};

/// Where to connect from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BindAddress {
    /// An IP address, perhaps with a zone, or a name.
    pub(crate) host: String,
    /// 0: any that is free.
    pub(crate) port: u16,
}

impl BindAddress {
    /// Reads `HOST`, `HOST:PORT`, or `[IPV6]:PORT`; nothing where the text is empty.
    ///
    /// More than one colon without brackets make an IPv6 address, so `::1:5000` is one without a port.
    ///
    /// # Errors
    /// If it is none of these.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>, Error> {
        if text.is_empty() {
            return Ok(None);
        }
        let split = if let Some(bracketed) = text.strip_prefix('[') {
            match bracketed.split_once(']') {
                Some((host, "")) if is_ipv6(host) => Some((host, None)),
                Some((host, rest)) if is_ipv6(host) => rest.strip_prefix(':').map(|port| (host, Some(port))),
                _ => None,
            }
        } else if text.parse::<IpAddr>().is_ok() || is_ipv6(text) {
            Some((text, None))
        } else {
            match text.split_once(':') {
                Some((host, port)) if !host.is_empty() && !port.contains(':') => Some((host, Some(port))),
                Some(_) => None,
                None => Some((text, None)),
            }
        };
        let Some((host, port)) = split else { return Err(refused(text, "")) };
        let port = match port {
            None => 0,
            Some(digits) => {
                port_of(digits).ok_or_else(|| refused(text, "; a port is a number from 0 to 65535"))?
            }
        };
        Ok(Some(Self { host: host.to_owned(), port }))
    }

    /// The socket addresses to choose from.
    ///
    /// # Errors
    /// If it is a name that has none.
    pub(crate) async fn resolve(&self, host: &Host) -> Result<Vec<SocketAddr>, Error> {
        host.resolve(&self.host, self.port).await
    }
}

/// Whether it is an IPv6 address, with or without a zone (RFC 4007, 11).
pub(crate) fn is_ipv6(text: &str) -> bool {
    let address = match text.split_once('%') {
        Some((address, zone)) if !zone.is_empty() => address,
        _ => text,
    };
    address.parse::<Ipv6Addr>().is_ok()
}

/// Digits alone: `u16::from_str` takes a plus sign too.
fn port_of(digits: &str) -> Option<u16> {
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

fn refused(text: &str, more: &str) -> Error {
    Error::invalid_argument(
        "bindAddress",
        format!(
            "bindAddress={text} is no address to connect from: write a host name or an IP address, \
             with a port as in 192.0.2.7:5000 or [2001:db8::1]:5000{more}"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    use endpoints_plugin_api::ErrorKind;

    #[test]
    fn hosts_with_and_without_ports() {
        for (text, host, port) in [
            ("127.0.0.2", "127.0.0.2", 0),
            ("127.0.0.1:5000", "127.0.0.1", 5000),
            ("127.0.0.1:0080", "127.0.0.1", 80),
            ("127.0.0.1:0", "127.0.0.1", 0),
            ("localhost", "localhost", 0),
            ("localhost:65535", "localhost", 65535),
            ("::1", "::1", 0),
            ("[::1]", "::1", 0),
            ("[::1]:5000", "::1", 5000),
            ("::1:5000", "::1:5000", 0),
            ("fe80::1%lo", "fe80::1%lo", 0),
            ("[fe80::1%lo]:5000", "fe80::1%lo", 5000),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.1", 0),
        ] {
            let expected = BindAddress { host: host.to_owned(), port };
            assert_eq!(BindAddress::parse(text).unwrap(), Some(expected), "{text}");
        }
        assert_eq!(BindAddress::parse("").unwrap(), None);
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_forms_that_are() {
        for text in [
            ":5000",
            ":",
            "127.0.0.1:",
            "127.0.0.1:http",
            "127.0.0.1:+80",
            "127.0.0.1:65536",
            "127.0.0.1:-1",
            "127.0.0.1:1:2",
            "[::1",
            "[::1]5000",
            "[::1]:",
            "[]:80",
            "[127.0.0.1]:80",
            "[localhost]:80",
            "::g",
        ] {
            let error = BindAddress::parse(text).unwrap_err();
            assert_eq!(
                (error.kind(), error.argument()),
                (ErrorKind::InvalidArgument, Some("bindAddress")),
                "{text}"
            );
            assert!(error.message().starts_with(&format!("bindAddress={text} ")), "{error}");
        }
    }
}
