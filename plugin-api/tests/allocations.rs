//! What reads and writes through wrapping layers cost: no allocation, once the first of them are done.
#![expect(unsafe_code, reason = "an allocator that counts, and a waker of another image")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use endpoints_plugin_api::Connection;
use endpoints_plugin_api::abi::context::{RContext, RWaker, RWakerVTable};
use endpoints_plugin_api::abi::stream::{Export, RStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: the system's allocator, with a count of this thread beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(of: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    of();
    ALLOCATIONS.get() - before
}

/// The host's stream: every other poll is pending, and keeps the waker as a reactor does.
#[derive(Default)]
struct HostStream {
    ready: bool,
    kept: Option<Waker>,
    /// How often the waker that came was not the one that is kept.
    replaced: Arc<AtomicUsize>,
}

impl HostStream {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.ready = !self.ready;
        if !self.ready {
            return Poll::Ready(());
        }
        if !self.kept.as_ref().is_some_and(|kept| kept.will_wake(cx.waker())) {
            self.kept = Some(cx.waker().clone());
            self.replaced.fetch_add(1, Ordering::SeqCst);
        }
        Poll::Pending
    }
}

impl AsyncRead for HostStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        HostStream::poll(&mut self, cx).map(|()| {
            buf.put_slice(&[7; 64][..buf.remaining().min(64)]);
            Ok(())
        })
    }
}

impl AsyncWrite for HostStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        HostStream::poll(&mut self, cx).map(|()| Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A plugin's stream that waits by itself: it keeps the waker anew for each pending poll.
#[derive(Default)]
struct OwnReactor(HostStream);

impl AsyncRead for OwnReactor {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.kept = None;
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for OwnReactor {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.kept = None;
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Export for OwnReactor {}

struct Task;

impl Wake for Task {
    fn wake(self: Arc<Self>) {}
}

fn layered(stream: impl AsyncRead + AsyncWrite + Send + 'static, layers: usize) -> Connection {
    (0..layers).fold(Connection::from_stream(stream), |connection, _| connection.map_stream(|stream| stream))
}

/// Reads and writes a hundred times each; half of all polls are pending.
fn hundred_each(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), waker: &Waker) {
    let mut cx = Context::from_waker(waker);
    let mut memory = [0; 64];
    for turn in 0..200 {
        let mut buf = ReadBuf::new(&mut memory);
        assert_eq!(Pin::new(&mut *stream).poll_read(&mut cx, &mut buf).is_pending(), turn % 2 == 0);
        assert_eq!(buf.filled().len(), 64 * (turn % 2));
    }
    for turn in 0..200 {
        assert_eq!(Pin::new(&mut *stream).poll_write(&mut cx, &[0; 64]).is_pending(), turn % 2 == 0);
    }
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(Box::new(1))), 1);
}

#[test]
fn reads_and_writes_allocate_nothing() {
    for layers in 0..=3 {
        let replaced = Arc::new(AtomicUsize::new(0));
        let mut stream =
            layered(HostStream { replaced: Arc::clone(&replaced), ..HostStream::default() }, layers);
        let waker = Waker::from(Arc::new(Task));
        assert_eq!(allocations(|| hundred_each(&mut stream, &waker)), 0, "{layers} layers");
        assert_eq!(replaced.load(Ordering::SeqCst), 1, "the host knows its own waker again");
    }
}

/// A waker of another image, whose handles are counted by an `Arc`.
static TABLE: RWakerVTable =
    RWakerVTable { size: size_of::<RWakerVTable>(), clone, wake_by_ref, drop: give_back };

static CLONES: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn clone(raw: *const RWaker) -> RWaker {
    CLONES.fetch_add(1, Ordering::SeqCst);
    // SAFETY: a live handle of an `Arc<()>`, by the table's contract.
    unsafe {
        Arc::increment_strong_count((*raw).data.cast::<u8>());
        RWaker { data: (*raw).data, aux: (*raw).aux, vtable: (*raw).vtable }
    }
}

unsafe extern "C" fn wake_by_ref(_: *const RWaker) {}

unsafe extern "C" fn give_back(raw: *mut RWaker) {
    // SAFETY: a handle from `clone`, given back.
    unsafe { Arc::decrement_strong_count((*raw).data.cast::<u8>()) };
}

#[test]
fn keeping_the_waker_of_another_image_allocates_once_per_direction() {
    let task = Arc::new(0_u8);
    let waker = RWaker { data: Arc::as_ptr(&task).cast(), aux: std::ptr::null(), vtable: &TABLE };
    let context = RContext { size: size_of::<RContext>(), waker };
    let raw = RStream::new(OwnReactor::default());
    let mut memory = [0; 64];
    let mut both = || {
        for _ in 0..200 {
            // SAFETY: a live stream; the context and the memory are lent.
            unsafe {
                ((*raw.vt).poll_read)(raw.data, &raw const context, memory.as_mut_ptr(), memory.len());
            }
        }
        for _ in 0..200 {
            // SAFETY: likewise.
            unsafe { ((*raw.vt).poll_write)(raw.data, &raw const context, memory.as_ptr(), memory.len()) };
        }
    };
    assert_eq!(allocations(&mut both), 2, "one clone to read, one to write");
    assert_eq!(CLONES.load(Ordering::SeqCst), 2);
    assert_eq!(allocations(both), 0);
    // SAFETY: owned.
    unsafe { ((*raw.vt).drop)(raw.data) };
    assert_eq!(Arc::strong_count(&task), 1, "every handle is given back");
}
