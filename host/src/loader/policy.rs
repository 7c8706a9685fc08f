//! Which plugins in files an operator allows.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::{Refusal, RefusalKind, real_path};
use crate::error::{Error, ErrorKind};

/// What an operator allows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policy {
    /// Plugins whose panics end the process.
    pub(crate) allow_abort: bool,
    /// Where there are any, one of them must match a plugin.
    pub(crate) allow: Vec<PluginRule>,
    /// None of them may match.
    pub(crate) deny: Vec<PluginRule>,
}

/// A rule about plugins in files, for [`allow_plugin`](crate::RegistryBuilder::allow_plugin) and
/// [`deny_plugin`](crate::RegistryBuilder::deny_plugin); made from text such as `path:/opt/plugins`, `name:my-plugin` or
/// `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PluginRule {
    /// A file, by whatever name, or a folder and all that lies in it. Links are followed, those of the rule and those of
    /// the plugin. One that is not absolute begins where the process is when the rule is given.
    Path(PathBuf),
    /// A plugin's name. That is what the file says of itself: a rule for order, not against malice.
    Name(String),
    /// The SHA-256 of a file (FIPS 180-4), over all its bytes.
    Sha256([u8; 32]),
}

impl FromStr for PluginRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |problem: &str| {
            let message = format!(
                "{text:?} is no rule for plugins: {problem}; write path:FILE, path:FOLDER, name:PLUGIN or sha256:DIGITS"
            );
            Error::new(ErrorKind::InvalidSetting, message)
        };
        match text.split_once(':') {
            Some((_, "")) => Err(wrong("there is nothing behind the colon")),
            Some(("path", path)) => Ok(Self::Path(path.into())),
            Some(("name", name)) => Ok(Self::Name(name.to_owned())),
            Some(("sha256", digits)) => {
                let mut digest = [0; 32];
                match base16ct::mixed::decode(digits, &mut digest) {
                    Ok(decoded) if decoded.len() == 32 => Ok(Self::Sha256(digest)),
                    _ => Err(wrong("a SHA-256 has 64 hexadecimal digits")),
                }
            }
            Some(_) => Err(wrong("it begins with none of these words")),
            None => Err(wrong("there is no colon in it")),
        }
    }
}

impl fmt::Display for PluginRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "path:{}", path.display()),
            Self::Name(name) => write!(f, "name:{name}"),
            Self::Sha256(digest) => write!(f, "sha256:{}", base16ct::lower::encode_string(digest)),
        }
    }
}

/// What rules are compared with, of an open file.
pub(super) struct Seen {
    /// Where it lies, whatever links led to it.
    path: PathBuf,
    place: (u64, u64),
    /// Known where a rule asks for it.
    digest: Option<[u8; 32]>,
}

impl Policy {
    fn has_rules(&self) -> bool {
        !self.allow.is_empty() || !self.deny.is_empty()
    }

    /// Looks at the file that is open, and not at what its path leads to by now. None where there is no rule.
    pub(super) fn see(&self, file: &File) -> Result<Option<Seen>, Refusal> {
        if !self.has_rules() {
            return Ok(None);
        }
        let io = |error: io::Error| super::record::unreadable(&error);
        let by_digest = |rule: &PluginRule| matches!(rule, PluginRule::Sha256(_));
        let digest = if self.allow.iter().chain(&self.deny).any(by_digest) {
            Some(digest(file).map_err(io)?)
        } else {
            None
        };
        let path = real_path(file).map_err(io)?;
        let place = place(&file.metadata().map_err(io)?);
        // Where it lies cannot be told once it has been renamed or removed.
        if std::fs::symlink_metadata(&path).map_or(true, |there| self::place(&there) != place) {
            return Err(Refusal::new(
                RefusalKind::Io,
                "it was removed or replaced while it was looked at: try again",
            ));
        }
        Ok(Some(Seen { path, place, digest }))
    }

    /// Whether a plugin of that name in the file may be used.
    pub(super) fn judge(&self, name: &str, seen: &Seen) -> Result<(), Refusal> {
        let denied = |message| Err(Refusal::new(RefusalKind::Denied, message));
        for rule in &self.deny {
            match rule.matches(name, seen) {
                Ok(false) => {}
                Ok(true) => return denied(format!("the rule {rule} denies it")),
                Err(error) => return denied(format!("the rule {rule} may deny it: {error}")),
            }
        }
        let matches = |rule: &PluginRule| rule.matches(name, seen).unwrap_or(false);
        if self.allow.is_empty() || self.allow.iter().any(matches) {
            return Ok(());
        }
        let known = [
            Some(PluginRule::Path(seen.path.clone())),
            seen.digest.map(PluginRule::Sha256),
            Some(PluginRule::Name(name.to_owned())),
        ];
        let known: Vec<String> = known.iter().flatten().map(ToString::to_string).collect();
        denied(format!("no rule allows it; these would: {}", known.join(", ")))
    }
}

impl PluginRule {
    /// The same, wherever the process goes from here. Warns of a path that is not there, or cannot be looked at.
    pub(crate) fn fixed(self, denies: bool) -> Self {
        let Self::Path(path) = self else { return self };
        if let Err(error) = std::fs::metadata(&path) {
            let kind = if denies { "denies" } else { "allows" };
            let effect = if denies && !is_absence(&error) {
                "cannot be followed, and so denies all plugins in files now"
            } else {
                "matches nothing now"
            };
            tracing::warn!("the rule that {kind} path:{} {effect}: {error}", path.display());
        }
        Self::Path(std::path::absolute(&path).unwrap_or(path))
    }

    /// # Errors
    /// Why it cannot be told.
    fn matches(&self, name: &str, seen: &Seen) -> io::Result<bool> {
        Ok(match self {
            Self::Path(path) => match is_at(path, seen) {
                // What is not there matches nothing that is.
                Err(error) if is_absence(&error) => false,
                is_at => is_at?,
            },
            Self::Name(wanted) => wanted == name,
            Self::Sha256(digest) => seen.digest.as_ref() == Some(digest),
        })
    }
}

/// Whether an error says that nothing is there.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Whether the file is the one at `path`, by whatever name, or lies in that folder.
fn is_at(path: &Path, seen: &Seen) -> io::Result<bool> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        Ok(seen.path.starts_with(std::fs::canonicalize(path)?))
    } else {
        Ok(place(&metadata) == seen.place)
    }
}

/// What tells a file from all others that there are.
fn place(metadata: &std::fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Reads without moving the file's offset, which others share.
fn digest(file: &File) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut buf = vec![0; 256 * 1024];
    let mut place = 0;
    loop {
        match file.read_at(&mut buf, place) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(count) => {
                hash.update(&buf[..count]);
                place += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_text() {
        let digits = "0123456789abcdef".repeat(4);
        for text in ["path:/opt/plugins", "name:my-plugin", &format!("sha256:{digits}")] {
            assert_eq!(text.parse::<PluginRule>().unwrap().to_string(), text);
        }
        let upper: PluginRule = format!("sha256:{}", digits.to_uppercase()).parse().unwrap();
        assert_eq!(upper.to_string(), format!("sha256:{digits}"));
        for (text, why) in [
            ("my-plugin", "no colon"),
            ("nmae:my-plugin", "none of these words"),
            ("name:", "nothing behind"),
            ("path:", "nothing behind"),
            ("sha256:12", "64 hexadecimal digits"),
            (&format!("sha256:{}g", &digits[1..]), "64 hexadecimal digits"),
            (&format!("sha256:{}é", &digits[2..]), "64 hexadecimal digits"),
        ] {
            let error = text.parse::<PluginRule>().unwrap_err();
            assert!(error.message().contains(why), "{text}: {error}");
            assert!(error.message().contains("name:PLUGIN"), "{error}");
        }
    }

    #[test]
    fn digests_are_those_of_the_standard() {
        // FIPS 180-4's example of one block.
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, b"abc").unwrap();
        let rule = PluginRule::Sha256(digest(&file).unwrap());
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(rule.to_string(), format!("sha256:{expected}"));
    }
}
