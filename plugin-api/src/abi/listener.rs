//! Listeners across the boundary.

use std::os::fd::{IntoRawFd, OwnedFd};
use std::task::{Context, Poll};

use super::bytes::RBytes;
use super::conn::{RConn, Taken, owned};
use super::context::{RContext, WakerCache, enter, lend};
use super::error::RError;
use super::future::{Foreign as ForeignFuture, RFuture, RUnit};
use super::table::check;
use super::{Sized0, drop_box, guard};
use crate::error::{Error, ErrorKind};

/// Something that listens; null `vt`: there is none.
#[repr(C)]
#[derive(Debug)]
pub struct RListener {
    /// The maker's own.
    pub data: *mut (),
    /// The maker's functions.
    pub vt: *const ListenerVt,
}

impl RListener {
    /// No listener.
    pub const NONE: Self = Self { data: std::ptr::null_mut(), vt: std::ptr::null() };
}

/// The functions of a listener.
#[repr(C)]
#[derive(Debug)]
pub struct ListenerVt {
    /// Bytes in this table.
    pub size: usize,
    /// Waits for a connection, never for a peer's bytes. Answers as the poll of a future, with an [`RConn`] written to
    /// `out`, which may be an error or a handshake. When the caller stops polling no connection is lost: the next call
    /// goes on.
    pub poll_accept: unsafe extern "C" fn(data: *mut (), cx: *const RContext, out: *mut RConn) -> u32,
    /// The addresses that are listened on, as [facts](crate::Facts).
    pub addresses: unsafe extern "C" fn(data: *mut ()) -> RBytes,
    /// The client descriptions by which it is reached, as [facts](crate::Facts): one with an empty name begins a
    /// description and has its scheme as the value, the others are its arguments; a name with `@` before it has a
    /// nested description, in the same form, as its value.
    pub reachable: unsafe extern "C" fn(data: *mut ()) -> RBytes,
    /// Gives up the listening stream socket, from which the host then accepts by itself; -1: there is none, use
    /// `poll_accept`. Asked once, before the first accept. The listener stays, and is dropped when listening ends.
    pub take_socket: unsafe extern "C" fn(data: *mut ()) -> i32,
    /// A future of an [`RUnit`] that ends when listening has stopped; no future: dropping is all there is to do. The caller
    /// asks for no more connections, and drops the future before the listener.
    pub close: unsafe extern "C" fn(data: *mut ()) -> RFuture,
    /// Stops listening and frees it.
    pub drop: unsafe extern "C" fn(data: *mut ()),
}

/// What a listener is when it is sent across.
pub trait Export: Send + 'static {
    /// Polls for the next connection.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Taken, Error>>;
    /// The addresses, encoded.
    fn addresses(&self) -> Vec<u8>;
    /// The client descriptions, encoded.
    fn reachable(&self) -> Vec<u8>;
    /// The listening socket, given up.
    fn take_socket(&mut self) -> Option<OwnedFd>;
    /// Stops listening.
    fn close(&mut self) -> Option<ForeignFuture<RUnit>>;
}

impl RListener {
    /// Sends a listener across.
    #[must_use]
    pub fn new<L: Export>(listener: L) -> Self {
        let state = ListenerBox { listener, cache: WakerCache::default(), panicked: false };
        Self { data: Box::into_raw(Box::new(state)).cast(), vt: &ListenerBox::<L>::VT }
    }
}

struct ListenerBox<L> {
    listener: L,
    cache: WakerCache,
    panicked: bool,
}

impl<L: Export> ListenerBox<L> {
    const VT: ListenerVt = ListenerVt {
        size: size_of::<ListenerVt>(),
        poll_accept: poll_accept::<L>,
        addresses: addresses::<L>,
        reachable: reachable::<L>,
        take_socket: take_socket::<L>,
        close: close::<L>,
        drop: drop_box::<Self>,
    };
}

unsafe extern "C" fn poll_accept<L: Export>(data: *mut (), cx: *const RContext, out: *mut RConn) -> u32 {
    // SAFETY: the table's contract: a live box of this type, one call at a time.
    let this = unsafe { &mut *data.cast::<ListenerBox<L>>() };
    if this.panicked {
        return super::future::PANICKED;
    }
    let polled = guard(None, || {
        // SAFETY: the context is lent for this call.
        Some(unsafe { enter(cx, &this.cache, |cx| this.listener.poll_accept(cx)) }.map(RConn::from))
    });
    match polled {
        Some(Poll::Pending) => super::future::PENDING,
        Some(Poll::Ready(conn)) => {
            // SAFETY: the caller lends an absent `RConn`.
            unsafe { conn.write_to(out) };
            super::future::READY
        }
        None => {
            this.panicked = true;
            super::future::PANICKED
        }
    }
}

// SAFETY (of the block in each): the table's contract, as in `poll_accept`.
unsafe extern "C" fn addresses<L: Export>(data: *mut ()) -> RBytes {
    // SAFETY: as above.
    let this = unsafe { &mut *data.cast::<ListenerBox<L>>() };
    guard(RBytes::EMPTY, || this.listener.addresses().into())
}

unsafe extern "C" fn reachable<L: Export>(data: *mut ()) -> RBytes {
    // SAFETY: as above.
    let this = unsafe { &mut *data.cast::<ListenerBox<L>>() };
    guard(RBytes::EMPTY, || this.listener.reachable().into())
}

unsafe extern "C" fn take_socket<L: Export>(data: *mut ()) -> i32 {
    // SAFETY: as above.
    let this = unsafe { &mut *data.cast::<ListenerBox<L>>() };
    guard(-1, || this.listener.take_socket().map_or(-1, IntoRawFd::into_raw_fd))
}

unsafe extern "C" fn close<L: Export>(data: *mut ()) -> RFuture {
    // SAFETY: as above.
    let this = unsafe { &mut *data.cast::<ListenerBox<L>>() };
    guard(RFuture::NONE, || this.listener.close().map_or(RFuture::NONE, ForeignFuture::into_raw))
}

/// The other side's listener.
///
/// Dropping it stops listening.
#[derive(Debug)]
pub struct Foreign(RListener);

// SAFETY: the contract of the table allows use from any thread, one call at a time.
unsafe impl Send for Foreign {}
// SAFETY: every call needs `&mut`.
unsafe impl Sync for Foreign {}

impl Foreign {
    /// A listener of this image, as the other side holds it.
    #[must_use]
    pub fn of<L: Export>(listener: L) -> Self {
        Self(RListener::new(listener))
    }

    /// Takes the listener over.
    ///
    /// # Safety
    /// `raw` is valid and owned by the caller.
    #[must_use]
    pub unsafe fn new(raw: RListener) -> Self {
        Self(raw)
    }

    /// Gives the listener up.
    #[must_use]
    pub fn into_raw(self) -> RListener {
        let this = std::mem::ManuallyDrop::new(self);
        RListener { data: this.0.data, vt: this.0.vt }
    }

    /// Polls for the next connection; its body may be a handshake.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Taken, Error>> {
        let mut out = RConn::absent();
        // SAFETY: valid by the contract of `new`; `out` is absent.
        let state = lend(cx, |cx| unsafe { ((*self.0.vt).poll_accept)(self.0.data, cx, &raw mut out) });
        match state {
            super::future::PENDING => Poll::Pending,
            // SAFETY: the other side has written it.
            super::future::READY => Poll::Ready(unsafe { out.take() }),
            _ => Poll::Ready(Err(Error::new(ErrorKind::Panicked, "the plugin panicked while accepting"))),
        }
    }

    /// The addresses, encoded.
    pub fn addresses(&mut self) -> RBytes {
        // SAFETY: valid by the contract of `new`.
        unsafe { ((*self.0.vt).addresses)(self.0.data) }
    }

    /// The client descriptions, encoded.
    pub fn reachable(&mut self) -> RBytes {
        // SAFETY: valid by the contract of `new`.
        unsafe { ((*self.0.vt).reachable)(self.0.data) }
    }

    /// The listening socket, where the listener gives it up.
    ///
    /// # Errors
    /// `Internal`, where what it gives up is no open descriptor.
    pub fn take_socket(&mut self) -> Result<Option<OwnedFd>, Error> {
        // SAFETY: valid by the contract of `new`.
        let fd = unsafe { ((*self.0.vt).take_socket)(self.0.data) };
        // SAFETY: given up by the other side.
        (fd >= 0).then(|| unsafe { owned(fd) }).transpose()
    }

    /// Stops listening and waits until it has.
    ///
    /// # Errors
    /// What went wrong on the way; listening has ended all the same.
    pub async fn close(mut self) -> Result<(), Error> {
        let Some(closing) = self.begin_close() else { return Ok(()) };
        match closing.await {
            Some(unit) => unit.error.into_error().map_or(Ok(()), Err),
            None => Err(Error::new(ErrorKind::Panicked, "the plugin panicked while closing its listener")),
        }
    }

    /// Begins to stop listening; none where there is nothing to wait for.
    pub fn begin_close(&mut self) -> Option<ForeignFuture<RUnit>> {
        // SAFETY: valid by the contract of `new`.
        let closing = unsafe { ((*self.0.vt).close)(self.0.data) };
        // SAFETY: `close` gives a future of `RUnit`, or none.
        (!closing.is_none()).then(|| unsafe { ForeignFuture::new(closing) })
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // SAFETY: owned, and not used again.
        unsafe { ((*self.0.vt).drop)(self.0.data) }
    }
}

/// What `listen` comes to.
#[repr(C)]
#[derive(Debug)]
pub struct RListen {
    /// Bytes in this structure.
    pub size: usize,
    /// Set where it failed.
    pub error: RError,
    /// The listener, where it did not.
    pub listener: RListener,
}

// SAFETY: `repr(C)`, size first; zeroes are no error and no listener.
unsafe impl Sized0 for RListen {}

impl RListen {
    /// Takes the listener out.
    ///
    /// # Safety
    /// The value is valid, as the other side wrote it, and owned by the caller.
    ///
    /// # Errors
    /// The error that it carries.
    pub unsafe fn take(self) -> Result<Foreign, Error> {
        if let Some(error) = self.error.into_error() {
            return Err(error);
        }
        if self.listener.vt.is_null() {
            return Err(Error::new(ErrorKind::Internal, "neither a listener nor an error was handed over"));
        }
        // SAFETY: a table, by contract.
        unsafe { check(self.listener.vt)? };
        // SAFETY: by contract.
        Ok(unsafe { Foreign::new(self.listener) })
    }
}

impl From<Result<Foreign, Error>> for RListen {
    fn from(result: Result<Foreign, Error>) -> Self {
        let mut listen = Self::absent();
        match result {
            Ok(listener) => listen.listener = listener.into_raw(),
            Err(error) => listen.error = error.into(),
        }
        listen
    }
}
