//! Streams of bytes across the boundary.

use std::io::{self, IoSlice};
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::bytes::{RBytes, RSlice};
use super::context::{RContext, WakerCache, enter, lend};
use super::error::RError;
use super::io::{IoPoll, RIoSlice};
use super::{drop_box, guard};
use crate::error::{Error, ErrorKind};

/// A stream that reads and writes bytes; null `vt`: there is none.
#[repr(C)]
#[derive(Debug)]
pub struct RStream {
    /// The maker's own.
    pub data: *mut (),
    /// The maker's functions.
    pub vt: *const StreamVt,
}

/// The functions of a stream. Reading and writing may be polled with different wakers; one call at a time in all.
#[repr(C)]
#[derive(Debug)]
pub struct StreamVt {
    /// Bytes in this table.
    pub size: usize,
    /// Null, or the address of a static of the maker's own. A host takes a stream that bears its mark for its own, and what is
    /// behind `data` with it. So never copy another stream's table: one that passes everything on has its own, with null.
    pub owner: *const (),
    /// 1 where `poll_write_vectored` is better than several writes.
    pub vectored: u64,
    /// Reads into memory that need not be initialised. 0 bytes: the end of the stream, or no room was given.
    pub poll_read:
        unsafe extern "C" fn(data: *mut (), cx: *const RContext, into: *mut u8, len: usize) -> IoPoll,
    /// Writes some of the bytes.
    pub poll_write:
        unsafe extern "C" fn(data: *mut (), cx: *const RContext, from: *const u8, len: usize) -> IoPoll,
    /// Writes some of the bytes of several pieces.
    pub poll_write_vectored: unsafe extern "C" fn(
        data: *mut (),
        cx: *const RContext,
        pieces: *const RIoSlice,
        count: usize,
    ) -> IoPoll,
    /// Passes on what is buffered.
    pub poll_flush: unsafe extern "C" fn(data: *mut (), cx: *const RContext) -> IoPoll,
    /// Ends the sending direction: the peer reads the end of the stream, and can still send.
    pub poll_shutdown: unsafe extern "C" fn(data: *mut (), cx: *const RContext) -> IoPoll,
    /// What is known about the connection, as [facts](crate::Facts).
    pub facts: unsafe extern "C" fn(data: *mut ()) -> RBytes,
    /// The words of the error that the last poll answered with.
    pub take_error: unsafe extern "C" fn(data: *mut ()) -> RError,
    /// Closes and frees it.
    pub drop: unsafe extern "C" fn(data: *mut ()),
}

/// What a stream is when it is sent across.
pub trait Export: AsyncRead + AsyncWrite + Send + 'static {
    /// The mark by which the image that made the stream knows it again; null where it need not.
    ///
    /// The address of a `static` of this type alone, which is not zero-sized: a constant has no one address, and
    /// values without size may share theirs with others.
    const OWNER: *const () = std::ptr::null();

    /// What is known about the connection, encoded as [`Facts`](crate::Facts).
    fn facts(&self) -> Vec<u8> {
        Vec::new()
    }

    /// The other side's stream that this one is for now, byte for byte: polls are passed on to it as they are, with
    /// nothing unpacked on the way. Must not panic.
    #[inline]
    fn behind(&mut self) -> Option<&mut Foreign> {
        None
    }
}

/// A stream of a plugin, which nobody needs to know again.
pub(crate) struct Anonymous<S>(pub(crate) S);

impl<S> Anonymous<S> {
    #[inline]
    fn project(self: Pin<&mut Self>) -> Pin<&mut S> {
        // SAFETY: the only field, pinned with its owner.
        unsafe { self.map_unchecked_mut(|this| &mut this.0) }
    }
}

impl<S: AsyncRead> AsyncRead for Anonymous<S> {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.project().poll_read(cx, buf)
    }
}

impl<S: AsyncWrite> AsyncWrite for Anonymous<S> {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.project().poll_write(cx, buf)
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().poll_flush(cx)
    }

    #[inline]
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().poll_shutdown(cx)
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

impl<S: AsyncRead + AsyncWrite + Send + 'static> Export for Anonymous<S> {}

impl RStream {
    /// No stream.
    pub const NONE: Self = Self { data: std::ptr::null_mut(), vt: std::ptr::null() };

    /// Sends a stream across.
    #[must_use]
    pub fn new<S: Export>(stream: S) -> Self {
        let vectored = stream.is_write_vectored();
        let state = StreamBox {
            stream,
            read: WakerCache::default(),
            write: WakerCache::default(),
            error: None,
            panicked: false,
        };
        let vt: &'static StreamVt = if vectored { &StreamBox::<S>::VECTORED } else { &StreamBox::<S>::PLAIN };
        Self { data: Box::into_raw(Box::new(state)).cast(), vt }
    }

    /// Whether there is no stream.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.vt.is_null()
    }

    /// Whether `self` is an `S` of this image.
    ///
    /// # Safety
    /// The handle is valid or none.
    #[must_use]
    pub unsafe fn is<S: Export>(&self) -> bool {
        // SAFETY: valid by contract.
        !S::OWNER.is_null() && !self.is_none() && std::ptr::eq(unsafe { (*self.vt).owner }, S::OWNER)
    }

    /// Takes the stream out again, where it is an `S` of this image.
    ///
    /// # Safety
    /// The handle is valid and owned by the caller, and `S::OWNER` marks streams of type `S` alone.
    ///
    /// # Errors
    /// Gives the handle back where it is something else, or panicked while it was away.
    pub unsafe fn unwrap<S: Export + Unpin>(self) -> Result<S, Self> {
        // SAFETY: valid by contract.
        if !unsafe { self.is::<S>() } {
            return Err(self);
        }
        // SAFETY: the mark says that `RStream::new::<S>` of this image made the box.
        if unsafe { (*self.data.cast::<StreamBox<S>>()).panicked } {
            return Err(self);
        }
        // SAFETY: as above, and the caller owns it.
        Ok(unsafe { Box::from_raw(self.data.cast::<StreamBox<S>>()) }.stream)
    }
}

struct StreamBox<S> {
    stream: S,
    read: WakerCache,
    write: WakerCache,
    error: Option<io::Error>,
    panicked: bool,
}

impl<S: Export> StreamBox<S> {
    /// The stream to pass a poll on to.
    ///
    /// # Safety
    /// `data` is a box of this type, lent for as long as the result is used.
    #[inline]
    unsafe fn behind<'a>(data: *mut ()) -> Option<&'a RStream> {
        // SAFETY: one call at a time, by the table's contract.
        let this = unsafe { &mut *data.cast::<Self>() };
        this.stream.behind().map(|behind| &behind.0)
    }

    const PLAIN: StreamVt = Self::table(0);
    const VECTORED: StreamVt = Self::table(1);

    const fn table(vectored: u64) -> StreamVt {
        StreamVt {
            size: size_of::<StreamVt>(),
            owner: S::OWNER,
            vectored,
            poll_read: poll_read::<S>,
            poll_write: poll_write::<S>,
            poll_write_vectored: poll_write_vectored::<S>,
            poll_flush: poll_flush::<S>,
            poll_shutdown: poll_shutdown::<S>,
            facts: facts::<S>,
            take_error: take_error::<S>,
            drop: drop_box::<Self>,
        }
    }

    /// Polls the stream behind a panic guard; after a panic, answers that for ever.
    ///
    /// # Safety
    /// `data` is a box of this type and `cx` a context, both lent for the call.
    #[inline]
    unsafe fn with(
        data: *mut (),
        cx: *const RContext,
        writes: bool,
        poll: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> IoPoll {
        // SAFETY: one call at a time, by the table's contract.
        let this = unsafe { &mut *data.cast::<Self>() };
        if this.panicked {
            return IoPoll::panicked();
        }
        let polled = guard(IoPoll::panicked(), || {
            let cache = if writes { &this.write } else { &this.read };
            // SAFETY: the stream never leaves its box while it is polled; `unwrap` asks for `Unpin`.
            let stream = unsafe { Pin::new_unchecked(&mut this.stream) };
            // SAFETY: lent for the call.
            let polled = unsafe { enter(cx, cache, |cx| poll(stream, cx)) };
            // Behind the guard too, as it may drop an earlier error.
            IoPoll::lower(polled, &mut this.error)
        });
        if polled.tag == IoPoll::PANICKED {
            this.panicked = true;
        }
        polled
    }
}

unsafe extern "C" fn poll_read<S: Export>(
    data: *mut (),
    cx: *const RContext,
    into: *mut u8,
    len: usize,
) -> IoPoll {
    // SAFETY: lent for the call.
    if let Some(behind) = unsafe { StreamBox::<S>::behind(data) } {
        // SAFETY: a valid stream; what was lent to this call is lent on.
        return unsafe { ((*behind.vt).poll_read)(behind.data, cx, into, len) };
    }
    let poll = |stream: Pin<&mut S>, cx: &mut Context<'_>| {
        let memory = if len == 0 {
            &mut []
        } else {
            // SAFETY: the caller lends `len` bytes to write to, not necessarily initialised.
            unsafe { std::slice::from_raw_parts_mut(into.cast(), len) }
        };
        let mut buf = ReadBuf::uninit(memory);
        stream.poll_read(cx, &mut buf).map(|read| {
            read?;
            // Safe code can put another buffer in place of this one; the caller's memory is then not written to.
            if len != 0 && !std::ptr::eq(buf.filled().as_ptr(), into) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the stream exchanged its reader's buffer",
                ));
            }
            Ok(buf.filled().len())
        })
    };
    // SAFETY: the table's contract.
    unsafe { StreamBox::<S>::with(data, cx, false, poll) }
}

unsafe extern "C" fn poll_write<S: Export>(
    data: *mut (),
    cx: *const RContext,
    from: *const u8,
    len: usize,
) -> IoPoll {
    // SAFETY: lent for the call.
    if let Some(behind) = unsafe { StreamBox::<S>::behind(data) } {
        // SAFETY: a valid stream; what was lent to this call is lent on.
        return unsafe { ((*behind.vt).poll_write)(behind.data, cx, from, len) };
    }
    // SAFETY: the caller lends the bytes for the call.
    let bytes = unsafe { RSlice { ptr: from, len }.bytes() };
    // SAFETY: the table's contract.
    unsafe { StreamBox::<S>::with(data, cx, true, |stream, cx| stream.poll_write(cx, bytes)) }
}

unsafe extern "C" fn poll_write_vectored<S: Export>(
    data: *mut (),
    cx: *const RContext,
    pieces: *const RIoSlice,
    count: usize,
) -> IoPoll {
    // SAFETY: lent for the call.
    if let Some(behind) = unsafe { StreamBox::<S>::behind(data) } {
        // SAFETY: a valid stream; what was lent to this call is lent on.
        return unsafe { ((*behind.vt).poll_write_vectored)(behind.data, cx, pieces, count) };
    }
    // SAFETY: the caller lends the pieces for the call.
    let raw = if count == 0 { &[] } else { unsafe { std::slice::from_raw_parts(pieces, count) } };
    if raw.iter().any(|piece| piece.ptr.is_null()) {
        // A C caller may say so for no bytes; a slice must not begin at null. Any one piece is a write.
        let piece = raw.iter().copied().find(|piece| piece.len != 0).unwrap_or(RSlice::new(&[]));
        // SAFETY: as above.
        return unsafe { poll_write::<S>(data, cx, piece.ptr, piece.len) };
    }
    // SAFETY: `IoSlice` is ABI compatible with `iovec`, as is `RIoSlice`: a pointer, not null as was just seen, and a
    // length.
    let pieces: &[IoSlice<'_>] = unsafe { std::slice::from_raw_parts(raw.as_ptr().cast(), raw.len()) };
    // SAFETY: the table's contract.
    unsafe { StreamBox::<S>::with(data, cx, true, |stream, cx| stream.poll_write_vectored(cx, pieces)) }
}

const _: () = assert!(size_of::<RIoSlice>() == size_of::<IoSlice<'_>>());

unsafe extern "C" fn poll_flush<S: Export>(data: *mut (), cx: *const RContext) -> IoPoll {
    // SAFETY: lent for the call.
    if let Some(behind) = unsafe { StreamBox::<S>::behind(data) } {
        // SAFETY: a valid stream; what was lent to this call is lent on.
        return unsafe { ((*behind.vt).poll_flush)(behind.data, cx) };
    }
    // SAFETY: the table's contract.
    unsafe { StreamBox::<S>::with(data, cx, true, |stream, cx| stream.poll_flush(cx).map_ok(|()| 0)) }
}

unsafe extern "C" fn poll_shutdown<S: Export>(data: *mut (), cx: *const RContext) -> IoPoll {
    // SAFETY: lent for the call.
    if let Some(behind) = unsafe { StreamBox::<S>::behind(data) } {
        // SAFETY: a valid stream; what was lent to this call is lent on.
        return unsafe { ((*behind.vt).poll_shutdown)(behind.data, cx) };
    }
    // SAFETY: the table's contract.
    unsafe { StreamBox::<S>::with(data, cx, true, |stream, cx| stream.poll_shutdown(cx).map_ok(|()| 0)) }
}

unsafe extern "C" fn facts<S: Export>(data: *mut ()) -> RBytes {
    // SAFETY: the table's contract.
    let this = unsafe { &mut *data.cast::<StreamBox<S>>() };
    guard(RBytes::EMPTY, || this.stream.facts().into())
}

unsafe extern "C" fn take_error<S: Export>(data: *mut ()) -> RError {
    // SAFETY: the table's contract.
    let this = unsafe { &mut *data.cast::<StreamBox<S>>() };
    let Some(error) = this.error.take() else {
        return match this.stream.behind() {
            // SAFETY: a valid stream.
            Some(behind) => unsafe { ((*behind.0.vt).take_error)(behind.0.data) },
            None => RError::NONE,
        };
    };
    guard(RError::NONE, move || {
        let words = error.to_string();
        // Here, behind the guard, and before there is a result to be lost.
        drop(error);
        Error::new(ErrorKind::Other, words).into()
    })
}

/// The other side's stream, read and written here.
///
/// Dropping it closes it.
#[derive(Debug)]
pub struct Foreign(RStream);

// SAFETY: the contract of the table allows use from any thread, one call at a time.
unsafe impl Send for Foreign {}
// SAFETY: every call needs `&mut`, but for `facts`, which is serialised by taking `&mut` as well.
unsafe impl Sync for Foreign {}

impl Foreign {
    /// Takes the stream over.
    ///
    /// # Safety
    /// `raw` is valid and owned by the caller.
    #[must_use]
    pub unsafe fn new(raw: RStream) -> Self {
        Self(raw)
    }

    /// Gives the stream up.
    #[must_use]
    pub fn into_raw(self) -> RStream {
        let this = ManuallyDrop::new(self);
        RStream { data: this.0.data, vt: this.0.vt }
    }

    /// What the other side knows about the connection, encoded.
    pub fn facts(&mut self) -> RBytes {
        // SAFETY: valid by the contract of `new`.
        unsafe { ((*self.0.vt).facts)(self.0.data) }
    }

    #[inline]
    fn raise(&mut self, polled: IoPoll, most: usize) -> Poll<io::Result<usize>> {
        polled.raise(most, || {
            // SAFETY: valid by the contract of `new`.
            let error = unsafe { ((*self.0.vt).take_error)(self.0.data) };
            error.into_error().map(|error| error.message().to_owned())
        })
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // SAFETY: owned, and not used again.
        unsafe { ((*self.0.vt).drop)(self.0.data) }
    }
}

impl AsyncRead for Foreign {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buf.remaining();
        // SAFETY: only written to by the call below.
        let into = unsafe { buf.unfilled_mut() }.as_mut_ptr().cast();
        // SAFETY: valid by the contract of `new`; the memory is lent for the call.
        let polled = lend(cx, |cx| unsafe { ((*self.0.vt).poll_read)(self.0.data, cx, into, room) });
        self.raise(polled, room).map_ok(|count| {
            // SAFETY: the other side wrote `count` bytes, which `raise` found to be at most `room`.
            unsafe { buf.assume_init(count) };
            buf.advance(count);
        })
    }
}

impl AsyncWrite for Foreign {
    #[inline]
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // SAFETY: valid by the contract of `new`; the bytes are lent for the call.
        let polled =
            lend(cx, |cx| unsafe { ((*self.0.vt).poll_write)(self.0.data, cx, buf.as_ptr(), buf.len()) });
        self.raise(polled, buf.len())
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // SAFETY: valid by the contract of `new`.
        let polled = lend(cx, |cx| unsafe { ((*self.0.vt).poll_flush)(self.0.data, cx) });
        self.raise(polled, usize::MAX).map_ok(drop)
    }

    #[inline]
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // SAFETY: valid by the contract of `new`.
        let polled = lend(cx, |cx| unsafe { ((*self.0.vt).poll_shutdown)(self.0.data, cx) });
        self.raise(polled, usize::MAX).map_ok(drop)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let most = bufs.iter().fold(0_usize, |sum, piece| sum.saturating_add(piece.len()));
        let pieces = bufs.as_ptr().cast::<RIoSlice>();
        // SAFETY: valid by the contract of `new`; `IoSlice` is laid out as `RIoSlice`, see above.
        let polled =
            lend(cx, |cx| unsafe { ((*self.0.vt).poll_write_vectored)(self.0.data, cx, pieces, bufs.len()) });
        self.raise(polled, most)
    }

    fn is_write_vectored(&self) -> bool {
        // SAFETY: valid by the contract of `new`.
        unsafe { (*self.0.vt).vectored != 0 }
    }
}
