//! The description grammar.
