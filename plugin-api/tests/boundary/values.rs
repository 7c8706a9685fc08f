//! Plain values: errors, bytes, and structures that grow.

use std::io;

use endpoints_plugin_api::abi::Sized0;
use endpoints_plugin_api::abi::bytes::{RBytes, RSlice};
use endpoints_plugin_api::abi::error::RError;
use endpoints_plugin_api::{Error, ErrorKind};

const KINDS: [ErrorKind; 19] = [
    ErrorKind::Other,
    ErrorKind::InvalidArgument,
    ErrorKind::Unsupported,
    ErrorKind::AddressInUse,
    ErrorKind::AddressNotAvailable,
    ErrorKind::PermissionDenied,
    ErrorKind::NotFound,
    ErrorKind::ConnectionRefused,
    ErrorKind::ConnectionReset,
    ErrorKind::Unreachable,
    ErrorKind::TimedOut,
    ErrorKind::NameResolution,
    ErrorKind::HandshakeFailed,
    ErrorKind::AuthenticationFailed,
    ErrorKind::ResourceExhausted,
    ErrorKind::Cancelled,
    ErrorKind::Panicked,
    ErrorKind::Internal,
    ErrorKind::Closed,
];

fn across(error: Error) -> Error {
    RError::from(error).into_error().expect("an error comes out")
}

#[test]
fn errors_come_out_as_they_went_in() {
    assert!(RError::NONE.into_error().is_none());
    for (place, kind) in KINDS.into_iter().enumerate() {
        let error = across(Error::new(kind, "what failed: b\u{fc}cher"));
        assert_eq!((error.kind(), error.message()), (kind, "what failed: b\u{fc}cher"));
        assert_eq!((error.raw_os_error(), error.argument()), (None, None));
        assert_eq!(error.is_retryable(), kind.is_retryable());
        // The numbers are the boundary's: they never change.
        assert_eq!(RError::from(error).kind as usize, place + 1);
        for retryable in [false, true] {
            assert_eq!(across(Error::new(kind, "").with_retryable(retryable)).is_retryable(), retryable);
        }
    }
    assert_eq!(across(Error::invalid_argument("port", "0")).argument(), Some("port"));
    let refused = io::Error::from_raw_os_error(111);
    let error = across(Error::from_io("connecting", &refused));
    assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::ConnectionRefused, Some(111)));
}

#[test]
fn errors_of_a_newer_side_are_read_as_far_as_they_are_known() {
    let newer = RError { kind: 20, retry: 3, message: vec![b'a', 0xff].into(), ..RError::NONE };
    let error = newer.into_error().unwrap();
    assert_eq!((error.kind(), error.message(), error.is_retryable()), (ErrorKind::Other, "a\u{FFFD}", false));
}

#[test]
fn bytes_are_freed_by_their_maker_and_empty_ones_are_not_made() {
    for bytes in [&b""[..], b"some", &[0xff; 4096]] {
        let mut vec = Vec::with_capacity(bytes.len() + 7);
        vec.extend_from_slice(bytes);
        assert_eq!(RBytes::from(vec).as_slice(), bytes);
        // SAFETY: lent for the call.
        assert_eq!(unsafe { RSlice::new(bytes).bytes() }, bytes);
    }
    assert_eq!(RBytes::from(Vec::new()).as_slice(), b"");
    // SAFETY: nothing is read.
    assert_eq!(unsafe { RSlice { ptr: std::ptr::null(), len: 0 }.bytes() }, b"");
}

/// One structure in three minor versions.
#[repr(C)]
struct Version<const FIELDS: usize> {
    size: usize,
    fields: [u64; FIELDS],
}

// SAFETY: `repr(C)`, size first; zeroes are absent.
unsafe impl<const FIELDS: usize> Sized0 for Version<FIELDS> {}

/// What a reader of one version sees of what a writer of another has written.
fn written<const WRITER: usize, const READER: usize>() -> (usize, [u64; READER]) {
    let mut writer = Version::<WRITER>::absent();
    writer.fields.fill(7);
    // Behind the reader's value lies what must not be touched.
    let mut memory = (Version::<READER>::absent(), [1_u64; 8]);
    // SAFETY: the versions share a prefix, and the size says how much room there is.
    unsafe { writer.write_to((&raw mut memory.0).cast()) };
    assert_eq!(memory.1, [1; 8]);
    (memory.0.size, memory.0.fields)
}

#[test]
fn structures_are_written_as_far_as_the_reader_has_room() {
    assert_eq!(written::<2, 2>(), (24, [7, 7]));
    assert_eq!(written::<3, 1>(), (16, [7]), "an older reader keeps its size");
    assert_eq!(written::<1, 3>(), (32, [7, 0, 0]), "a newer reader finds the rest absent");
    assert_eq!(written::<2, 0>(), (8, []));
}
