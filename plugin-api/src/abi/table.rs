//! What a table that the other side hands over must have.

use std::mem::offset_of;

use super::endpoint::EndpointVt;
use super::future::FutureVt;
use super::listener::ListenerVt;
use super::module::PluginVt;
use super::stream::StreamVt;
use crate::error::{Error, ErrorKind};

/// A table of functions that begins with its size in bytes.
pub(super) trait Table {
    /// What it is the table of.
    const OF: &'static str;
    /// Where the functions of the first version are; all versions have them, and none of them is null. The last one is
    /// the last field of that version.
    const FUNCTIONS: &'static [usize];
}

macro_rules! table {
    ($kind:ty, $of:literal: $($function:ident),*) => {
        impl Table for $kind {
            const OF: &'static str = $of;
            const FUNCTIONS: &'static [usize] = &[$(offset_of!($kind, $function)),*];
        }
    };
}

table!(FutureVt, "future": poll, drop);
table!(StreamVt, "stream":
    poll_read, poll_write, poll_write_vectored, poll_flush, poll_shutdown, facts, take_error, drop);
table!(ListenerVt, "listener": poll_accept, addresses, reachable, take_socket, close, drop);
table!(EndpointVt, "endpoint": connect, listen, describe, drop);
table!(PluginVt, "plugin": endpoint, drop);

/// Looks whether a table has what the first version has. A table in another language may lack anything.
///
/// # Safety
/// `vt` points to as many bytes as the word there says, and one word at least.
///
/// # Errors
/// What is wrong with it: the other side broke the contract.
pub(super) unsafe fn check<T: Table>(vt: *const T) -> Result<(), Error> {
    let word = |offset: usize| {
        // SAFETY: within the table: the first word by contract, and the others as it was found to be long enough.
        unsafe { vt.byte_add(offset).cast::<usize>().read() }
    };
    let first = T::FUNCTIONS.last().map_or(0, |last| last + size_of::<usize>());
    let size = word(0);
    if size < first || size % align_of::<usize>() != 0 {
        return Err(broken::<T>(format_args!(
            "says that it has {size} bytes; the first version has {first}, and all have whole words"
        )));
    }
    match T::FUNCTIONS.iter().find(|offset| word(**offset) == 0) {
        None => Ok(()),
        Some(offset) => Err(broken::<T>(format_args!("lacks the function at offset {offset}"))),
    }
}

#[cold]
fn broken<T: Table>(what: std::fmt::Arguments<'_>) -> Error {
    Error::new(ErrorKind::Internal, format!("the plugin's {} table {what}", T::OF))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_all_functions_of_the_first_version() {
        let problem = |words: &[usize]| {
            // SAFETY: as many bytes as the first word says, or fewer are looked at than are there.
            unsafe { check(words.as_ptr().cast::<EndpointVt>()) }
                .err()
                .map(|error| error.message().to_owned())
        };
        let word = size_of::<usize>();
        assert_eq!(problem(&[5 * word, 1, 1, 1, 1]), None);
        assert_eq!(problem(&[6 * word, 1, 1, 1, 1, 0]), None, "a later version may have more");
        for (words, part) in [
            (&[0, 1, 1, 1, 1][..], "says that it has 0 bytes; the first version has 40"),
            (&[4 * word, 1, 1, 1, 1], "says that it has 32 bytes"),
            (&[5 * word + 1, 1, 1, 1, 1, 1], "says that it has 41 bytes"),
            (&[5 * word, 1, 1, 0, 1], "endpoint table lacks the function at offset 24"),
        ] {
            let problem = problem(words).expect("a problem");
            assert!(problem.contains(part), "{problem}");
        }
    }
}
