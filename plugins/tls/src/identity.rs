//! Who a server, or a client with a certificate, says it is: certificates with their chains and keys.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use endpoints_plugin_api::{Error, LogLevel};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{SignatureAlgorithm, SupportedCipherSuite};
use x509_parser::time::ASN1Time;

use crate::certificate::{self, Certificate};
use crate::folder::{Problem, find_all, pem_files};
use crate::pem;

/// An argument and the path that it names.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) argument: &'static str,
    pub(crate) path: PathBuf,
}

impl Named {
    pub(crate) fn new(argument: &'static str, path: &Path) -> Self {
        Self { argument, path: path.to_owned() }
    }

    pub(crate) fn refused(&self, what: impl std::fmt::Display) -> Error {
        Error::invalid_argument(self.argument, format!("{}: {} {what}", self.argument, self.path.display()))
    }
}

/// Where certificates and keys are read from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// One certificate, first in its file, and its key; what else is in the file, or in that of the chain, follows it.
    Pair { certificate: Named, key: Named, chain: Option<Named> },
    /// All certificates whose keys are there too: of a file, or of the files of a folder that end in `.pem`.
    Place(Named),
}

/// A certificate with its chain and key.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// Where the certificate stands.
    pub(crate) file: PathBuf,
    pub(crate) certificate: Certificate,
    /// The common names of the certificates above it.
    pub(crate) chain: Vec<String>,
    pub(crate) key: Arc<CertifiedKey>,
}

/// All identities of a source.
#[derive(Debug)]
pub(crate) struct Identities {
    /// In the order of their files; the first is shown to whoever asks for none of the names.
    all: Vec<Arc<Identity>>,
    /// By name, `*.` in front included.
    names: HashMap<String, usize>,
    /// Files that are left out.
    problems: Vec<Problem>,
}

/// What tells whether files have changed: for each, its path, device, inode, size, and times of change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(Vec<(PathBuf, Option<Look>)>);

/// Device, inode and size; times of change.
type Look = ([u64; 3], [i64; 4]);

impl Source {
    /// Reads everything anew.
    ///
    /// # Errors
    /// What cannot be read, or does not belong together.
    pub(crate) fn load(&self, provider: &CryptoProvider) -> Result<Identities, Error> {
        self.load_after(&[], provider)
    }

    /// As [`Self::load`], but what was used before is kept where its file is still there and has gone bad.
    ///
    /// # Errors
    /// As those of [`Self::load`].
    pub(crate) fn reload(&self, provider: &CryptoProvider, before: &Identities) -> Result<Identities, Error> {
        self.load_after(&before.all, provider)
    }

    fn load_after(&self, before: &[Arc<Identity>], provider: &CryptoProvider) -> Result<Identities, Error> {
        let (all, problems) = match self {
            Self::Pair { certificate, key, chain } => {
                (vec![Arc::new(pair(certificate, key, chain.as_ref(), provider)?)], Vec::new())
            }
            Self::Place(place) => find_all(place, provider, before)?,
        };
        let mut names = HashMap::new();
        for (index, identity) in all.iter().enumerate() {
            for name in &identity.certificate.dns_names {
                names.entry(name.clone()).or_insert(index);
            }
        }
        Ok(Identities { all, names, problems })
    }

    /// What the files look like now.
    pub(crate) fn stamp(&self) -> Stamp {
        let mut paths = match self {
            Self::Pair { certificate, key, chain } => {
                let all = [Some(certificate), Some(key), chain.as_ref()];
                all.into_iter().flatten().map(|named| named.path.clone()).collect()
            }
            Self::Place(place) => {
                let mut paths = vec![place.path.clone()];
                paths.extend(pem_files(place).unwrap_or_default());
                paths
            }
        };
        paths.dedup();
        let looks = |path: &Path| {
            // Of what a link leads to: one that is swapped for another leads to another inode.
            fs::metadata(path).ok().map(|metadata| {
                (
                    [metadata.dev(), metadata.ino(), metadata.size()],
                    [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()],
                )
            })
        };
        Stamp(paths.into_iter().map(|path| (path.clone(), looks(&path))).collect())
    }
}

impl Identity {
    pub(crate) fn new<'c>(
        file: &Path,
        leaf: Certificate,
        above: impl Iterator<Item = &'c Certificate> + Clone,
        key: Arc<dyn SigningKey>,
    ) -> Self {
        let ders =
            std::iter::once(leaf.der.clone()).chain(above.clone().map(|one| one.der.clone())).collect();
        Self {
            file: file.to_owned(),
            chain: above.map(|one| one.common_name.clone()).collect(),
            key: Arc::new(CertifiedKey::new(ders, key)),
            certificate: leaf,
        }
    }
}

impl Identities {
    /// The identity for the name that a client asks for: that of this name, or of a `*` in the place of its first part,
    /// or the first of all.
    pub(crate) fn for_name(&self, name: Option<&str>) -> &Identity {
        let index = name.and_then(|name| {
            let name = match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                true => Cow::Owned(name.to_ascii_lowercase()),
                false => Cow::Borrowed(name),
            };
            let wildcard = || Some(format!("*.{}", name.split_once('.')?.1));
            self.names.get(&*name).or_else(|| self.names.get(&wildcard()?))
        });
        &self.all[index.copied().unwrap_or(0)]
    }

    /// The names and the identities that they stand for, in order.
    pub(crate) fn names(&self) -> Vec<(&str, &Identity)> {
        let mut names: Vec<_> =
            self.names.iter().map(|(name, index)| (name.as_str(), &*self.all[*index])).collect();
        names.sort_unstable_by_key(|(name, _)| *name);
        names
    }

    pub(crate) fn all(&self) -> &[Arc<Identity>] {
        &self.all
    }

    pub(crate) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// What somebody should look after: files that are left out, and certificates that clients will refuse.
    pub(crate) fn remarks(&self) -> Vec<(LogLevel, String)> {
        let problem = |problem: &Problem| match problem.kept {
            true => (LogLevel::Error, format!("{}; what it had before is still used", problem.text)),
            false => (LogLevel::Warn, format!("{}; the file is left out", problem.text)),
        };
        let now = ASN1Time::now();
        let flaws = self.all.iter().flat_map(|identity| {
            let flaws = identity.certificate.flaws(now).into_iter();
            flaws.map(|flaw| (LogLevel::Warn, format!("{}: {flaw}", identity.file.display())))
        });
        self.problems.iter().map(problem).chain(flaws).collect()
    }

    /// When the first of them expires.
    pub(crate) fn expires(&self) -> String {
        // There is one: loading fails where there is none.
        let first = self.all.iter().map(|identity| identity.certificate.not_after).min();
        first.map(certificate::date_and_time).unwrap_or_default()
    }

    pub(crate) fn first(&self) -> &Identity {
        &self.all[0]
    }
}

fn pair(
    certificate: &Named,
    key: &Named,
    chain: Option<&Named>,
    provider: &CryptoProvider,
) -> Result<Identity, Error> {
    let mut pem = pem::load(certificate.argument, &certificate.path)?;
    if certificate.path != key.path {
        let other = pem::load(key.argument, &key.path)?;
        (pem.keys, pem.encrypted) = (other.keys, other.encrypted);
    }
    let mut certificates = parsed(certificate, pem.certificates)?;
    if certificates.is_empty() {
        return Err(certificate.refused("has no certificate"));
    }
    let leaf = certificates.remove(0);
    let signing = match pem.keys.into_iter().next() {
        Some(der) => sign_with(key, der, provider)?,
        None if pem.encrypted => return Err(encrypted(key)),
        None => return Err(key.refused("has no private key")),
    };
    let mut above = certificates;
    if let Some(chain) = chain {
        let more = parsed(chain, pem::load(chain.argument, &chain.path)?.certificates)?;
        if more.is_empty() {
            return Err(chain.refused("has no certificate"));
        }
        above.extend(more);
    }
    if signing.public_key().is_some_and(|public| public.as_ref() != leaf.spki) {
        let message = format!(
            "is not the key of the certificate in {}: they must be made for each other",
            certificate.path.display()
        );
        return Err(key.refused(message));
    }
    Ok(Identity::new(&certificate.path, leaf, above.iter(), signing))
}

pub(crate) fn parsed(
    named: &Named,
    ders: Vec<rustls::pki_types::CertificateDer<'static>>,
) -> Result<Vec<Certificate>, Error> {
    let parsed: Result<_, _> = ders.into_iter().map(Certificate::parse).collect();
    parsed.map_err(|problem| named.refused(format_args!("is no PEM with certificates: {problem}")))
}

pub(crate) fn sign_with(
    named: &Named,
    der: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<Arc<dyn SigningKey>, Error> {
    let key = provider
        .key_provider
        .load_private_key(der)
        .map_err(|error| named.refused(format_args!("has a private key that cannot be used: {error}")))?;
    // The suites of TLS 1.3 go with every key; of the others, each goes with one kind.
    let is_usable = provider.cipher_suites.iter().any(|suite| match suite {
        SupportedCipherSuite::Tls13(_) => true,
        SupportedCipherSuite::Tls12(suite) => key.choose_scheme(suite.sign).is_some(),
    });
    if !is_usable {
        let kind = match key.algorithm() {
            SignatureAlgorithm::RSA => "an RSA key",
            SignatureAlgorithm::ECDSA => "an ECDSA key",
            _ => "a key of another kind",
        };
        let message = format!(
            "ciphers: none of them goes with the key in {}, which is {kind}; add one that does, or one of TLS 1.3",
            named.path.display()
        );
        return Err(Error::invalid_argument("ciphers", message));
    }
    Ok(key)
}

pub(crate) fn encrypted(named: &Named) -> Error {
    named.refused(
        "has a private key with a passphrase, and nobody is there to ask for it; write it without one, as `openssl pkey` does",
    )
}

/// Certificates to trust: of a file, or of the files of a folder that end in `.pem`.
///
/// # Errors
/// If there is none, or the place cannot be read.
pub(crate) fn trusted(place: &Named) -> Result<Vec<Certificate>, Error> {
    let metadata =
        fs::metadata(&place.path).map_err(|error| pem::unreadable(place.argument, &place.path, &error))?;
    if !metadata.is_dir() {
        let all = parsed(place, pem::load(place.argument, &place.path)?.certificates)?;
        return if all.is_empty() { Err(place.refused("has no certificate")) } else { Ok(unique(all)) };
    }
    let mut all = Vec::new();
    for file in pem_files(place)? {
        let named = Named { argument: place.argument, path: file };
        // What is none among them is passed over, as in Twisted.
        if let Ok(more) =
            pem::load(named.argument, &named.path).and_then(|pem| parsed(&named, pem.certificates))
        {
            all.extend(more);
        }
    }
    if all.is_empty() {
        return Err(place.refused("has no certificates to trust in files that end in .pem"));
    }
    Ok(unique(all))
}

fn unique(all: Vec<Certificate>) -> Vec<Certificate> {
    let mut unique: Vec<Certificate> = Vec::new();
    for one in all {
        if !unique.iter().any(|known| known.der == one.der) {
            unique.push(one);
        }
    }
    unique
}
