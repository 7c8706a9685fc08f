//! What a PROXY header of version 2 tells beside addresses, typed. Sections are those of the protocol's text,
//! `doc/proxy-protocol.txt` of HAProxy.

use endpoints_plugin_api::{name, proxy_tlv as kind};

use super::{ConnectionInfo, Layer};

/// A field (TLV) of a PROXY header of version 2, as the proxy told it.
///
/// It is as true as the proxy is: without `trust` anybody can tell anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyTlv<'a> {
    /// The protocol that ALPN (RFC 7301) settled on, such as `h2` (section 2.2.1).
    Alpn(&'a [u8]),
    /// The host name that the client asked for, by SNI where it came over TLS (section 2.2.2).
    Authority(&'a str),
    /// A name of the connection that the first proxy gave it, at most 128 bytes (section 2.2.5).
    UniqueId(&'a [u8]),
    /// How the client's TLS connection is made (section 2.2.6).
    Ssl(ProxySsl<'a>),
    /// The name of the network namespace (section 2.2.7).
    Netns(&'a str),
    /// Any other: the checksum (section 2.2.3), what applications and clouds have defined (section 2.2.8), and what is not
    /// as its type wants it.
    Other {
        /// Its type.
        kind: u8,
        /// Its value.
        value: &'a [u8],
    },
}

/// How the client of a proxy came to it over TLS (section 2.2.6).
///
/// A text is `None` where the proxy does not tell it, and where it is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxySsl<'a> {
    /// Whether it came over TLS at all (`PP2_CLIENT_SSL`).
    pub is_tls: bool,
    /// Whether it showed a certificate over this connection (`PP2_CLIENT_CERT_CONN`).
    pub client_cert_conn: bool,
    /// Whether it showed one in the TLS session that the connection belongs to, then or earlier (`PP2_CLIENT_CERT_SESS`).
    pub client_cert_sess: bool,
    /// Whether it showed a certificate, and the proxy verified it.
    pub verified: bool,
    /// The version, such as `TLSv1.3`.
    pub version: Option<&'a str>,
    /// The common name of the client's certificate.
    pub common_name: Option<&'a str>,
    /// The cipher, by whatever name the proxy has for it.
    pub cipher: Option<&'a str>,
    /// What the proxy's own certificate is signed with, such as `SHA256`.
    pub sig_alg: Option<&'a str>,
    /// The key of the proxy's own certificate, such as `RSA2048`.
    pub key_alg: Option<&'a str>,
}

impl<'a> ProxyTlv<'a> {
    /// From a fact ([`PROXY_TLV`](crate::fact::PROXY_TLV)): the byte of the type, then the value.
    fn from_fact(fact: &'a [u8]) -> Option<Self> {
        let (&kind, value) = fact.split_first()?;
        let text = std::str::from_utf8(value).ok();
        let known = match kind {
            kind::ALPN => Some(Self::Alpn(value)),
            kind::AUTHORITY => text.map(Self::Authority),
            kind::UNIQUE_ID if value.len() <= 128 => Some(Self::UniqueId(value)),
            kind::SSL => ProxySsl::parse(value).map(Self::Ssl),
            kind::NETNS => text.map(Self::Netns),
            _ => None,
        };
        Some(known.unwrap_or(Self::Other { kind, value }))
    }
}

impl<'a> ProxySsl<'a> {
    fn parse(value: &'a [u8]) -> Option<Self> {
        let (&[client, ref verify @ ..], mut rest) = value.split_first_chunk::<5>()?;
        let has = |bit| client & bit != 0;
        let (client_cert_conn, client_cert_sess) = (has(kind::CLIENT_CERT_CONN), has(kind::CLIENT_CERT_SESS));
        let mut ssl = Self {
            is_tls: has(kind::CLIENT_SSL),
            client_cert_conn,
            client_cert_sess,
            // Proxies send zero also where there is no certificate.
            verified: (client_cert_conn || client_cert_sess) && *verify == [0; 4],
            version: None,
            common_name: None,
            cipher: None,
            sig_alg: None,
            key_alg: None,
        };
        while !rest.is_empty() {
            let (kind, value, after) = kind::split(rest)?;
            rest = after;
            let field = match kind {
                kind::SSL_VERSION => &mut ssl.version,
                kind::SSL_CN => &mut ssl.common_name,
                kind::SSL_CIPHER => &mut ssl.cipher,
                kind::SSL_SIG_ALG => &mut ssl.sig_alg,
                kind::SSL_KEY_ALG => &mut ssl.key_alg,
                _ => continue,
            };
            *field = field.or(std::str::from_utf8(value).ok());
        }
        Some(ssl)
    }
}

impl Layer {
    /// The fields of the PROXY header that this layer has read, in their order.
    pub fn proxy_tlvs(&self) -> impl Iterator<Item = ProxyTlv<'_>> {
        let facts = self.facts().filter(|(fact, _)| *fact == name::PROXY_TLV);
        facts.filter_map(|(_, value)| ProxyTlv::from_fact(value))
    }
}

impl ConnectionInfo {
    /// The fields of the PROXY header that the outermost layer with one has read, in their order.
    ///
    /// There are none without such a header, and none in one of version 1.
    ///
    /// # Examples
    ///
    /// ```
    /// use endpoints::{ConnectionInfo, ProxyTlv};
    ///
    /// /// Who the client of the proxy is, by its certificate.
    /// fn user(info: &ConnectionInfo) -> Option<&str> {
    ///     info.proxy_tlvs().find_map(|tlv| match tlv {
    ///         ProxyTlv::Ssl(ssl) if ssl.verified => ssl.common_name,
    ///         _ => None,
    ///     })
    /// }
    /// ```
    pub fn proxy_tlvs(&self) -> impl Iterator<Item = ProxyTlv<'_>> {
        let layer = self.layers().iter().find(|layer| layer.fact(name::PROXY_VERSION).is_some());
        layer.into_iter().flat_map(Layer::proxy_tlvs)
    }
}

#[cfg(test)]
mod tests {
    use endpoints_plugin_api::Facts;

    use super::*;

    fn one(fact: &[u8]) -> ProxyTlv<'_> {
        ProxyTlv::from_fact(fact).unwrap()
    }

    #[test]
    fn fields_have_their_types() {
        assert_eq!(one(b"\x01h2\xff"), ProxyTlv::Alpn(b"h2\xff"));
        assert_eq!(one("\x02b\u{fc}cher.example".as_bytes()), ProxyTlv::Authority("b\u{fc}cher.example"));
        assert_eq!(one(&[5; 129]), ProxyTlv::UniqueId(&[5; 128]));
        assert_eq!(one(b"\x30blue"), ProxyTlv::Netns("blue"));
        assert_eq!(one(b"\x03abcd"), ProxyTlv::Other { kind: 3, value: b"abcd" });
        assert_eq!(one(b"\xe0"), ProxyTlv::Other { kind: 0xe0, value: b"" });
        assert_eq!(ProxyTlv::from_fact(b""), None);
    }

    #[test]
    fn what_is_not_as_its_type_wants_it_is_another() {
        for fact in [
            &b"\x02\xff"[..],
            b"\x30\xff",
            &[5; 130],
            b"\x20\x01\0\0\0",
            b"\x20\x01\0\0\0\0\x21",
            b"\x20\x01\0\0\0\0\x21\0\x02x",
        ] {
            assert_eq!(one(fact), ProxyTlv::Other { kind: fact[0], value: &fact[1..] });
        }
    }

    #[test]
    fn how_tls_is_made() {
        let fields =
            b"\x21\0\x07TLSv1.3\x22\0\x02cn\x23\0\x01c\x24\0\x06SHA256\x25\0\x05EC256\x22\0\x05other\x2f\0\0";
        let fact = [&b"\x20\x07\0\0\0\0"[..], fields].concat();
        let expected = ProxySsl {
            is_tls: true,
            client_cert_conn: true,
            client_cert_sess: true,
            verified: true,
            version: Some("TLSv1.3"),
            // The first one counts.
            common_name: Some("cn"),
            cipher: Some("c"),
            sig_alg: Some("SHA256"),
            key_alg: Some("EC256"),
        };
        assert_eq!(one(&fact), ProxyTlv::Ssl(expected));
        // The bits, and that nobody is verified who showed nothing, or whose certificate failed.
        for (head, told) in [
            ([0, 0, 0, 0, 0], [false; 4]),
            ([1, 0, 0, 0, 0], [true, false, false, false]),
            ([3, 0, 0, 0, 0], [true, true, false, true]),
            ([5, 0, 0, 0, 0], [true, false, true, true]),
            ([7, 0, 0, 0, 1], [true, true, true, false]),
            ([7, 1, 0, 0, 0], [true, true, true, false]),
        ] {
            let ssl = ProxySsl::parse(&head).unwrap();
            assert_eq!([ssl.is_tls, ssl.client_cert_conn, ssl.client_cert_sess, ssl.verified], told);
            assert_eq!(ssl.common_name, None);
        }
        let not_text = ProxySsl::parse(b"\x01\0\0\0\0\x22\0\x01\xff\x23\0\x01c").unwrap();
        assert_eq!((not_text.common_name, not_text.cipher), (None, Some("c")));
    }

    #[test]
    fn the_outermost_header_counts() {
        let facts = Facts::new()
            .with(name::LAYER, "tls")
            .with(name::LAYER, "haproxy")
            .with(name::PROXY_VERSION, "2")
            .with(name::PROXY_TLV, b"\x01h2")
            .with(name::PROXY_TLV, b"\xe1")
            .with(name::LAYER, "haproxy")
            .with(name::PROXY_VERSION, "2")
            .with(name::PROXY_TLV, b"\x02inner");
        let info = ConnectionInfo::decode(facts.as_bytes());
        let told: Vec<_> = info.proxy_tlvs().collect();
        assert_eq!(told, [ProxyTlv::Alpn(b"h2"), ProxyTlv::Other { kind: 0xe1, value: b"" }]);
        assert_eq!(info.layers()[2].proxy_tlvs().next(), Some(ProxyTlv::Authority("inner")));
        assert_eq!(ConnectionInfo::default().proxy_tlvs().count(), 0);
    }
}
