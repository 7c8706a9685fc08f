//! What is read out of certificates: names, keys, and who signed them (RFC 5280).

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate};
use x509_parser::public_key::PublicKey;

/// The parts of a certificate that matter here.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub(crate) der: CertificateDer<'static>,
    /// The common name of its subject; empty where it has none.
    pub(crate) common_name: String,
    /// The DNS names of its subjectAltName, in small letters.
    pub(crate) dns_names: Vec<String>,
    /// The IP addresses of its subjectAltName.
    pub(crate) addresses: Vec<IpAddr>,
    /// The kind and the size of its key, as in `EC-256`.
    pub(crate) key_kind: String,
    pub(crate) not_before: ASN1Time,
    pub(crate) not_after: ASN1Time,
    /// Whether it is that of an authority, and signs others.
    pub(crate) is_ca: bool,
    has_names: bool,
    pub(crate) spki: Vec<u8>,
    subject: Vec<u8>,
    issuer: Vec<u8>,
}

impl Certificate {
    /// # Errors
    /// If it is none.
    pub(crate) fn parse(der: CertificateDer<'static>) -> Result<Self, String> {
        let (rest, parsed) =
            X509Certificate::from_der(&der).map_err(|error| format!("a certificate is damaged: {error}"))?;
        if !rest.is_empty() {
            return Err("a certificate has bytes behind its end".into());
        }
        let mut dns_names = Vec::new();
        let mut addresses = Vec::new();
        let mut has_names = false;
        if let Ok(Some(extension)) = parsed.subject_alternative_name() {
            has_names = true;
            for name in &extension.value.general_names {
                match name {
                    GeneralName::DNSName(name) => dns_names.push(name.to_ascii_lowercase()),
                    GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
                    _ => {}
                }
            }
        }
        let common_name = parsed
            .subject()
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok())
            .unwrap_or_default();
        Ok(Self {
            common_name: common_name.to_owned(),
            dns_names,
            addresses,
            key_kind: match parsed.public_key().parsed() {
                Ok(PublicKey::RSA(key)) => format!("RSA-{}", key.key_size()),
                Ok(PublicKey::EC(key)) => format!("EC-{}", key.key_size()),
                _ => parsed.public_key().algorithm.algorithm.to_string(),
            },
            not_before: parsed.validity().not_before,
            not_after: parsed.validity().not_after,
            is_ca: parsed.is_ca(),
            has_names,
            spki: parsed.public_key().raw.to_vec(),
            subject: parsed.subject().as_raw().to_vec(),
            issuer: parsed.issuer().as_raw().to_vec(),
            der,
        })
    }

    /// Its names and addresses; its common name where it has none.
    pub(crate) fn known_as(&self) -> String {
        let names = self.dns_names.iter().cloned();
        let all: Vec<_> = names.chain(self.addresses.iter().map(ToString::to_string)).collect();
        if all.is_empty() { self.common_name.clone() } else { all.join(", ") }
    }

    /// Why clients will refuse it at that time.
    pub(crate) fn flaws(&self, now: ASN1Time) -> Vec<String> {
        let mut flaws = Vec::new();
        let certificate = format!("the certificate for {}", self.known_as());
        if self.not_after < now {
            flaws.push(format!("{certificate} expired on {}", date(self.not_after)));
        }
        if now < self.not_before {
            flaws.push(format!("{certificate} is not valid before {}", date(self.not_before)));
        }
        if !self.has_names {
            flaws.push(format!("{certificate} has no subjectAltName, so clients take it for no name"));
        }
        flaws
    }

    fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }
}

/// A time as ISO 8601 writes dates, in UTC.
pub(crate) fn date(time: ASN1Time) -> String {
    let time = time.to_datetime();
    format!("{:04}-{:02}-{:02}", time.year(), u8::from(time.month()), time.day())
}

/// A time as ISO 8601 writes it, in UTC.
pub(crate) fn date_and_time(time: ASN1Time) -> String {
    let (day, time) = (date(time), time.to_datetime());
    format!("{day}T{:02}:{:02}:{:02}Z", time.hour(), time.minute(), time.second())
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

/// The certificates above `leaf` among `others`, each the issuer of the one before, without a root.
pub(crate) fn chain<'c>(leaf: &Certificate, others: &'c [Certificate]) -> Vec<&'c Certificate> {
    let mut chain: Vec<&Certificate> = Vec::new();
    let mut issuer = &leaf.issuer;
    // A circle ends where it closes.
    while let Some(next) = others.iter().find(|other| {
        other.subject == *issuer
            && !other.is_self_issued()
            && !chain.iter().any(|known| known.der == other.der)
    }) {
        chain.push(next);
        issuer = &next.issuer;
    }
    chain
}
