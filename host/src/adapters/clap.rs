//! Descriptions as arguments of a command line.
//!
//! `clap::value_parser!` knows [`ClientEndpoint`], [`ServerEndpoint`] and [`Description`], so that the derived form needs
//! nothing but the type of the field; endpoints are made by the [global](Registry::global) registry. With another one, use
//! [`EndpointParser`]. An error shows the description with its secrets masked, and a caret under what is at fault; clap's own
//! errors for values that are parsed by `FromStr` would show the secrets.
//!
//! For completion, see [`Registry::complete`].

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::marker::PhantomData;
use std::os::unix::ffi::OsStrExt;

use clap::builder::{TypedValueParser, ValueParserFactory};
use clap::error::ErrorKind;
use clap::{Arg, Command};

use crate::endpoint::{ClientEndpoint, ServerEndpoint};
use crate::error::Error;
use crate::grammar::Description;
use crate::registry::Registry;

/// Parses the value of an argument as a description; need not be UTF-8.
///
/// # Examples
///
/// ```
/// use clap::{Arg, Command};
/// use endpoints::adapters::clap::EndpointParser;
/// use endpoints::{Registry, ServerEndpoint};
///
/// let registry = Registry::builder().default_plugin_path(false).build()?;
/// let listen = Arg::new("listen").value_parser(EndpointParser::<ServerEndpoint>::new(&registry));
/// let matches = Command::new("app").arg(listen).get_matches_from(["app", "tcp:8080"]);
/// let endpoint: &ServerEndpoint = matches.get_one("listen").expect("an endpoint");
/// assert_eq!(endpoint.scheme(), "tcp");
/// # Ok::<(), endpoints::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct EndpointParser<T> {
    /// The global one unless given.
    registry: Option<Registry>,
    made: PhantomData<fn() -> T>,
}

impl<T> EndpointParser<T> {
    /// Parses for a registry.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        Self { registry: Some(registry.clone()), made: PhantomData }
    }

    fn global() -> Self {
        Self { registry: None, made: PhantomData }
    }
}

/// What can be made of a description on a command line.
trait Made: Sized {
    fn made(registry: &Registry, text: &[u8]) -> Result<Self, Error>;
}

impl Made for ClientEndpoint {
    fn made(registry: &Registry, text: &[u8]) -> Result<Self, Error> {
        registry.client(text)
    }
}

impl Made for ServerEndpoint {
    fn made(registry: &Registry, text: &[u8]) -> Result<Self, Error> {
        registry.server(text)
    }
}

impl Made for Description {
    fn made(registry: &Registry, text: &[u8]) -> Result<Self, Error> {
        registry.parse(text)
    }
}

macro_rules! parsed {
    ($($made:ty),*) => {$(
        impl TypedValueParser for EndpointParser<$made> {
            type Value = $made;

            fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<$made, clap::Error> {
                let registry = self.registry.as_ref().unwrap_or_else(|| Registry::global());
                <$made>::made(registry, value.as_bytes()).map_err(|error| shown(command, arg, &error))
            }
        }

        impl ValueParserFactory for $made {
            type Parser = EndpointParser<$made>;

            fn value_parser() -> Self::Parser {
                EndpointParser::global()
            }
        }
    )*};
}

parsed!(ClientEndpoint, ServerEndpoint, Description);

/// The error as clap shows others.
fn shown(command: &Command, arg: Option<&Arg>, error: &Error) -> clap::Error {
    let arg = arg.map_or_else(|| "...".to_owned(), ToString::to_string);
    let mut message = format!("invalid value for '{arg}': {error}");
    if let (Some(text), Some(span)) = (error.description(), error.span()) {
        // A span counts bytes; the caret stands under characters.
        let characters = |bytes: &[u8]| String::from_utf8_lossy(bytes).chars().count();
        let shown: String = String::from_utf8_lossy(text).replace(char::is_control, "\u{fffd}");
        let before = characters(&text[..span.start]);
        let carets = "^".repeat(characters(&text[span]).max(1));
        let _ = write!(message, "\n\n  {shown}\n  {:before$}{carets}", "");
    }
    clap::Error::raw(ErrorKind::ValueValidation, message + "\n").with_cmd(command)
}
