//! What both sides tell of a handshake: facts where it succeeded, the reason where it failed.

use std::io;

use endpoints_plugin_api::{Connection, Error, ErrorKind, name};
use rustls::{
    AlertDescription, CertificateError, CommonState, HandshakeKind, ProtocolVersion, SupportedCipherSuite,
};

/// Adds what is known about the TLS layer.
pub(crate) fn with_facts(connection: Connection, state: &State) -> Connection {
    // The last one added stands first.
    let mut connection = connection.with_fact(name::TLS_RESUMED, if state.resumed { "1" } else { "0" });
    for certificate in state.certificates.iter().rev() {
        connection = connection.with_fact(name::TLS_PEER_CERTIFICATE, certificate);
    }
    if let Some(sni) = &state.sni {
        connection = connection.with_fact(name::TLS_SNI, sni);
    }
    if let Some(alpn) = &state.alpn {
        connection = connection.with_fact(name::TLS_ALPN, alpn);
    }
    if let Some(group) = &state.group {
        connection = connection.with_fact(name::TLS_GROUP, group);
    }
    connection.with_fact(name::TLS_CIPHER, &state.cipher).with_fact(name::TLS_VERSION, state.version)
}

/// What a finished handshake came to.
pub(crate) struct State {
    version: &'static str,
    cipher: String,
    group: Option<String>,
    alpn: Option<Vec<u8>>,
    sni: Option<String>,
    certificates: Vec<Vec<u8>>,
    resumed: bool,
}

impl State {
    pub(crate) fn new(state: &CommonState, sni: Option<String>) -> Self {
        Self {
            version: match state.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "TLSv1.3",
            },
            cipher: state.negotiated_cipher_suite().map(suite_name).unwrap_or_default(),
            group: state.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name())),
            alpn: state.alpn_protocol().map(<[u8]>::to_vec),
            sni,
            certificates: state
                .peer_certificates()
                .unwrap_or_default()
                .iter()
                .map(|certificate| certificate.as_ref().to_vec())
                .collect(),
            resumed: state.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }
}

/// The name of a cipher suite in the registry of IANA.
pub(crate) fn suite_name(suite: SupportedCipherSuite) -> String {
    let name = format!("{:?}", suite.suite());
    // What rustls calls those of TLS 1.3.
    name.strip_prefix("TLS13_").map_or_else(|| name.clone(), |rest| format!("TLS_{rest}"))
}

/// Why a client's handshake with the server `with` failed.
pub(crate) fn failed(with: &str, error: &io::Error) -> Error {
    failed_trusting("trustRoots", with, error)
}

/// Why a server's handshake with the client `with` failed.
pub(crate) fn failed_accepting(with: &str, error: &io::Error) -> Error {
    failed_trusting("clientCA", with, error)
}

/// `trust` is the argument that says who signs the other side's certificates.
fn failed_trusting(trust: &str, with: &str, error: &io::Error) -> Error {
    let doing = format!("the TLS handshake with {with} failed");
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
