//! Facts about connections and listeners: named values in layers.

use std::net::{SocketAddr, SocketAddrV4};

/// Names of facts that hosts know and give a type.
pub mod name {
    /// A socket address of this side, as text: `192.0.2.1:80` or `[2001:db8::1]:80`.
    pub const LOCAL_IP: &str = "local.ip";
    /// The peer's socket address, as text.
    pub const PEER_IP: &str = "peer.ip";
    /// The path of this side's Unix socket; empty: unnamed; a leading NUL: an abstract name.
    pub const LOCAL_UNIX: &str = "local.unix";
    /// The path of the peer's Unix socket, likewise.
    pub const PEER_UNIX: &str = "peer.unix";
    /// The peer's host name and port, where somebody else resolves the name: `example.com:80`.
    pub const PEER_NAME: &str = "peer.name";
    /// The process at the other end of a Unix socket, in decimal: its number when it connected, or listened. Linux'
    /// `SO_PEERCRED`; another process may have that number by now.
    pub const PEER_PID: &str = "peer.pid";
    /// The effective user of that process, in decimal, at that time.
    pub const PEER_UID: &str = "peer.uid";
    /// Its effective group, likewise.
    pub const PEER_GID: &str = "peer.gid";
    /// The version of TLS: `TLSv1.3` or `TLSv1.2`.
    pub const TLS_VERSION: &str = "tls.version";
    /// The cipher suite of TLS, by its name in the registry of IANA: `TLS_AES_128_GCM_SHA256`.
    pub const TLS_CIPHER: &str = "tls.cipher";
    /// The group of the key exchange of TLS, by its name in the registry of IANA: `x25519`, `X25519MLKEM768`.
    pub const TLS_GROUP: &str = "tls.group";
    /// The protocol that ALPN (RFC 7301) settled on, as its bytes: `h2`.
    pub const TLS_ALPN: &str = "tls.alpn";
    /// The name of the server that the client asked for (SNI, RFC 6066 section 3).
    pub const TLS_SNI: &str = "tls.sni";
    /// A certificate of the peer's, DER; once for each that the peer sent, its own first.
    pub const TLS_PEER_CERTIFICATE: &str = "tls.peer_certificate";
    /// Whether the handshake resumed an earlier session: `1` or `0`.
    pub const TLS_RESUMED: &str = "tls.resumed";
    /// The version of a PROXY header: `1` or `2`.
    pub const PROXY_VERSION: &str = "proxy.version";
    /// The command of a PROXY header: `PROXY`, or `LOCAL` where the proxy speaks for itself.
    pub const PROXY_COMMAND: &str = "proxy.command";
    /// A TLV of a PROXY header of version 2: the byte of its type, then its value; once for each, in order.
    pub const PROXY_TLV: &str = "proxy.tlv";
    /// Begins the facts of a layer further inside; the value is its scheme. Put there by hosts alone.
    pub const LAYER: &str = "layer";
}

/// The TLVs of a PROXY header of version 2, as [`name::PROXY_TLV`] tells them: types, and bits of the type SSL. Sections
/// are those of the protocol's text, `doc/proxy-protocol.txt` of HAProxy.
pub mod proxy_tlv {
    /// The protocol that ALPN settled on (section 2.2.1).
    pub const ALPN: u8 = 0x01;
    /// The host name that the client asked for, such as that of SNI (section 2.2.2).
    pub const AUTHORITY: u8 = 0x02;
    /// A checksum over the whole header (section 2.2.3).
    pub const CRC32C: u8 = 0x03;
    /// Nothing (section 2.2.4).
    pub const NOOP: u8 = 0x04;
    /// A name of the connection, at most 128 bytes (section 2.2.5).
    pub const UNIQUE_ID: u8 = 0x05;
    /// How the client's TLS connection is made: a byte of bits, four that are zero where the client's certificate was
    /// verified, then TLVs of its own (section 2.2.6).
    pub const SSL: u8 = 0x20;
    /// Within SSL: the version.
    pub const SSL_VERSION: u8 = 0x21;
    /// Within SSL: the common name of the client's certificate.
    pub const SSL_CN: u8 = 0x22;
    /// Within SSL: the cipher.
    pub const SSL_CIPHER: u8 = 0x23;
    /// Within SSL: the algorithm that the proxy's own certificate is signed with.
    pub const SSL_SIG_ALG: u8 = 0x24;
    /// Within SSL: the algorithm of the key of the proxy's own certificate.
    pub const SSL_KEY_ALG: u8 = 0x25;
    /// The name of the network namespace (section 2.2.7).
    pub const NETNS: u8 = 0x30;

    /// A bit of SSL: the client came over TLS.
    pub const CLIENT_SSL: u8 = 1;
    /// A bit of SSL: it showed a certificate over this connection.
    pub const CLIENT_CERT_CONN: u8 = 2;
    /// A bit of SSL: it showed one in the session that the connection belongs to, then or earlier.
    pub const CLIENT_CERT_SESS: u8 = 4;

    /// Splits the first TLV off, as it stands in a header or within SSL: its type, its value, and what follows. `None`
    /// where it goes past the end.
    #[inline]
    #[must_use]
    pub fn split(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
        let (head, rest) = bytes.split_first_chunk::<3>()?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([head[1], head[2]])))?;
        Some((head[0], value, rest))
    }
}

/// Named values, in order. A name may occur several times; a host keeps names that it does not know.
///
/// Encoded as the boundary carries them: for each, the length of the name and the name, the length of the value and
/// the value; lengths are 32-bit, little-endian.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts(Vec<u8>);

impl Facts {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// None yet, with room for so many bytes: the names and values, and eight bytes for each fact.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Adds a fact at the end.
    ///
    /// # Panics
    /// If the name or the value is longer than 4 GiB.
    pub fn push(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let texts = [name.as_bytes(), value.as_ref()];
        self.0.reserve(texts.iter().map(|text| text.len() + size_of::<u32>()).sum());
        for text in texts {
            let len = u32::try_from(text.len()).expect("facts are short");
            self.0.extend_from_slice(&len.to_le_bytes());
            self.0.extend_from_slice(text);
        }
    }

    /// Adds a socket address at the end, as text: `192.0.2.1:80`, `[2001:db8::1]:80`.
    pub fn push_ip(&mut self, name: &str, address: SocketAddr) {
        match address {
            SocketAddr::V4(address) => {
                let mut text = [0; "255.255.255.255:65535".len()];
                let len = ipv4_text(address, &mut text);
                self.push(name, &text[..len]);
            }
            SocketAddr::V6(address) => self.push(name, address.to_string()),
        }
    }

    /// The same with one more fact.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.push(name, value);
        self
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All facts in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        // A name that is no text cannot be asked for.
        split(&self.0).filter_map(|(name, value, _)| Some((std::str::from_utf8(name).ok()?, value)))
    }

    /// The first value of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        split(&self.0).find_map(|(known, value, _)| (known == name.as_bytes()).then_some(value))
    }

    /// The encoded form.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Takes the encoded form; what cannot be read at its end is left out.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The encoded form, to be looked at.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Adds other facts at the end.
    pub fn append(&mut self, others: &Self) {
        self.append_bytes(&others.0);
    }

    /// Adds other facts, in their encoded form, at the end.
    pub fn append_bytes(&mut self, others: &[u8]) {
        self.0.extend_from_slice(others);
    }

    /// How many bytes of the encoded form can be read, before what cannot.
    #[must_use]
    pub fn readable(bytes: &[u8]) -> usize {
        split(bytes).last().map_or(0, |(_, _, end)| end)
    }

    /// Splits the encoded form at the marks of layers ([`name::LAYER`]): what comes before the first mark, with an empty
    /// scheme, then the scheme and the facts of each layer. What cannot be read at the end is left out.
    pub fn split_layers(bytes: &[u8]) -> impl Iterator<Item = (&[u8], Self)> {
        let mut facts = split(bytes);
        // The scheme and the beginning of the layer that comes next, until there is none.
        let mut next = Some((&bytes[..0], 0));
        std::iter::from_fn(move || {
            let (scheme, begin) = next.take()?;
            let mut end = begin;
            for (name, value, after) in facts.by_ref() {
                if name == name::LAYER.as_bytes() {
                    next = Some((value, after));
                    break;
                }
                end = after;
            }
            Some((scheme, Self(bytes[begin..end].to_vec())))
        })
    }
}

/// Writes what `Display` writes; gives how much that is. Connections with a wrapper around them need it several times each,
/// and the machinery of formatting takes more than ten times as many instructions.
fn ipv4_text(address: SocketAddrV4, text: &mut [u8; 21]) -> usize {
    let mut len = 0;
    let mut push = |byte| {
        text[len] = byte;
        len += 1;
    };
    let numbers = address.ip().octets().map(u16::from).into_iter().chain([address.port()]);
    for (number, end) in numbers.zip([Some(b'.'), Some(b'.'), Some(b'.'), Some(b':'), None]) {
        let units = [10_000, 1000, 100, 10].into_iter().filter(|unit| number >= *unit);
        units.for_each(|unit| push(b'0' + (number / unit % 10) as u8));
        push(b'0' + (number % 10) as u8);
        end.into_iter().for_each(&mut push);
    }
    len
}

/// Names, values, and how many bytes come before the end of each; up to what cannot be read.
fn split(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8], usize)> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (name, after) = text(rest)?;
        let (value, after) = text(after)?;
        rest = after;
        Some((name, value, bytes.len() - after.len()))
    })
}

fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*len) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_keep_their_order_and_any_bytes() {
        let facts = Facts::new().with("a", b"\xff\0").with("b", "").with("a", "second");
        let all: Vec<_> = facts.iter().collect();
        assert_eq!(all, [("a", &b"\xff\0"[..]), ("b", b""), ("a", b"second")]);
        assert_eq!(facts.get("a"), Some(&b"\xff\0"[..]));
        assert_eq!(facts.get("c"), None);
    }

    #[test]
    fn socket_addresses_are_told_as_they_are_displayed() {
        for text in [
            "0.0.0.0:0",
            "127.0.0.1:80",
            "10.200.30.99:100",
            "255.255.255.255:65535",
            "1.2.3.4:10009",
            "[2001:db8::1]:443",
            "[fe80::1%3]:443",
        ] {
            let mut facts = Facts::new();
            facts.push_ip("a", text.parse().unwrap());
            assert_eq!(facts.get("a"), Some(text.as_bytes()));
        }
    }

    #[test]
    fn layers_are_split_at_their_marks_and_lose_a_damaged_end() {
        let all = Facts::new()
            .with("a", "own")
            .with(name::LAYER, "outer")
            .with(name::LAYER, "inner")
            .with("b", "x");
        let mut bytes = all.into_bytes();
        bytes.extend([1, 0]);
        let layers: Vec<_> = Facts::split_layers(&bytes).collect();
        let expected: [(&[u8], _); 3] = [
            (b"", Facts::new().with("a", "own")),
            (b"outer", Facts::new()),
            (b"inner", Facts::new().with("b", "x")),
        ];
        assert_eq!(layers, expected);
        assert_eq!(Facts::split_layers(b"").count(), 1);
    }

    #[test]
    fn damaged_facts_end_early() {
        let mut bytes = Facts::new().with("name", "value").with("next", "lost").into_bytes();
        bytes.pop();
        assert_eq!(Facts::readable(&bytes), Facts::new().with("name", "value").as_bytes().len());
        assert_eq!(Facts::from_bytes(bytes).iter().count(), 1);
        let absurd = [0xff; 16].to_vec();
        assert_eq!(Facts::readable(&absurd), 0);
        assert_eq!(Facts::from_bytes(absurd).iter().count(), 0);
    }
}
