//! The certificates and keys of a folder, or of one file with several: which belong together, and which files are bad.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use endpoints_plugin_api::{Error, ErrorKind};
use rustls::crypto::CryptoProvider;
use rustls::sign::SigningKey;

use crate::certificate::{self, Certificate};
use crate::identity::{Identity, Named, encrypted, parsed, sign_with};
use crate::pem;

/// A file that is left out, and why.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) text: String,
    /// Whether what the file had before is still used.
    pub(crate) kept: bool,
    /// Whether it may pass without a change of the file, as a lack of descriptors does.
    pub(crate) passing: bool,
}

/// What is found, and the files that are left out.
pub(crate) type Found = (Vec<Arc<Identity>>, Vec<Problem>);

/// Finds all certificates whose keys are there too. Of files that have gone bad since, those of `before` are kept.
///
/// # Errors
/// If nothing usable is there, or a file that is the only one is bad.
pub(crate) fn find_all(
    place: &Named,
    provider: &CryptoProvider,
    before: &[Arc<Identity>],
) -> Result<Found, Error> {
    let is_folder = fs::metadata(&place.path)
        .map_err(|error| pem::unreadable(place.argument, &place.path, &error))?
        .is_dir();
    let files = if is_folder { pem_files(place)? } else { vec![place.path.clone()] };
    let named = |index: usize| Named { argument: place.argument, path: files[index].clone() };
    let (mut certificates, mut origins, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    let mut problems = BTreeMap::new();
    for index in 0..files.len() {
        match contents(&named(index), provider) {
            Ok((more, more_keys, problem)) => {
                origins.resize(origins.len() + more.len(), index);
                certificates.extend(more);
                keys.extend(more_keys);
                problems.extend(problem.map(|problem| (index, problem)));
            }
            // One file of many that is damaged must not end the others' service.
            Err(error) if is_folder && !(before.is_empty() && error.argument() == Some("ciphers")) => {
                problems.insert(index, error);
            }
            Err(error) => return Err(error),
        }
    }
    let mut all = Vec::new();
    for (leaf, index) in certificates.iter().zip(origins) {
        let key = keys.iter().find(|key| key.public_key().is_some_and(|public| public.as_ref() == leaf.spki));
        if let Some(key) = key {
            let above: Vec<_> = certificate::chain(leaf, &certificates).into_iter().cloned().collect();
            all.push(Arc::new(Identity::new(&files[index], leaf.clone(), above.iter(), Arc::clone(key))));
        } else if !leaf.is_ca {
            // Those of authorities are there for the chains.
            problems.entry(index).or_insert_with(|| {
                named(index).refused(format_args!(
                    "has a certificate for {} whose private key is not there",
                    leaf.known_as()
                ))
            });
        }
    }
    let position = |identity: &Identity| files.iter().position(|file| *file == identity.file);
    let mut kept = Vec::new();
    for old in before {
        let Some(index) = position(old).filter(|index| problems.contains_key(index)) else { continue };
        let is_replaced = |names: &[String]| {
            let mut fresh = all.iter().filter(|new| new.file == old.file);
            fresh.any(|new| {
                new.certificate.der == old.certificate.der
                    || (!names.is_empty()
                        && names.iter().all(|name| new.certificate.dns_names.contains(name)))
            })
        };
        if !is_replaced(&old.certificate.dns_names) {
            kept.push((index, Arc::clone(old)));
        }
    }
    if all.is_empty() && kept.is_empty() {
        return Err(match problems.into_iter().next() {
            Some((_, error)) => error,
            None if is_folder && files.is_empty() => {
                place.refused("has no certificates: files that end in .pem are read, and there is none")
            }
            None => place.refused("has no certificate whose private key is there too"),
        });
    }
    let problem = |(index, error): (usize, Error)| Problem {
        text: error.message().to_owned(),
        kept: kept.iter().any(|(of, _)| *of == index),
        passing: is_passing(&error),
    };
    let problems = problems.into_iter().map(problem).collect();
    all.extend(kept.iter().map(|(_, old)| Arc::clone(old)));
    all.sort_by_key(|identity| position(identity));
    Ok((all, problems))
}

/// Whether an error may pass without a change of files.
pub(crate) fn is_passing(error: &Error) -> bool {
    !matches!(error.kind(), ErrorKind::InvalidArgument | ErrorKind::NotFound | ErrorKind::PermissionDenied)
}

/// What a file has, and a problem that leaves the rest of it usable.
type Contents = (Vec<Certificate>, Vec<Arc<dyn SigningKey>>, Option<Error>);

fn contents(file: &Named, provider: &CryptoProvider) -> Result<Contents, Error> {
    let pem = pem::load(file.argument, &file.path)?;
    let certificates = parsed(file, pem.certificates)?;
    let keys: Vec<_> =
        pem.keys.into_iter().map(|der| sign_with(file, der, provider)).collect::<Result<_, _>>()?;
    let problem = if pem.encrypted && keys.is_empty() {
        Some(encrypted(file))
    } else if certificates.is_empty() && keys.is_empty() {
        Some(file.refused("has neither a certificate nor a private key"))
    } else {
        None
    };
    Ok((certificates, keys, problem))
}

/// The files of a folder that end in `.pem`, large or small, by name.
pub(crate) fn pem_files(place: &Named) -> Result<Vec<PathBuf>, Error> {
    let failed = |error: &io::Error| pem::unreadable(place.argument, &place.path, error);
    if !place.path.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(&place.path).map_err(|error| failed(&error))? {
        let path = entry.map_err(|error| failed(&error))?.path();
        let is_pem =
            path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(OsStr::new("pem")));
        // One that cannot be looked at is not gone: reading it tells why.
        let is_there = || match fs::metadata(&path) {
            Ok(metadata) => metadata.is_file(),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        if is_pem && is_there() {
            files.push(path);
        }
    }
    files.sort();
    // The one for whoever asks for no known name.
    if let Some(default) = files.iter().position(|file| {
        file.file_stem().is_some_and(|stem| stem.eq_ignore_ascii_case(OsStr::new("default")))
    }) {
        files[..=default].rotate_right(1);
    }
    Ok(files)
}
