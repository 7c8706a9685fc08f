//! What both sides and both schemes set: versions, cipher suites, protocols.

use std::sync::Arc;

use endpoints_plugin_api::{Arguments, Error};
use rustls::crypto::CryptoProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, SupportedCipherSuite, SupportedProtocolVersion};

use crate::handshake::suite_name;

/// The cryptography, in which the suites stand in the order of `ciphers`, where that is given.
///
/// # Errors
/// If one of `ciphers` is unknown.
pub(crate) fn provider(arguments: &Arguments<'_>) -> Result<Arc<CryptoProvider>, Error> {
    let mut provider =
        CryptoProvider { cipher_suites: suites(), ..rustls::crypto::aws_lc_rs::default_provider() };
    let wanted = arguments.list("ciphers")?;
    if !wanted.is_empty() {
        let known = std::mem::take(&mut provider.cipher_suites);
        for name in wanted {
            let suite = known.iter().find(|suite| suite_name(**suite).eq_ignore_ascii_case(name));
            let Some(suite) = suite else {
                let names: Vec<_> = known.iter().map(|suite| suite_name(*suite)).collect();
                let message = format!("ciphers: {name} is none of {}", names.join(", "));
                return Err(Error::invalid_argument("ciphers", message));
            };
            provider.cipher_suites.push(*suite);
        }
    }
    Ok(Arc::new(provider))
}

/// All suites, those with AES-128 first in each version: they take less work, and nobody can break them either.
fn suites() -> Vec<SupportedCipherSuite> {
    let mut suites = rustls::crypto::aws_lc_rs::default_provider().cipher_suites;
    suites.sort_by_key(|suite| (suite.version() == &TLS12, !is_aes_128(*suite)));
    suites
}

fn is_aes_128(suite: SupportedCipherSuite) -> bool {
    matches!(
        suite.suite(),
        CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    )
}

/// As [`provider`], with the suites of these versions alone: those that a connection may come to.
///
/// # Errors
/// As those of [`provider`], and if no suite is left.
pub(crate) fn provider_for(
    arguments: &Arguments<'_>,
    versions: Versions,
) -> Result<Arc<CryptoProvider>, Error> {
    let mut provider = CryptoProvider::clone(&*self::provider(arguments)?);
    provider.cipher_suites.retain(|suite| versions.contains(&suite.version()));
    if provider.cipher_suites.is_empty() {
        let message = format!("ciphers: none of them is one of {}", shown(versions));
        return Err(Error::invalid_argument("ciphers", message));
    }
    Ok(Arc::new(provider))
}

/// The names of the suites of TLS 1.2, in the order in which they are preferred.
pub(crate) fn suites_of_1_2() -> Vec<String> {
    suites()
        .into_iter()
        .filter(|suite| suite.version() == &TLS12)
        .map(|suite| suite_name(suite).into_owned())
        .collect()
}

/// The protocols of ALPN, in order of preference.
///
/// # Errors
/// If one is longer than 255 bytes (RFC 7301, section 3.1).
pub(crate) fn alpn(arguments: &Arguments<'_>) -> Result<Vec<Vec<u8>>, Error> {
    let protocols = arguments.list("alpn")?;
    match protocols.iter().find(|protocol| protocol.len() > 255) {
        Some(long) => {
            let message = format!("alpn: {long:?} is longer than 255 bytes");
            Err(Error::invalid_argument("alpn", message))
        }
        None => Ok(protocols.into_iter().map(|protocol| protocol.as_bytes().to_vec()).collect()),
    }
}

/// The versions of TLS.
pub(crate) type Versions = &'static [&'static SupportedProtocolVersion];

/// All that are not obsolete.
pub(crate) const VERSIONS: Versions = &[&TLS13, &TLS12];

const ONLY_1_2: Versions = &[&TLS12];

/// The versions that a name of a method of OpenSSL stands for, as Twisted's `sslmethod` takes it.
///
/// # Errors
/// If it is the name of what is obsolete, or no name at all.
pub(crate) fn versions_of_method(name: &str) -> Result<Versions, Error> {
    const KNOWN: &str =
        "TLS_METHOD, TLS_SERVER_METHOD, SSLv23_METHOD (TLS 1.2 and 1.3) and TLSv1_2_METHOD (TLS 1.2)";
    let refused = |why: &str| {
        Err(Error::invalid_argument("sslmethod", format!("sslmethod: {name:?} {why}; write one of {KNOWN}")))
    };
    match name {
        "TLS_METHOD" | "TLS_SERVER_METHOD" | "SSLv23_METHOD" => Ok(VERSIONS),
        "TLSv1_2_METHOD" => Ok(ONLY_1_2),
        "TLSv1_METHOD" | "TLSv1_1_METHOD" => refused("means a version of TLS that RFC 8996 forbids"),
        "SSLv2_METHOD" | "SSLv3_METHOD" => {
            refused("means a version of SSL that RFC 6176 and RFC 7568 forbid")
        }
        "TLS_CLIENT_METHOD" => refused("is for clients"),
        _ => refused("is no method of OpenSSL that is known here"),
    }
}

/// The versions as text.
pub(crate) fn shown(versions: Versions) -> &'static str {
    if versions.len() == 1 { "TLSv1.2" } else { "TLSv1.2 TLSv1.3" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aes_128_comes_first_and_no_suite_is_lost() {
        let suites: Vec<_> = suites().into_iter().map(suite_name).collect();
        let all = rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES.len();
        assert_eq!(suites.len(), all, "{suites:?}");
        assert_eq!(suites[..2], ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"]);
        let first_of_1_2 = &suites_of_1_2()[..2];
        assert!(
            first_of_1_2.iter().all(|name| name.ends_with("_WITH_AES_128_GCM_SHA256")),
            "{first_of_1_2:?}"
        );
    }

    #[test]
    fn methods_stand_for_versions_or_are_refused() {
        for (name, count) in
            [("TLS_METHOD", 2), ("TLS_SERVER_METHOD", 2), ("SSLv23_METHOD", 2), ("TLSv1_2_METHOD", 1)]
        {
            assert_eq!(versions_of_method(name).unwrap().len(), count, "{name}");
        }
        for name in ["TLSv1_METHOD", "SSLv3_METHOD", "TLS_CLIENT_METHOD", "tlsv1_2_method", "Context", ""] {
            let error = versions_of_method(name).unwrap_err();
            assert_eq!(error.argument(), Some("sslmethod"));
            assert!(error.message().contains("TLS_METHOD"), "{error}");
        }
    }
}
