//! Streams that panic or break the contract: the other side gets an error, never undefined behaviour.

use std::io;
use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use endpoints_plugin_api::abi::bytes::{RBytes, RSlice};
use endpoints_plugin_api::abi::context::{RContext, lend};
use endpoints_plugin_api::abi::error::RError;
use endpoints_plugin_api::abi::io::{IoPoll, RIoSlice};
use endpoints_plugin_api::abi::stream::{Foreign, RStream, StreamVt};
use endpoints_plugin_api::{Connection, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};

use crate::stream::{Plain, Scripted};

fn reading(read: impl FnMut(&mut ReadBuf<'_>) -> Poll<io::Result<()>> + Send + 'static) -> Foreign {
    // SAFETY: just made.
    unsafe { Foreign::new(RStream::new(Scripted::reading(read))) }
}

#[tokio::test]
async fn a_panic_poisons_the_stream_alone() {
    let mut stream = reading(|_| panic!("in poll_read"));
    for _ in 0..2 {
        let error = stream.read(&mut [0; 8]).await.unwrap_err();
        assert!(error.to_string().contains("panicked"), "{error}");
        let error = stream.write(b"x").await.unwrap_err();
        assert!(error.to_string().contains("panicked"), "{error}");
    }
    // SAFETY: valid, and the mark is of this type alone.
    let raw = unsafe { stream.into_raw().unwrap::<Scripted>() };
    let raw = raw.err().expect("what panicked is not handed back");
    // SAFETY: owned.
    drop(unsafe { Foreign::new(raw) });
}

#[tokio::test]
async fn a_panic_in_the_inner_stream_is_an_error_of_the_outer() {
    let inner = Connection::from_stream(Scripted::reading(|_| panic!("in poll_read")));
    let mut outer = inner.map_stream(Plain::<Stream>);
    let error = outer.read(&mut [0; 8]).await.unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
    outer.write_all(b"x").await.unwrap_err();
}

/// Something whose destructor panics.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a destructor that panics");
    }
}

#[test]
fn a_panic_in_drop_is_swallowed() {
    let (bomb, count) = (Bomb, Arc::new(()));
    let held = Arc::clone(&count);
    let stream = reading(move |_| {
        let _ = (&bomb, &held);
        Poll::Pending
    });
    drop(stream);
    assert_eq!(Arc::strong_count(&count), 1, "the rest was dropped all the same");
}

/// An error whose destructor panics.
#[derive(Debug)]
struct BadError(Fuse);

#[derive(Debug)]
struct Fuse;

impl Drop for Fuse {
    fn drop(&mut self) {
        panic!("a destructor that panics");
    }
}

impl std::fmt::Display for BadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("words")
    }
}

impl std::error::Error for BadError {}

#[tokio::test]
async fn errors_whose_destructor_panics_stay_inside() {
    let mut stream = reading(|_| Poll::Ready(Err(io::Error::other(BadError(Fuse)))));
    stream.read(&mut [0; 8]).await.unwrap_err();
    // Not fetched, so the next one takes its place.
    let raw = stream.into_raw();
    let mut memory = [0; 8];
    for expected in [IoPoll::MESSAGE, IoPoll::PANICKED] {
        let polled = lend(&mut Context::from_waker(Waker::noop()), |cx| {
            // SAFETY: a live stream; the memory is lent.
            unsafe { ((*raw.vt).poll_read)(raw.data, cx, memory.as_mut_ptr(), 8) }
        });
        assert_eq!(polled.tag, expected);
    }
    // SAFETY: owned.
    drop(unsafe { Foreign::new(raw) });
}

#[tokio::test]
async fn a_panic_payload_that_panics_again_stays_inside() {
    struct Payload;
    impl Drop for Payload {
        fn drop(&mut self) {
            panic_any(Payload);
        }
    }
    reading(|_| panic_any(Payload)).read(&mut [0; 8]).await.unwrap_err();
}

#[tokio::test]
async fn a_read_into_another_buffer_is_refused() {
    let mut stream = reading(|buf| {
        static KEPT: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
        let own: &'static mut [u8] = Box::leak(Box::new([7; 4]));
        // For leak checkers, as it is meant to stay.
        KEPT.store(own.as_mut_ptr(), Ordering::SeqCst);
        *buf = ReadBuf::new(own);
        buf.set_filled(4);
        Poll::Ready(Ok(()))
    });
    let mut all = Vec::with_capacity(8);
    let error = stream.read_buf(&mut all).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(all.is_empty());
}

/// What the hand-written table answers everything with.
static ANSWER: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

fn answer() -> IoPoll {
    IoPoll { tag: ANSWER[0].load(Ordering::SeqCst), val: ANSWER[1].load(Ordering::SeqCst) }
}

unsafe extern "C" fn poll_read(_: *mut (), _: *const RContext, _: *mut u8, _: usize) -> IoPoll {
    answer()
}

unsafe extern "C" fn poll_write(_: *mut (), _: *const RContext, _: *const u8, _: usize) -> IoPoll {
    answer()
}

unsafe extern "C" fn poll_vectored(_: *mut (), _: *const RContext, _: *const RIoSlice, _: usize) -> IoPoll {
    answer()
}

unsafe extern "C" fn poll(_: *mut (), _: *const RContext) -> IoPoll {
    answer()
}

unsafe extern "C" fn facts(_: *mut ()) -> RBytes {
    RBytes::EMPTY
}

unsafe extern "C" fn take_error(_: *mut ()) -> RError {
    RError::NONE
}

unsafe extern "C" fn nothing(_: *mut ()) {}

const TABLE: StreamVt = StreamVt {
    size: size_of::<StreamVt>(),
    owner: std::ptr::null(),
    vectored: 1,
    poll_read,
    poll_write,
    poll_write_vectored: poll_vectored,
    poll_flush: poll,
    poll_shutdown: poll,
    facts,
    take_error,
    drop: nothing,
};

#[tokio::test]
async fn impossible_answers_are_errors() {
    // SAFETY: the table keeps the contract of a stream but for its answers.
    let mut stream = unsafe { Foreign::new(RStream { data: std::ptr::null_mut(), vt: &TABLE }) };
    let kind = io::ErrorKind::InvalidData;
    for (tag, val, expected) in [
        (IoPoll::READY, 9, kind),
        (IoPoll::READY, u64::MAX, kind),
        (6, 0, kind),
        (u64::MAX, 0, kind),
        (IoPoll::MESSAGE, 12, io::ErrorKind::TimedOut),
        (IoPoll::KIND, 0, io::ErrorKind::Other),
        (IoPoll::KIND, u64::MAX, io::ErrorKind::Other),
    ] {
        ANSWER[0].store(tag, Ordering::SeqCst);
        ANSWER[1].store(val, Ordering::SeqCst);
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap_err().kind(), expected, "{tag} {val}");
        assert_eq!(stream.write(&[0; 8]).await.unwrap_err().kind(), expected, "{tag} {val}");
        let pieces = [io::IoSlice::new(&[0; 4]), io::IoSlice::new(&[0; 4])];
        assert_eq!(stream.write_vectored(&pieces).await.unwrap_err().kind(), expected, "{tag} {val}");
    }
}

#[test]
fn null_pieces_of_a_c_caller_are_skipped() {
    let stream = reading(|_| Poll::Pending);
    let raw = stream.into_raw();
    let null = RSlice { ptr: std::ptr::null(), len: 0 };
    let write = |pieces: &[RIoSlice]| {
        lend(&mut Context::from_waker(Waker::noop()), |cx| {
            // SAFETY: a live stream; the pieces are lent.
            unsafe { ((*raw.vt).poll_write_vectored)(raw.data, cx, pieces.as_ptr(), pieces.len()) }
        })
    };
    assert_eq!(write(&[null, RSlice::new(b"four"), null]), IoPoll { tag: IoPoll::READY, val: 4 });
    assert_eq!(write(&[null]), IoPoll { tag: IoPoll::READY, val: 0 });
    // SAFETY: owned.
    drop(unsafe { Foreign::new(raw) });
}

#[tokio::test]
async fn descriptors_are_not_read_before_they_are_adopted() {
    let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut connection = Connection::from_socket(a);
    let error = connection.read(&mut [0; 8]).await.unwrap_err();
    assert!(error.to_string().contains("adopt"), "{error}");
}
