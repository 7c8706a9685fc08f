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
    // Where TLS ended in this process, all that there is to tell about it was seen here, also that the client asked for no
    // name, for example. A header may come from anybody, and must not say otherwise.
    let own = ssl(origin);
    if let Some(ssl) = &own {
        for (tlv, fact) in [(kind::ALPN, name::TLS_ALPN), (kind::AUTHORITY, name::TLS_SNI)] {
            if let Some(value) = origin.get(fact) {
                encoder = encoder.with(tlv, value);
            }
        }
        encoder = encoder.with(kind::SSL, ssl);
    }
    let about_tls = [kind::ALPN, kind::AUTHORITY, kind::SSL];
    let told = origin
        .iter()
        .filter(|(fact, _)| *fact == name::PROXY_TLV)
        .filter_map(|(_, tlv)| tlv.split_first())
        // The checksum is that of another header; and nothing is nothing.
        .filter(|(tlv, _)| ![kind::CRC32C, kind::NOOP].contains(tlv))
        .filter(|(tlv, _)| own.is_none() || !about_tls.contains(tlv));
    told.fold(encoder, |encoder, (tlv, value)| encoder.with(*tlv, value)).finish()
}

fn addresses(origin: &Facts) -> Addresses<'_> {
    let ip = |fact| -> Option<SocketAddr> {
        let address: SocketAddr = std::str::from_utf8(origin.get(fact)?).ok()?.parse().ok()?;
        // A proxy before may have written IPv4 as IPv6. A zone means nothing elsewhere.
        Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
    };
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
/// it showed a certificate, that it did and whose, and that it was verified, as TLS servers here do not go on otherwise.
///
/// The algorithms (0x24 and 0x25) are those of the certificate of this side, about which there is no fact.
fn ssl(origin: &Facts) -> Option<Vec<u8>> {
    let version = origin.get(name::TLS_VERSION)?;
    let certificate = origin.get(name::TLS_PEER_CERTIFICATE);
    let client = match certificate {
        None => kind::CLIENT_SSL,
        // A client that resumes a session showed its certificate earlier.
        Some(_) if origin.get(name::TLS_RESUMED) == Some(b"1") => kind::CLIENT_SSL | kind::CLIENT_CERT_SESS,
        Some(_) => kind::CLIENT_SSL | kind::CLIENT_CERT_CONN | kind::CLIENT_CERT_SESS,
    };
    let common_name = certificate.and_then(common_name);
    let fields = [
        (kind::SSL_VERSION, Some(version)),
        (kind::SSL_CN, common_name.as_deref().map(str::as_bytes)),
        (kind::SSL_CIPHER, origin.get(name::TLS_CIPHER)),
    ];
    let mut value = vec![client, 0, 0, 0, 0];
    for (kind, field) in fields {
        if let Some((field, len)) = field.and_then(|field| Some((field, u16::try_from(field.len()).ok()?))) {
            value.push(kind);
            value.extend(len.to_be_bytes());
            value.extend_from_slice(field);
        }
    }
    Some(value)
}

/// The first common name of the subject of a certificate, as HAProxy takes it.
fn common_name(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
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
            .with(name::PROXY_TLV, b"\x01forged")
            .with(name::PROXY_TLV, b"\x02forged")
            .with(name::PROXY_TLV, b"\x20\x07\0\0\0\0\x22\0\x05admin")
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
        // One checksum, of this header; and nothing of TLS that was only told.
        let kinds: Vec<_> = header.tlvs.into_iter().map(|tlv| tlv.kind).collect();
        let expected = [kind::ALPN, kind::AUTHORITY, kind::SSL, kind::UNIQUE_ID, kind::CRC32C];
        assert_eq!(kinds, expected);
        assert_eq!(super::header(&facts(), true), b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\n");
    }

    #[test]
    fn what_a_header_told_of_tls_counts_only_where_tls_did_not_end_here() {
        let told = [&b"\x01told"[..], b"\x02told", b"\x20\x01\0\0\0\x01"];
        let addresses = Facts::new().with(name::PEER_IP, "192.0.2.1:1").with(name::LOCAL_IP, "192.0.2.2:2");
        let facts = told.iter().fold(addresses, |facts, tlv| facts.with(name::PROXY_TLV, tlv));
        let tlvs = |facts: &Facts| -> Vec<Vec<u8>> {
            let bytes = header(facts, false);
            let all = parse(&bytes).unwrap().unwrap().tlvs.into_iter();
            all.filter(|tlv| tlv.kind != kind::CRC32C).map(|tlv| [&[tlv.kind], tlv.value].concat()).collect()
        };
        assert_eq!(tlvs(&facts), told);
        // Neither a protocol nor a name, and that is known too.
        let ended = Facts::new().with(name::TLS_VERSION, "TLSv1.3").with(name::TLS_RESUMED, "0");
        let mut both = ended.clone();
        both.append(&facts);
        assert_eq!(tlvs(&both), [b"\x20\x01\0\0\0\0\x21\0\x07TLSv1.3"]);
    }

    #[test]
    fn a_resumed_session_shows_no_certificate_again() {
        for (resumed, client) in [("0", 1 | 2 | 4), ("1", 1 | 4)] {
            let facts = Facts::new()
                .with(name::TLS_VERSION, "TLSv1.3")
                .with(name::TLS_PEER_CERTIFICATE, "damaged")
                .with(name::TLS_RESUMED, resumed);
            assert_eq!(ssl(&facts).unwrap()[..8], [client, 0, 0, 0, 0, kind::SSL_VERSION, 0, 7]);
        }
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
