//! What both sides tell of a handshake: facts where it succeeded, the reason where it failed.

use std::borrow::Cow;
use std::io;

use endpoints_plugin_api::{Error, ErrorKind, Facts, name};
use rustls::{
    AlertDescription, CertificateError, CipherSuite, CommonState, HandshakeKind, ProtocolVersion,
    SupportedCipherSuite,
};

use crate::stream::Unheard;

/// Bytes of all facts but certificates, with those of a TCP connection below.
const OTHERS: usize = 400;

/// What a finished handshake came to; `sni` is the name that the client asked for.
pub(crate) fn facts(state: &CommonState, sni: Option<&str>) -> Facts {
    let certificates = state.peer_certificates().unwrap_or_default();
    let sizes = certificates.iter().map(|certificate| certificate.len() + 40);
    let mut facts = Facts::with_capacity(OTHERS + sizes.sum::<usize>());
    let version = match state.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLSv1.3",
    };
    facts.push(name::TLS_VERSION, version);
    facts.push(name::TLS_CIPHER, &*state.negotiated_cipher_suite().map(suite_name).unwrap_or_default());
    if let Some(group) = state.negotiated_key_exchange_group() {
        match group.name().as_str() {
            Some(group) => facts.push(name::TLS_GROUP, group),
            None => facts.push(name::TLS_GROUP, format!("{:?}", group.name())),
        }
    }
    if let Some(alpn) = state.alpn_protocol() {
        facts.push(name::TLS_ALPN, alpn);
    }
    if let Some(sni) = sni {
        facts.push(name::TLS_SNI, sni);
    }
    for certificate in certificates {
        facts.push(name::TLS_PEER_CERTIFICATE, certificate);
    }
    let is_resumed = state.handshake_kind() == Some(HandshakeKind::Resumed);
    facts.push(name::TLS_RESUMED, if is_resumed { "1" } else { "0" });
    facts
}

/// The name of a cipher suite in the registry of IANA.
pub(crate) fn suite_name(suite: SupportedCipherSuite) -> Cow<'static, str> {
    match suite.suite() {
        // rustls has other names for those of TLS 1.3.
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256".into(),
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384".into(),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256".into(),
        suite => suite.as_str().map_or_else(|| format!("{suite:?}").into(), Cow::from),
    }
}

/// Why a client's handshake with the server `with` failed.
pub(crate) fn failed(with: &str, error: &io::Error) -> Error {
    failed_trusting("trustRoots", with, error)
}

/// Why a server's handshake with the client `with` failed. A client that ends the connection before it has said anything has
/// given it up: it looks whether there is a server.
pub(crate) fn failed_accepting(with: &str, error: &io::Error) -> Error {
    let is_end = matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset);
    if is_end && unheard(error).is_some() {
        let message =
            format!("the TLS handshake with {with} did not begin: the connection was closed before it");
        return Error::new(ErrorKind::Cancelled, message);
    }
    failed_trusting("clientCA", with, error)
}

fn unheard(error: &io::Error) -> Option<&Unheard> {
    error.get_ref()?.downcast_ref()
}

/// `trust` is the argument that says who signs the other side's certificates.
fn failed_trusting(trust: &str, with: &str, error: &io::Error) -> Error {
    let doing = format!("the TLS handshake with {with} failed");
    let error = unheard(error).map_or(error, |unheard| &unheard.0);
    let Some(cause) = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::new(
                ErrorKind::HandshakeFailed,
                format!("{doing}: the connection was closed in the middle of it"),
            )
            .with_retryable(true),
            _ => Error::from_io(doing, error),
        };
    };
    let (kind, hint) = match cause {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            (ErrorKind::HandshakeFailed, format!("; {trust} names whose certificates are trusted"))
        }
        rustls::Error::InvalidCertificate(CertificateError::Other(other))
            if other.0.to_string().contains("CaUsedAsEndEntity") =>
        {
            let hint = "; it is that of an authority (CA:TRUE), which no server may show: have it sign one for the server, or make one with basicConstraints=CA:FALSE";
            (ErrorKind::HandshakeFailed, hint.into())
        }
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied,
        ) => (
            ErrorKind::AuthenticationFailed,
            "; the other side does not accept the certificate shown to it, or wants one".into(),
        ),
        rustls::Error::InvalidMessage(_) => (ErrorKind::HandshakeFailed, "; does it speak TLS?".into()),
        _ => (ErrorKind::HandshakeFailed, String::new()),
    };
    Error::new(kind, format!("{doing}: {cause}{hint}")).with_retryable(false)
}
