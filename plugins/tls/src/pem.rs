//! PEM files (RFC 7468): certificates and keys in them. What stands between the sections does not matter, and lines may
//! end in LF or CRLF.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use endpoints_plugin_api::Error;
use rustls::pki_types::pem::{self, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The most that is read of a file; bundles of all the world's roots have about 250 KiB.
const LONGEST: u64 = 16 << 20;

/// The certificates and keys of a file, each in their order.
#[derive(Debug, Default)]
pub struct Pem {
    /// The certificates.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The private keys, those that need no passphrase.
    pub keys: Vec<PrivateKeyDer<'static>>,
    /// Whether there is a key that needs one.
    pub encrypted: bool,
}

impl Pem {
    /// Takes the sections of a text out; kinds that are neither certificates nor keys are passed over.
    ///
    /// # Errors
    /// What is wrong with the first section that is damaged.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let mut pem = Self { encrypted: has(text, MARK) || has(text, OLD_MARK), ..Self::default() };
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
            let (kind, der) = match section {
                // The reader takes the headers of a key that is encrypted in the old manner for a part of it.
                Err(pem::Error::Base64Decode(_)) if has(text, OLD_MARK) => break,
                section => section.map_err(|error| problem(&error))?,
            };
            match kind {
                SectionKind::Certificate => pem.certificates.push(der.into()),
                SectionKind::PrivateKey => pem.keys.push(PrivateKeyDer::Pkcs8(der.into())),
                // Encrypted in the old manner, it is no key in DER.
                SectionKind::RsaPrivateKey if !pem.encrypted => {
                    pem.keys.push(PrivateKeyDer::Pkcs1(der.into()));
                }
                SectionKind::EcPrivateKey if !pem.encrypted => pem.keys.push(PrivateKeyDer::Sec1(der.into())),
                _ => {}
            }
        }
        Ok(pem)
    }
}

/// What is wrong, in words of our own: the reader's own text has the bytes of a line in it, which may be a key.
fn problem(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => {
            "a section has no END line; is each line of the file on a line of its own?"
        }
        pem::Error::IllegalSectionStart { .. } => {
            "a BEGIN line is damaged; is each line of the file on a line of its own?"
        }
        pem::Error::Base64Decode(_) => "the base64 of a section is damaged",
        pem::Error::SectionTooLarge => "a section is too long",
        _ => "a section cannot be read",
    }
    .to_owned()
}

/// A key with a passphrase in PKCS #8.
const MARK: &[u8] = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";

/// One as OpenSSL wrote it before (RFC 1421).
const OLD_MARK: &[u8] = b"Proc-Type: 4,ENCRYPTED";

fn has(text: &[u8], mark: &[u8]) -> bool {
    text.windows(mark.len()).any(|window| window == mark)
}

/// Reads the file that `argument` names.
///
/// # Errors
/// Why it cannot be read, with the argument and the path.
pub(crate) fn read(argument: &str, path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |error: &io::Error| unreadable(argument, path, error);
    // Of what is no file, reading may never end.
    if !fs::metadata(path).map_err(|error| failed(&error))?.is_file() {
        return Err(Error::invalid_argument(
            argument,
            format!("{argument}: {} is no file; give one in the form PEM", path.display()),
        ));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| failed(&error))?;
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    if bytes.len() as u64 > LONGEST {
        let message = format!("{argument}: {} is longer than 16 MiB, the most that is read", path.display());
        return Err(Error::invalid_argument(argument, message));
    }
    Ok(bytes)
}

/// Reads the file that `argument` names, and parses it.
///
/// # Errors
/// What is wrong, with the argument and the path.
pub(crate) fn load(argument: &str, path: &Path) -> Result<Pem, Error> {
    Pem::parse(&read(argument, path)?).map_err(|problem| {
        Error::invalid_argument(argument, format!("{argument}: {} is no PEM: {problem}", path.display()))
    })
}

/// The error for a path that cannot be read.
pub(crate) fn unreadable(argument: &str, path: &Path, error: &io::Error) -> Error {
    Error::from_io(format_args!("{argument}: cannot read {}", path.display()), error).with_argument(argument)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";

    #[test]
    fn sections_are_found_between_other_text_and_with_either_end_of_line() {
        let certificate = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";
        let text = format!("some text\n{certificate}{KEY}between\n{certificate}after");
        for text in [text.clone(), text.replace('\n', "\r\n")] {
            let pem = Pem::parse(text.as_bytes()).unwrap();
            assert_eq!((pem.certificates.len(), pem.keys.len(), pem.encrypted), (2, 1, false));
            assert_eq!(pem.certificates[0].as_ref(), [1, 2, 3]);
        }
        assert!(Pem::parse(b"").unwrap().certificates.is_empty());
        assert!(Pem::parse(b"-----BEGIN CERTIFICATE-----\nAQID\n").is_err());
        assert!(Pem::parse(b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n").is_err());
    }

    #[test]
    fn encrypted_keys_are_noticed() {
        let modern = KEY.replace("PRIVATE", "ENCRYPTED PRIVATE");
        let old = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n";
        for text in [modern.as_str(), old] {
            let pem = Pem::parse(text.as_bytes()).expect(text);
            assert!(pem.encrypted && pem.keys.is_empty(), "{text}");
        }
    }

    #[test]
    fn the_error_for_a_damaged_key_shows_nothing_of_it() {
        const SECRET: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg0123456789abcdef";
        let whole = format!("-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----\n");
        for text in [
            whole.replace('\n', ""),
            whole.replace('\n', " "),
            whole.replace('\n', "\\n"),
            whole.replace("KEY-----\nMI", "KEY-----MI"),
            whole.replace("-----\nMI", "MI"),
            whole.replace("\n-----END", "-----END"),
            whole.replace("cdef\n", "cde!\n"),
            whole[..whole.len() - 40].to_owned(),
        ] {
            let message = Pem::parse(text.as_bytes()).expect_err(&text);
            for window in SECRET.as_bytes().windows(8) {
                let decimals: Vec<_> = window.iter().map(u8::to_string).collect();
                assert!(!message.contains(std::str::from_utf8(window).unwrap()), "{message}");
                assert!(!message.contains(&decimals.join(", ")), "{message}");
            }
            assert!(message.contains("line of its own") || message.contains("base64"), "{message}");
        }
    }
}
