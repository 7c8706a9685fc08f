//! What is known of a connection's TLS, typed.

use endpoints_plugin_api::name;

use super::{ConnectionInfo, Layer};

/// What is known of a connection's TLS, as the outermost layer with TLS tells it.
///
/// A text is `None` where nobody tells it, and where it is not UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsFacts<'a> {
    /// The version: `TLSv1.3` or `TLSv1.2`.
    pub version: &'a str,
    /// The cipher suite, by its name in the registry of IANA.
    pub cipher: Option<&'a str>,
    /// The protocol that ALPN (RFC 7301) settled on, such as `h2`.
    pub alpn: Option<&'a [u8]>,
    /// The name of the server that the client asked for (SNI, RFC 6066 section 3).
    pub sni: Option<&'a str>,
    /// The certificates that the other end of this TLS sent, DER, its own first. They were verified, or there would be no
    /// connection.
    pub peer_certificates: Vec<&'a [u8]>,
    /// Whether the handshake resumed an earlier session.
    pub resumed: bool,
}

impl ConnectionInfo {
    /// What is known of its TLS; `None` where no layer has any.
    ///
    /// It need not be TLS with the peer: with `socks5:` around a proxy that is reached by TLS, it is the TLS of that proxy, as
    /// are its certificates and its ALPN, and beyond the proxy the bytes are in the clear. Whoever decides by it asks the
    /// outermost layer alone, with which nobody stands between: `info.layers().first().and_then(Layer::tls)`. A PROXY
    /// header takes nothing from that, as its layer is beneath the one of TLS. Of the schemes that listen and come with this
    /// library none tunnels, so that a server's TLS is with whoever has connected to it.
    ///
    /// This is about connections of this process. What a proxy tells of its client's TLS is in
    /// [`proxy_tlvs`](Self::proxy_tlvs).
    #[must_use]
    pub fn tls(&self) -> Option<TlsFacts<'_>> {
        self.layers().iter().find_map(Layer::tls)
    }
}

impl Layer {
    /// What this layer knows of TLS.
    #[must_use]
    pub fn tls(&self) -> Option<TlsFacts<'_>> {
        let text = |name| std::str::from_utf8(self.fact(name)?).ok();
        let certificates = self.facts().filter(|(fact, _)| *fact == name::TLS_PEER_CERTIFICATE);
        Some(TlsFacts {
            version: text(name::TLS_VERSION)?,
            cipher: text(name::TLS_CIPHER),
            alpn: self.fact(name::TLS_ALPN),
            sni: text(name::TLS_SNI),
            peer_certificates: certificates.map(|(_, certificate)| certificate).collect(),
            resumed: self.fact(name::TLS_RESUMED) == Some(b"1"),
        })
    }
}
