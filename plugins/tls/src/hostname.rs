//! Who a server must prove to be: a host name, in its ASCII form (IDNA, RFC 5891), or an IP address.

use std::net::IpAddr;

use endpoints_plugin_api::Error;
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use rustls::pki_types::ServerName;

/// The name that certificates are compared with.
#[derive(Clone, Debug)]
pub(crate) struct Hostname {
    /// As sent and compared: a name without the dot at its end, or an address.
    pub(crate) ascii: String,
    pub(crate) is_address: bool,
    pub(crate) server_name: ServerName<'static>,
}

impl Hostname {
    /// # Errors
    /// If `text`, the value of `argument`, is neither a host name nor an IP address.
    pub(crate) fn parse(argument: &str, text: &str) -> Result<Self, Error> {
        // A zone tells which link an address is on, and is no part of it.
        let address = text.split_once('%').map_or(text, |(address, _)| address);
        if let Ok(ip) = address.parse::<IpAddr>() {
            return Ok(Self { ascii: ip.to_string(), is_address: true, server_name: ip.into() });
        }
        let refused = |why: &str| {
            Error::invalid_argument(
                argument,
                format!("{argument}: {text:?} is no host name that a certificate could be for: {why}"),
            )
        };
        let ascii = Uts46::new()
            .to_ascii(
                text.as_bytes(),
                AsciiDenyList::STD3,
                Hyphens::CheckFirstLast,
                DnsLength::VerifyAllowRootDot,
            )
            .map_err(|_| {
                refused(
                    "its parts have letters, digits and hyphens, 1 to 63 of them, no hyphen first or last, all together at most 253",
                )
            })?;
        // RFC 6066, section 3: without the dot at the end.
        let ascii = ascii.strip_suffix('.').unwrap_or(&ascii).to_owned();
        let server_name = ServerName::try_from(ascii.clone()).map_err(|error| refused(&error.to_string()))?;
        Ok(Self { ascii, is_address: false, server_name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_their_ascii_form() {
        for (text, ascii, is_address) in [
            ("h.example", "h.example", false),
            ("H.Example.", "h.example", false),
            ("bücher.example", "xn--bcher-kva.example", false),
            ("bücher。example", "xn--bcher-kva.example", false),
            ("straße.example", "xn--strae-oqa.example", false),
            ("r3---sn-apo3.example", "r3---sn-apo3.example", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("::1", "::1", true),
            ("fe80::1%eth0", "fe80::1", true),
        ] {
            let name = Hostname::parse("host", text).unwrap();
            assert_eq!((name.ascii.as_str(), name.is_address), (ascii, is_address), "{text}");
        }
    }

    #[test]
    fn what_no_certificate_can_be_for_is_refused() {
        let long = format!("{}.example", "a".repeat(64));
        for text in ["", "-h.example", "h..example", "a_b", "*.example", "h example", "h/x", &long] {
            assert_eq!(Hostname::parse("host", text).unwrap_err().argument(), Some("host"), "{text}");
        }
    }
}
