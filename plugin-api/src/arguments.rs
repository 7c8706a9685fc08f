//! The arguments of a description, checked against the manifest.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use crate::abi::endpoint::{Foreign, REndpoint};
use crate::abi::module::RArgument;
use crate::error::{Error, ErrorKind};
use crate::plugin::{Client, Server};

/// The arguments of one description, by the names that the manifest declares. Defaults are filled in, types are
/// checked; a parameter that is neither given nor has a default is absent.
///
/// A getter named after a type fails when the argument is absent, with an error of the kind `Internal`, as that is a
/// mistake in the plugin or its manifest; the one with `opt_` before it gives `None`. A name that the manifest does not
/// declare is absent. The type is the one of the manifest: a getter of another one fails where the value cannot be of its
/// type, and gives what it can be otherwise, as a duration of so many nanoseconds for an integer.
#[derive(Debug)]
pub struct Arguments<'a> {
    all: Vec<Argument<'a>>,
}

/// An argument as the host lends it.
#[derive(Debug)]
struct Argument<'a> {
    name: &'a [u8],
    value: &'a [u8],
    number: u64,
    given: bool,
    endpoint: &'a mut REndpoint,
}

impl<'a> Arguments<'a> {
    /// # Safety
    /// `arguments` points to `count` arguments, lent for `'a`.
    #[expect(unsafe_code, reason = "takes what the host lends for the call")]
    pub(crate) unsafe fn from_raw(arguments: *mut RArgument, count: usize) -> Self {
        if count == 0 {
            return Self { all: Vec::new() };
        }
        // SAFETY: by contract, there is a first one; its size is the distance to the next, whatever version the host has.
        let distance = unsafe { (*arguments).size };
        let argument = |index: usize| {
            let place = arguments.wrapping_byte_add(distance * index);
            // SAFETY: by contract, each is lent for `'a`, and they do not overlap. They are read through the pointer: an
            // older host's are shorter, and have the fields of the first version.
            unsafe {
                Argument {
                    name: (*place).name.bytes(),
                    value: (*place).value.bytes(),
                    number: (*place).number,
                    given: (*place).given != 0,
                    endpoint: &mut (*place).endpoint,
                }
            }
        };
        Self { all: (0..count).map(argument).collect() }
    }

    fn find(&self, name: &str) -> Option<&Argument<'a>> {
        self.all.iter().find(|argument| argument.name == name.as_bytes())
    }

    fn need<T>(name: &str, value: Option<T>) -> Result<T, Error> {
        value.ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                format!(
                    "a mistake in the plugin: it needs the argument {name}, but its manifest does not declare it as \
                     required or with a default"
                ),
            )
        })
    }

    /// Whether the description gives the argument itself.
    #[must_use]
    pub fn is_given(&self, name: &str) -> bool {
        self.find(name).is_some_and(|argument| argument.given)
    }

    /// The bytes of a value of any type, where it is present.
    #[must_use]
    pub fn opt_bytes(&self, name: &str) -> Option<&[u8]> {
        self.find(name).map(|argument| argument.value)
    }

    /// The bytes of a value of any type.
    ///
    /// # Errors
    /// If it is absent.
    pub fn bytes(&self, name: &str) -> Result<&[u8], Error> {
        Self::need(name, self.opt_bytes(name))
    }

    /// A value of a type that is text, where it is present.
    ///
    /// # Errors
    /// If it is no text, so of another type.
    pub fn opt_text(&self, name: &str) -> Result<Option<&str>, Error> {
        self.opt_bytes(name)
            .map(|bytes| {
                std::str::from_utf8(bytes)
                    .map_err(|_| Error::new(ErrorKind::Internal, format!("the argument {name} is not text")))
            })
            .transpose()
    }

    /// A value of a type that is text.
    ///
    /// # Errors
    /// If it is absent or no text.
    pub fn text(&self, name: &str) -> Result<&str, Error> {
        Self::need(name, self.opt_text(name)?)
    }

    /// The values of a list; none where it is absent.
    ///
    /// # Errors
    /// If it is no text, so of another type.
    pub fn list(&self, name: &str) -> Result<Vec<&str>, Error> {
        let text = self.opt_text(name)?.filter(|text| !text.is_empty());
        Ok(text.map(|text| text.split(',').collect()).unwrap_or_default())
    }

    /// A path, where it is present.
    #[must_use]
    pub fn opt_path(&self, name: &str) -> Option<&Path> {
        self.opt_bytes(name).map(|bytes| Path::new(OsStr::from_bytes(bytes)))
    }

    /// A path.
    ///
    /// # Errors
    /// If it is absent.
    pub fn path(&self, name: &str) -> Result<&Path, Error> {
        Self::need(name, self.opt_path(name))
    }

    /// An integer, a port, or an octal mode, where it is present.
    #[must_use]
    pub fn opt_integer(&self, name: &str) -> Option<u64> {
        self.find(name).map(|argument| argument.number)
    }

    /// An integer, a port, or an octal mode.
    ///
    /// # Errors
    /// If it is absent.
    pub fn integer(&self, name: &str) -> Result<u64, Error> {
        Self::need(name, self.opt_integer(name))
    }

    /// A port.
    ///
    /// # Errors
    /// If it is absent, or of another type.
    pub fn port(&self, name: &str) -> Result<u16, Error> {
        let number = self.integer(name)?;
        u16::try_from(number).map_err(|_| {
            Error::new(ErrorKind::Internal, format!("the argument {name} is not declared as a port"))
        })
    }

    /// A flag.
    ///
    /// # Errors
    /// If it is absent.
    pub fn flag(&self, name: &str) -> Result<bool, Error> {
        Ok(self.integer(name)? != 0)
    }

    /// A length of time, where it is present.
    #[must_use]
    pub fn opt_duration(&self, name: &str) -> Option<Duration> {
        self.opt_integer(name).map(Duration::from_nanos)
    }

    /// A length of time.
    ///
    /// # Errors
    /// If it is absent.
    pub fn duration(&self, name: &str) -> Result<Duration, Error> {
        Self::need(name, self.opt_duration(name))
    }

    /// An IP address, where it is present.
    ///
    /// # Errors
    /// If it is of another type.
    pub fn opt_ip(&self, name: &str) -> Result<Option<IpAddr>, Error> {
        self.opt_text(name)?
            .map(|text| {
                text.parse().map_err(|_| {
                    Error::new(
                        ErrorKind::Internal,
                        format!("the argument {name} is not declared as an address"),
                    )
                })
            })
            .transpose()
    }

    /// The endpoint of a nested client description, where it is present; taken, so only once.
    ///
    /// # Errors
    /// If it is of another type.
    pub fn opt_client(&mut self, name: &str) -> Result<Option<Client>, Error> {
        Ok(self.take(name)?.map(Client))
    }

    /// The endpoint of a nested client description; taken, so only once.
    ///
    /// # Errors
    /// If it is absent, or of another type.
    pub fn client(&mut self, name: &str) -> Result<Client, Error> {
        let client = self.opt_client(name)?;
        Self::need(name, client)
    }

    /// The endpoint of a nested server description, where it is present; taken, so only once.
    ///
    /// # Errors
    /// If it is of another type.
    pub fn opt_server(&mut self, name: &str) -> Result<Option<Server>, Error> {
        Ok(self.take(name)?.map(Server))
    }

    /// The endpoint of a nested server description; taken, so only once.
    ///
    /// # Errors
    /// If it is absent, or of another type.
    pub fn server(&mut self, name: &str) -> Result<Server, Error> {
        let server = self.opt_server(name)?;
        Self::need(name, server)
    }

    fn take(&mut self, name: &str) -> Result<Option<Foreign>, Error> {
        let Some(argument) = self.all.iter_mut().find(|argument| argument.name == name.as_bytes()) else {
            return Ok(None);
        };
        if argument.endpoint.is_none() {
            let message = format!("the argument {name} is no nested description, or was taken before");
            return Err(Error::new(ErrorKind::Internal, message));
        }
        let raw = std::mem::replace(argument.endpoint, REndpoint::NONE);
        // SAFETY: the host gives the endpoint to whoever takes it out.
        #[expect(unsafe_code, reason = "takes over what the host gives")]
        Ok(Some(unsafe { Foreign::new(raw) }))
    }
}
