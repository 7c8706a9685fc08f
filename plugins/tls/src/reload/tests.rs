//! Reloading, with certificates of the script of the recorded cases.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::*;
use crate::identity::Named;

/// Certificates by the script of the recorded cases, for all tests of this process; `None`, and said on screen, where
/// there is no openssl to make them with.
pub(crate) fn pki() -> Option<&'static Path> {
    static MADE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        if Command::new("openssl").arg("version").output().is_err() {
            eprintln!("not tested: certificates: openssl is not installed");
            return None;
        }
        let folder = fresh("pki");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/conformance/make_pki.sh");
        let made = Command::new("bash").arg(script).arg(&folder).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Some(folder)
    });
    made.as_deref()
}

/// An empty folder below that of the build, which is not cleared away.
fn fresh(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.with_file_name("tls-tests").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// A folder of certificates, and what is said about it.
struct Site {
    pki: &'static Path,
    folder: PathBuf,
    reloading: Option<Reloading>,
    first: Vec<(LogLevel, String)>,
}

impl Site {
    /// With copies of files: the first is the name here, the others are joined.
    fn new(name: &str, files: &[(&str, &[&str])]) -> Option<Self> {
        let mut site = Self { pki: pki()?, folder: fresh(name), reloading: None, first: Vec::new() };
        for (name, parts) in files {
            site.put(name, parts);
        }
        site.open(&site.folder.clone());
        Some(site)
    }

    fn open(&mut self, path: &Path) {
        let source = Source::Place(Named::new("path", path));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let stamp = source.stamp();
        let identities = Arc::new(source.load(&provider).unwrap());
        self.first = identities.remarks();
        self.reloading = Some(Reloading::new(source, provider, stamp, identities));
    }

    fn put(&self, name: &str, parts: &[&str]) {
        let content: Vec<u8> = parts.iter().flat_map(|part| fs::read(self.pki.join(part)).unwrap()).collect();
        fs::write(self.folder.join(name), content).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.folder.join(name)).unwrap();
    }

    /// Looks, and gives what is logged.
    fn look(&self) -> Vec<(LogLevel, String)> {
        let said = RefCell::new(Vec::new());
        let log = |level, text: &str| said.borrow_mut().push((level, text.to_owned()));
        self.reloading.as_ref().unwrap().look_now(log);
        said.into_inner()
    }

    /// Looks, and checks the one line that is logged.
    fn says(&self, level: LogLevel, mentions: &[&str]) {
        let said = self.look();
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(said[0].0, level, "{said:?}");
        for mention in mentions {
            assert!(said[0].1.contains(mention), "{mention}: {said:?}");
        }
        assert_eq!(self.look(), [], "said once");
    }

    fn shows(&self, name: &str) -> String {
        let current = self.reloading.as_ref().unwrap().current();
        current.for_name(Some(name)).certificate.common_name.clone()
    }
}

const A: &[&str] = &["sni-a.key", "sni-a.crt"];
const B: &[&str] = &["sni-b.key", "sni-b.crt"];

#[test]
fn what_a_bad_file_had_stays_until_the_file_goes() {
    let Some(site) = Site::new("bad-file", &[("a.pem", A), ("b.pem", B)]) else { return };
    assert_eq!(site.first, []);
    for (parts, reason) in [
        (&["garbage.pem"][..], "neither a certificate nor a private key"),
        (&["sni-b.crt"], "b.test whose private key is not there"),
        (&["encrypted.key"], "passphrase"),
    ] {
        site.put("b.pem", parts);
        site.says(LogLevel::Error, &["b.pem", reason, "still used"]);
        assert_eq!([site.shows("a.test"), site.shows("b.test")], ["a.test", "b.test"]);
    }
    fs::write(site.folder.join("b.pem"), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
        .unwrap();
    site.says(LogLevel::Error, &["b.pem", "cannot be used"]);
    fs::write(site.folder.join("b.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap();
    site.says(LogLevel::Error, &["b.pem", "END line"]);
    assert_eq!(site.shows("b.test"), "b.test");
    site.put("b.pem", B);
    site.look();
    site.remove("b.pem");
    site.says(LogLevel::Warn, &["b.test", "no longer used", "b.pem is gone"]);
    assert_eq!(site.shows("b.test"), "a.test");
    site.put("b.pem", B);
    site.says(LogLevel::Info, &["new certificates are used from now on: b.test (until 2120-01-01)"]);
    // Nothing usable at all.
    site.remove("a.pem");
    site.remove("b.pem");
    site.says(LogLevel::Error, &["those before stay"]);
    assert_eq!(site.shows("b.test"), "b.test");
}

#[test]
fn renewal_in_two_steps_shows_the_old_certificate_until_both_are_done() {
    for key_first in [true, false] {
        let files: [(&str, &[&str]); 3] =
            [("c.pem", &["sni-a.crt"]), ("k.pem", &["sni-a.key"]), ("z.pem", &["sni-w.key", "sni-w.crt"])];
        let Some(site) = Site::new(&format!("two-steps-{key_first}"), &files) else { return };
        // As if renewed: b stands for the new one of a.
        let (one, other) = (("k.pem", ["sni-b.key"]), ("c.pem", ["sni-b.crt"]));
        let (first, second) = if key_first { (one, other) } else { (other, one) };
        site.put(first.0, &first.1);
        site.says(LogLevel::Error, &["c.pem", "private key is not there", "still used"]);
        assert_eq!([site.shows("a.test"), site.shows("x.c.test")], ["a.test", "star.c.test"]);
        site.put(second.0, &second.1);
        let said = site.look();
        assert!(
            said.iter().any(|(level, text)| *level == LogLevel::Info && text.contains("b.test")),
            "{said:?}"
        );
        assert_eq!(site.shows("b.test"), "b.test");
    }
}

#[test]
fn a_file_with_several_certificates_keeps_those_whose_keys_are_lost() {
    let Some(mut site) = Site::new("several", &[("all.pem", &[A, B].concat())]) else { return };
    site.open(&site.folder.join("all.pem"));
    site.put("all.pem", &["sni-a.key", "sni-a.crt", "sni-b.crt"]);
    site.says(LogLevel::Error, &["all.pem", "b.test", "still used"]);
    assert_eq!(site.shows("b.test"), "b.test");
    site.put("all.pem", A);
    site.says(LogLevel::Warn, &["b.test", "has it no more"]);
    assert_eq!(site.shows("b.test"), "a.test");
}

#[test]
fn bad_files_and_bad_certificates_are_told_at_the_start() {
    let files: [(&str, &[&str]); 6] = [
        ("a.pem", A),
        ("ca.pem", &["ca.crt"]),
        ("expired.pem", &["expired.key", "expired.crt"]),
        ("junk.pem", &["garbage.pem"]),
        ("names.pem", &["cnonly.key", "cnonly.crt"]),
        ("notyet.pem", &["notyet.key", "notyet.crt"]),
    ];
    let Some(site) = Site::new("start", &files) else { return };
    let mentions = [
        "junk.pem has neither",
        "expired.pem: the certificate for localhost, 127.0.0.1 expired on 2021-01-01",
        "names.pem: the certificate for localhost has no subjectAltName",
        "notyet.pem: the certificate for localhost, 127.0.0.1 is not valid before 2110-01-01",
    ];
    assert_eq!(site.first.len(), mentions.len(), "{:?}", site.first);
    for ((level, text), mention) in site.first.iter().zip(mentions) {
        assert_eq!(*level, LogLevel::Warn);
        assert!(text.contains(mention), "{mention}: {text}");
    }
    assert_eq!(site.reloading.as_ref().unwrap().current().expires(), "2021-01-01T00:00:00Z");
    // What was said at the start is not said again.
    site.put("b.pem", B);
    site.says(LogLevel::Info, &["b.test"]);
}
