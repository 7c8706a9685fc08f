//! The argument `interface`: where to listen.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use endpoints_plugin_api::{Error, ErrorKind, Host};

use crate::socket::hint;

/// Which addresses a scheme listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Those of both families; of a name's, IPv4 ones before IPv6 ones.
    V4First,
    /// IPv6 ones alone.
    V6Only,
}

/// Where to listen.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Interface {
    /// On this address.
    Address(IpAddr),
    /// On an address that is found when listening: of a host name, or an IPv6 address with a zone.
    Name { name: String, wanted: Wanted },
}

impl Interface {
    /// # Errors
    /// If it is an address of the family that the scheme does not listen on.
    pub(crate) fn parse(text: &str, wanted: Wanted) -> Result<Self, Error> {
        if text.is_empty() {
            return Ok(Self::Address(match wanted {
                Wanted::V4First => Ipv4Addr::UNSPECIFIED.into(),
                Wanted::V6Only => Ipv6Addr::UNSPECIFIED.into(),
            }));
        }
        match text.parse() {
            Ok(IpAddr::V4(_)) if wanted == Wanted::V6Only => Err(Error::invalid_argument(
                "interface",
                format!(
                    "interface={text} is an IPv4 address; tcp6 takes an IPv6 address or a host name, tcp takes both families"
                ),
            )),
            Ok(ip) => Ok(Self::Address(ip)),
            Err(_) => Ok(Self::Name { name: text.to_owned(), wanted }),
        }
    }

    /// The socket address to bind.
    ///
    /// # Errors
    /// If it is a name that has none of the wanted family.
    pub(crate) async fn resolve(&self, host: &Host, port: u16) -> Result<SocketAddr, Error> {
        match self {
            Self::Address(ip) => Ok(SocketAddr::new(*ip, port)),
            Self::Name { name, wanted } => match host.resolve(name, port).await {
                Ok(addresses) => choose(name, &addresses, *wanted),
                Err(error) => Err(unresolved(name, error)),
            },
        }
    }
}

fn choose(name: &str, addresses: &[SocketAddr], wanted: Wanted) -> Result<SocketAddr, Error> {
    let first = |v4: bool| addresses.iter().find(|address| address.is_ipv4() == v4).copied();
    let (chosen, family) = match wanted {
        Wanted::V4First => (first(true).or_else(|| first(false)), "IP"),
        Wanted::V6Only => (first(false), "IPv6"),
    };
    chosen.ok_or_else(|| {
        let message = format!("cannot listen on interface={name}: it has no {family} address");
        Error::new(ErrorKind::NameResolution, message)
    })
}

fn unresolved(name: &str, error: Error) -> Error {
    let error = error.context(format_args!("cannot listen on interface={name}"));
    match error.kind() {
        ErrorKind::NameResolution => hint(
            error,
            "interface takes an IP address without brackets or a host name, not a device such as eth0",
        ),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str, wanted: Wanted) -> Interface {
        Interface::Name { name: name.to_owned(), wanted }
    }

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn addresses_are_known_beforehand_and_names_are_not() {
        use Wanted::{V4First, V6Only};
        let address = |text: &str| Interface::Address(text.parse().unwrap());
        for (text, wanted, expected) in [
            ("", V4First, address("0.0.0.0")),
            ("", V6Only, address("::")),
            ("127.0.0.1", V4First, address("127.0.0.1")),
            ("::1", V4First, address("::1")),
            ("2001:0DB8:f00e:eb00::1", V6Only, address("2001:db8:f00e:eb00::1")),
            ("::ffff:127.0.0.1", V6Only, address("::ffff:127.0.0.1")),
            ("fe80::1%lo", V6Only, name("fe80::1%lo", V6Only)),
            ("localhost", V4First, name("localhost", V4First)),
            ("999.1.1.1", V4First, name("999.1.1.1", V4First)),
            ("[::1]", V6Only, name("[::1]", V6Only)),
        ] {
            assert_eq!(Interface::parse(text, wanted).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn tcp6_refuses_an_ipv4_address() {
        let error = Interface::parse("127.0.0.1", Wanted::V6Only).unwrap_err();
        assert_eq!((error.kind(), error.argument()), (ErrorKind::InvalidArgument, Some("interface")));
        assert!(error.message().contains("127.0.0.1"), "{error}");
    }

    #[test]
    fn a_name_gives_its_first_address_of_the_family() {
        let all = addresses(&["[2001:db8::1]:80", "192.0.2.1:80", "192.0.2.2:80", "[2001:db8::2]:80"]);
        assert_eq!(choose("h", &all, Wanted::V4First).unwrap(), all[1]);
        assert_eq!(choose("h", &all, Wanted::V6Only).unwrap(), all[0]);
        assert_eq!(choose("h", &all[3..], Wanted::V4First).unwrap(), all[3]);
        let error = choose("h", &all[1..3], Wanted::V6Only).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NameResolution);
        assert_eq!(error.message(), "cannot listen on interface=h: it has no IPv6 address");
    }

    #[test]
    fn an_unknown_name_says_what_is_accepted() {
        let error = unresolved("eth0", Error::new(ErrorKind::NameResolution, "unknown"));
        assert!(
            error.message().starts_with("cannot listen on interface=eth0: unknown (interface takes"),
            "{error}"
        );
        let error = unresolved("eth0", Error::new(ErrorKind::Internal, "broken"));
        assert_eq!(error.message(), "cannot listen on interface=eth0: broken");
    }
}
