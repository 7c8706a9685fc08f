//! The client side: tells the server from where to where the connection goes that is being relayed.

use std::net::SocketAddr;

use endpoints_plugin_api::{Arguments, Client, Connect, ConnectContext, Connection, Error, Facts, name};
use tokio::io::AsyncWriteExt;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::proxy::{Addresses, Command, Encoder, encode_v1, kind};

/// Makes the endpoint; opens nothing.
pub(crate) fn make(arguments: &mut Arguments<'_>) -> Result<Client, Error> {
    let is_text = arguments.text("version")? == "1";
    Ok(Client::new(Announcing { inner: arguments.client("endpoint")?, is_text }))
}

struct Announcing {
    inner: Client,
    /// Version 1, not 2.
    is_text: bool,
}

impl Connect for Announcing {
    async fn connect(&self, context: ConnectContext) -> Result<Connection, Error> {
        let header = header(&context.origin, self.is_text);
        let mut connection = self.inner.connect(context).await?;
        let sent = async {
            connection.write_all(&header).await?;
            connection.flush().await
        };
        sent.await.map_err(|error| Error::from_io("sending the PROXY header failed", &error))?;
        Ok(connection)
    }
}

/// The header for a connection about which these facts are known: in layers, the outermost first.
fn header(origin: &Facts, is_text: bool) -> Vec<u8> {
    let addresses = addresses(origin);
    if is_text {
        return encode_v1(&addresses).into_bytes();
    }
    if addresses == Addresses::Unknown {
        // The relay's own connection, as far as the server can know.
        return Encoder::new(Command::Local, &addresses).finish();
    }
    let mut encoder = Encoder::new(Command::Proxy, &addresses);
    // What is known here of TLS comes first, and stands for all that a proxy before has told about it: that need not be
    // true, unless only trusted ones may tell.
    let mut known = vec![kind::CRC32C, kind::NOOP];
    for (tlv, fact) in [(kind::ALPN, name::TLS_ALPN), (kind::AUTHORITY, name::TLS_SNI)] {
        if let Some(value) = origin.get(fact) {
            encoder = encoder.with(tlv, value);
        }
    }
    if let Some(ssl) = ssl(origin) {
        encoder = encoder.with(kind::SSL, &ssl);
        known.extend([kind::ALPN, kind::AUTHORITY, kind::SSL]);
    }
    let told = origin.iter().filter(|(fact, _)| *fact == name::PROXY_TLV);
    for (tlv, value) in told.filter_map(|(_, tlv)| tlv.split_first()).filter(|(tlv, _)| !known.contains(tlv))
    {
        encoder = encoder.with(*tlv, value);
    }
    encoder.finish()
}

fn addresses(origin: &Facts) -> Addresses<'_> {
    let ip = |fact| -> Option<SocketAddr> { std::str::from_utf8(origin.get(fact)?).ok()?.parse().ok() };
    // What the outermost layer says counts, and a layer knows both or none.
    let first = origin.iter().find(|(fact, _)| [name::PEER_IP, name::PEER_UNIX].contains(fact));
    match first {
        Some((name::PEER_IP, _)) => match (ip(name::PEER_IP), ip(name::LOCAL_IP)) {
            (Some(source), Some(destination)) => Addresses::Ip { source, destination, is_datagram: false },
            _ => Addresses::Unknown,
        },
        Some((_, source)) => match origin.get(name::LOCAL_UNIX) {
            Some(destination) if source.len() <= 108 && destination.len() <= 108 => {
                Addresses::Unix { source, destination, is_datagram: false }
            }
            _ => Addresses::Unknown,
        },
        None => Addresses::Unknown,
    }
}

/// The value of the SSL field for a client that came over TLS (section 2.2.6): the version and the cipher; and, where
/// it showed a certificate, its common name, that it did so now or when the session that is resumed began, and that it was
/// verified, as TLS servers here do not go on otherwise.
fn ssl(origin: &Facts) -> Option<Vec<u8>> {
    const OVER_TLS: u8 = 1;
    const CERTIFICATE_NOW: u8 = 2;
    const CERTIFICATE_IN_SESSION: u8 = 4;
    let version = origin.get(name::TLS_VERSION)?;
    let certificate = origin.get(name::TLS_PEER_CERTIFICATE);
    let shown = match (certificate, origin.get(name::TLS_RESUMED)) {
        (None, _) => 0,
        (Some(_), Some(b"1")) => CERTIFICATE_IN_SESSION,
        (Some(_), _) => CERTIFICATE_NOW | CERTIFICATE_IN_SESSION,
    };
    let mut value = vec![OVER_TLS | shown, 0, 0, 0, 0];
    let common_name = certificate.and_then(common_name);
    let fields = [
        (kind::SSL_VERSION, Some(version)),
        (kind::SSL_CN, common_name.as_deref()),
        (kind::SSL_CIPHER, origin.get(name::TLS_CIPHER)),
    ];
    for (kind, field) in fields {
        if let Some((field, len)) = field.and_then(|field| Some((field, u16::try_from(field.len()).ok()?))) {
            value.push(kind);
            value.extend(len.to_be_bytes());
            value.extend_from_slice(field);
        }
    }
    Some(value)
}

/// The common name of a certificate's subject.
fn common_name(der: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let name = certificate.subject().iter_common_name().next()?;
    Some(name.as_str().ok()?.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::parse;

    fn facts() -> Facts {
        Facts::new()
            .with(name::LAYER, "tls")
            .with(name::TLS_VERSION, "TLSv1.3")
            .with(name::TLS_CIPHER, "TLS_AES_128_GCM_SHA256")
            .with(name::TLS_ALPN, "h2")
            .with(name::TLS_SNI, "h.example")
            .with(name::LAYER, "haproxy")
            .with(name::PEER_IP, "192.0.2.1:5000")
            .with(name::LOCAL_IP, "192.0.2.2:443")
            .with(name::PROXY_TLV, b"\x05unique")
            .with(name::PROXY_TLV, b"\x03abcd")
            .with(name::LAYER, "tcp")
            .with(name::PEER_IP, "127.0.0.1:1")
            .with(name::LOCAL_IP, "127.0.0.1:2")
    }

    #[test]
    fn what_is_known_is_told() {
        let bytes = header(&facts(), false);
        let header = parse(&bytes).unwrap().unwrap();
        let expected = Addresses::Ip {
            source: "192.0.2.1:5000".parse().unwrap(),
            destination: "192.0.2.2:443".parse().unwrap(),
            is_datagram: false,
        };
        assert_eq!((header.command, header.addresses), (Command::Proxy, expected));
        assert_eq!(header.tlvs.get(kind::ALPN), Some(&b"h2"[..]));
        assert_eq!(header.tlvs.get(kind::AUTHORITY), Some(&b"h.example"[..]));
        assert_eq!(header.tlvs.get(kind::UNIQUE_ID), Some(&b"unique"[..]));
        let ssl = header.tlvs.into_iter().find_map(|tlv| tlv.ssl()).unwrap();
        assert!(ssl.is_tls() && !ssl.is_verified());
        assert_eq!(ssl.fields.get(kind::SSL_VERSION), Some(&b"TLSv1.3"[..]));
        assert_eq!(ssl.client, 1, "there is no certificate");
        // One checksum, of this header.
        assert_eq!(header.tlvs.into_iter().filter(|tlv| tlv.kind == kind::CRC32C).count(), 1);
        assert_eq!(super::header(&facts(), true), b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\n");
    }

    #[test]
    fn what_is_known_here_is_not_replaced_by_what_was_told() {
        let lie = [&[kind::SSL, 7, 0, 0, 0, 0][..], &[kind::SSL_CN, 0, 5], b"admin"].concat();
        let told = |facts: Facts| {
            facts
                .with(name::PROXY_TLV, &lie)
                .with(name::PROXY_TLV, b"\x02evil")
                .with(name::PROXY_TLV, b"\x01h3")
        };
        let bytes = super::header(&told(facts()), false);
        let header = parse(&bytes).unwrap().unwrap();
        let all = |wanted: u8| -> Vec<&[u8]> {
            header.tlvs.into_iter().filter(|tlv| tlv.kind == wanted).map(|tlv| tlv.value).collect()
        };
        assert_eq!(all(kind::AUTHORITY), [b"h.example"]);
        assert_eq!(all(kind::ALPN), [b"h2"]);
        assert_eq!(all(kind::SSL).len(), 1);
        assert_eq!(all(kind::SSL)[0][0], 1);
        // Where nothing is known here, it is passed on.
        let plain = Facts::new().with(name::PEER_IP, "192.0.2.1:5000").with(name::LOCAL_IP, "192.0.2.2:443");
        let bytes = super::header(&told(plain), false);
        let header = parse(&bytes).unwrap().unwrap();
        assert_eq!(header.tlvs.get(kind::AUTHORITY), Some(&b"evil"[..]));
        assert_eq!(header.tlvs.get(kind::SSL), Some(lie[1..].as_ref()));
    }

    #[test]
    fn a_certificate_of_an_earlier_handshake_is_told_as_such() {
        let client = |facts: Facts| {
            let bytes = super::header(&facts, false);
            let header = parse(&bytes).unwrap().unwrap();
            header.tlvs.get(kind::SSL).map(|ssl| ssl[0])
        };
        let shown = || facts().with(name::TLS_PEER_CERTIFICATE, b"not DER");
        assert_eq!(client(shown()), Some(7));
        assert_eq!(client(shown().with(name::TLS_RESUMED, "1")), Some(5));
        assert_eq!(client(facts().with(name::TLS_RESUMED, "1")), Some(1));
    }

    #[test]
    fn what_is_not_known_is_the_relays_own() {
        let bytes = header(&Facts::new(), false);
        assert_eq!(parse(&bytes).unwrap().unwrap().command, Command::Local);
        assert_eq!(header(&Facts::new(), true), b"PROXY UNKNOWN\r\n");
        let unix = Facts::new().with(name::PEER_UNIX, "").with(name::LOCAL_UNIX, "/run/a");
        let bytes = header(&unix, false);
        let expected = Addresses::Unix { source: b"", destination: b"/run/a", is_datagram: false };
        assert_eq!(parse(&bytes).unwrap().unwrap().addresses, expected);
        assert_eq!(header(&unix, true), b"PROXY UNKNOWN\r\n");
    }
}
