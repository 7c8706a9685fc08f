//! The description grammar: what `tcp:host=example.com:port=80` is made of, before anybody knows what it means.
//!
//! - `:` separates the parts of a description. Empty parts count.
//! - The first `=` of a part makes it a keyword; the text before it is the key, and further `=` are data.
//! - A backslash takes the next character as it is, whatever it is; one at the very end is an error.
//! - The first part that is no keyword is the scheme, even where keywords come before it.
//! - Nothing is trimmed and nothing is case-folded. Values are bytes, since paths need not be UTF-8; keys are ASCII.
//!
//! This module does no I/O and knows no scheme. Whether a scheme exists, which arguments it takes and whether one
//! may be repeated is decided later, with the [spans](Part::span) that a [`Description`] keeps for the messages.
//!
//! # Examples
//!
//! ```
//! use endpoints::grammar::Description;
//!
//! let description = Description::parse(r"tls:example.com:443:endpoint=unix\:/run/proxy.sock")?;
//! assert_eq!(*description.scheme(), *b"tls");
//! let positional: Vec<_> = description.positional().map(|part| part.value().into_owned()).collect();
//! assert_eq!(positional, [b"example.com".to_vec(), b"443".to_vec()]);
//! assert_eq!(*description.keyword("endpoint").unwrap().value(), *b"unix:/run/proxy.sock");
//! # Ok::<(), endpoints::grammar::ParseError>(())
//! ```
#![forbid(unsafe_code)]

mod builder;
mod description;
mod error;
mod escape;
mod part;
mod scan;

pub use builder::Builder;
pub use description::Description;
pub use error::{ParseError, ParseErrorKind};
pub use escape::{quote, quote_str};
pub use part::Part;
