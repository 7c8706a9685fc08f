//! The path of a socket or its abstract name, and how they are shown.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use endpoints_plugin_api::Error;
use rustix::net::SocketAddrUnix;

/// The most bytes that `sun_path` holds beside its final NUL (unix(7)).
pub(crate) const LONGEST: usize = 107;

/// A path that is the address of a Unix socket.
#[derive(Clone, Debug)]
pub(crate) struct SocketPath {
    path: PathBuf,
    address: SocketAddrUnix,
}

impl SocketPath {
    /// # Errors
    /// If the path, the value of `argument`, is longer than an address can be.
    pub(crate) fn new(argument: &str, path: &Path) -> Result<Self, Error> {
        let length = path.as_os_str().len();
        if length > LONGEST {
            return Err(Error::invalid_argument(
                argument,
                format!(
                    "{argument}={} has {length} bytes, and the path of a Unix socket at most {LONGEST}: use a shorter \
                     one, or one relative to the working directory",
                    Shown(path)
                ),
            ));
        }
        let address = SocketAddrUnix::new(path).map_err(|error| {
            Error::invalid_argument(argument, format!("{argument}={}: {error}", Shown(path)))
        })?;
        Ok(Self { path: path.to_owned(), address })
    }

    /// The path as it was given.
    pub(crate) fn as_given(&self) -> &Path {
        &self.path
    }

    /// The address to bind, or to connect to: the path as it was given.
    pub(crate) fn address(&self) -> &SocketAddrUnix {
        &self.address
    }

    /// The path from the root, which stays right when the process changes its working directory.
    ///
    /// # Errors
    /// If there is no working directory.
    pub(crate) fn absolute(&self) -> io::Result<PathBuf> {
        std::path::absolute(&self.path)
    }
}

/// A name in Linux' abstract namespace (unix(7)): of a socket without a file.
#[derive(Clone, Debug)]
pub(crate) struct AbstractName {
    name: Vec<u8>,
    address: SocketAddrUnix,
}

impl AbstractName {
    /// # Errors
    /// If the name, the value of the argument `abstract`, is empty or longer than an address can be.
    pub(crate) fn new(name: &[u8]) -> Result<Self, Error> {
        let refused = |why: String| Err(Error::invalid_argument("abstract", format!("abstract: {why}")));
        if name.is_empty() {
            return refused("the name is empty; give 1 to 107 bytes".to_owned());
        }
        if name.len() > LONGEST {
            let length = name.len();
            return refused(format!(
                "the name has {length} bytes, and one of a Unix socket at most {LONGEST}"
            ));
        }
        match SocketAddrUnix::new_abstract_name(name) {
            Ok(address) => Ok(Self { name: name.to_owned(), address }),
            Err(error) => refused(error.to_string()),
        }
    }

    /// The name, without the NUL that stands before it in an address.
    pub(crate) fn name(&self) -> &[u8] {
        &self.name
    }

    /// The address to bind, or to connect to.
    pub(crate) fn address(&self) -> &SocketAddrUnix {
        &self.address
    }
}

/// With an `@` before it, as ss(8) shows it.
impl fmt::Display for AbstractName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", Shown(Path::new(OsStr::from_bytes(&self.name))))
    }
}

impl fmt::Display for SocketPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Shown(&self.path).fmt(f)
    }
}

/// The same path with `suffix` after it.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// A path within a message: one line, without anything that a terminal would act on.
pub(crate) struct Shown<'a>(pub(crate) &'a Path);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in String::from_utf8_lossy(self.0.as_os_str().as_bytes()).chars() {
            if c.is_control() {
                c.escape_default().fmt(f)?;
            } else {
                fmt::Write::write_char(f, c)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use endpoints_plugin_api::ErrorKind;

    #[test]
    fn the_longest_path_fits_and_one_byte_more_does_not() {
        let longest = "x".repeat(LONGEST);
        assert!(SocketPath::new("path", Path::new(&longest)).is_ok());

        let error = SocketPath::new("path", Path::new(&format!("{longest}y"))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert_eq!(error.argument(), Some("path"));
        assert!(error.message().contains("107") && error.message().contains("108"), "{error}");
    }

    #[test]
    fn an_abstract_name_may_be_any_bytes_but_none_and_too_many() {
        for name in [&b"a"[..], b"/run/a", b"\0\xff", &[b'x'; LONGEST]] {
            let made = AbstractName::new(name).unwrap();
            assert_eq!(made.address().abstract_name(), Some(name));
        }
        assert_eq!(AbstractName::new(b"\0a\n").unwrap().to_string(), "@\\u{0}a\\n");
        for name in [&b""[..], &[b'x'; LONGEST + 1]] {
            let error = AbstractName::new(name).unwrap_err();
            assert_eq!((error.kind(), error.argument()), (ErrorKind::InvalidArgument, Some("abstract")));
            assert!(error.message().contains("107"), "{error}");
        }
    }

    #[test]
    fn a_path_need_not_be_text() {
        let path = Path::new(OsStr::from_bytes(b"/tmp/\xff\n.sock"));
        let path = SocketPath::new("path", path).unwrap();
        assert_eq!(path.address().path().unwrap().to_bytes(), b"/tmp/\xff\n.sock");
        assert_eq!(path.to_string(), "/tmp/\u{fffd}\\n.sock");
    }

    #[test]
    fn a_relative_path_is_bound_as_it_is_and_cleaned_up_from_the_root() {
        let path = SocketPath::new("path", Path::new("a.sock")).unwrap();
        assert_eq!(path.address().path().unwrap().to_bytes(), b"a.sock");
        assert_eq!(path.absolute().unwrap(), std::env::current_dir().unwrap().join("a.sock"));
    }
}
