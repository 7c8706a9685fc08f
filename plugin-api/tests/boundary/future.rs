//! Futures: their results, their panics, and being dropped.

use std::future::{Future, pending, poll_fn, ready};
use std::panic::panic_any;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use endpoints_plugin_api::abi::Sized0;
use endpoints_plugin_api::abi::future::{Foreign, RBytesResult, RFuture};
use endpoints_plugin_api::{Error, ErrorKind};

fn send(future: impl Future<Output = RBytesResult> + Send + 'static) -> Foreign<RBytesResult> {
    // SAFETY: just made, and of this result.
    unsafe { Foreign::new(RFuture::new::<RBytesResult, _>(future)) }
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn text(text: &str) -> RBytesResult {
    let mut result = RBytesResult::absent();
    result.bytes = text.to_owned().into();
    result
}

fn is_panicked(polled: &Poll<Option<RBytesResult>>) -> bool {
    matches!(polled, Poll::Ready(None))
}

/// Holds a count, and panics when dropped where it is told to.
struct Held {
    _count: Arc<()>,
    bomb: bool,
}

impl Drop for Held {
    fn drop(&mut self) {
        assert!(!self.bomb, "a destructor that panics");
    }
}

#[test]
fn results_come_out_once() {
    let mut future = send(ready(text("done")));
    let Poll::Ready(Some(result)) = poll(&mut future) else { panic!("it is ready") };
    assert_eq!(result.bytes.as_slice(), b"done");
    assert!(is_panicked(&poll(&mut future)), "polled after its end");
    assert!(is_panicked(&poll(&mut future)));
}

#[test]
fn pending_futures_are_polled_again() {
    let mut polls = 0;
    let mut future = send(poll_fn(move |_| {
        polls += 1;
        if polls < 3 { Poll::Pending } else { Poll::Ready(text("third")) }
    }));
    assert!(poll(&mut future).is_pending());
    assert!(poll(&mut future).is_pending());
    assert!(matches!(poll(&mut future), Poll::Ready(Some(result)) if result.bytes.as_slice() == b"third"));
}

#[test]
fn errors_come_out() {
    let mut result = RBytesResult::absent();
    result.error = Error::new(ErrorKind::NameResolution, "no such name").into();
    let Poll::Ready(Some(result)) = poll(&mut send(ready(result))) else { panic!("it is ready") };
    let error = result.error.into_error().unwrap();
    assert_eq!((error.kind(), error.message()), (ErrorKind::NameResolution, "no such name"));
}

#[test]
fn a_panic_is_an_answer_and_drops_the_future_at_once() {
    let count = Arc::new(());
    let held = Held { _count: Arc::clone(&count), bomb: false };
    let mut waited = false;
    let mut future = send(async move {
        let _held = held;
        poll_fn(|_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }).await;
        panic!("after an await");
    });
    assert!(poll(&mut future).is_pending());
    assert_eq!(Arc::strong_count(&count), 2);
    assert!(is_panicked(&poll(&mut future)));
    assert_eq!(Arc::strong_count(&count), 1);
    assert!(is_panicked(&poll(&mut future)), "afterwards too");
}

#[test]
fn dropping_cancels() {
    let count = Arc::new(());
    for bomb in [false, true] {
        let held = Held { _count: Arc::clone(&count), bomb };
        let mut future = send(async move {
            let _held = held;
            pending().await
        });
        assert!(poll(&mut future).is_pending());
        assert_eq!(Arc::strong_count(&count), 2);
        drop(future);
        assert_eq!(Arc::strong_count(&count), 1, "a panic on the way is swallowed");
    }
}

#[test]
fn a_result_survives_a_panic_in_the_futures_destructor() {
    struct Ends(Held);
    impl Future for Ends {
        type Output = RBytesResult;
        fn poll(self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<RBytesResult> {
            assert!(self.0.bomb);
            Poll::Ready(text("done"))
        }
    }
    let count = Arc::new(());
    let mut future = send(Ends(Held { _count: Arc::clone(&count), bomb: true }));
    assert!(matches!(poll(&mut future), Poll::Ready(Some(result)) if result.bytes.as_slice() == b"done"));
    assert_eq!(Arc::strong_count(&count), 1);
}

#[test]
fn a_panic_whose_payload_panics_again_stays_inside() {
    struct Payload;
    impl Drop for Payload {
        fn drop(&mut self) {
            panic_any(Payload);
        }
    }
    let mut future = send(async {
        panic_any(Payload);
    });
    assert!(is_panicked(&poll(&mut future)));
}

#[test]
fn no_future_is_a_panic() {
    // SAFETY: none is a valid handle.
    let mut none = unsafe { Foreign::<RBytesResult>::new(RFuture::NONE) };
    assert!(is_panicked(&poll(&mut none)));
}

#[test]
fn a_future_that_was_given_up_is_not_dropped() {
    let count = Arc::new(());
    let held = Held { _count: Arc::clone(&count), bomb: false };
    let raw = send(async move {
        let _held = held;
        pending().await
    })
    .into_raw();
    assert_eq!(Arc::strong_count(&count), 2);
    // SAFETY: owned.
    drop(unsafe { Foreign::<RBytesResult>::new(raw) });
    assert_eq!(Arc::strong_count(&count), 1);
}
