//! Endpoints across the boundary: validated, nothing opened.

use std::future::Future;
use std::sync::Arc;

use super::bytes::{RBytes, RSlice};
use super::conn::{RConn, Taken};
use super::error::RError;
use super::future::{Foreign as ForeignFuture, RFuture};
use super::listener::{Foreign as ForeignListener, RListen};
use super::table::check;
use super::{Sized0, guard};
use crate::error::{Error, ErrorKind};

/// An endpoint of one role; null `vt`: there is none.
#[repr(C)]
#[derive(Debug)]
pub struct REndpoint {
    /// The maker's own.
    pub data: *mut (),
    /// The maker's functions.
    pub vt: *const EndpointVt,
}

/// The functions of an endpoint. All but `drop` may be called several times at once.
#[repr(C)]
#[derive(Debug)]
pub struct EndpointVt {
    /// Bytes in this table.
    pub size: usize,
    /// A future of an [`RConn`]; fails as unsupported on a server endpoint. The context is lent for the call.
    pub connect: unsafe extern "C" fn(data: *mut (), context: *const RConnectContext) -> RFuture,
    /// A future of an [`RListen`]; fails as unsupported on a client endpoint. The context is lent for the call.
    pub listen: unsafe extern "C" fn(data: *mut (), context: *const RListenContext) -> RFuture,
    /// Arguments whose final value only the plugin knows, as [facts](crate::Facts).
    pub describe: unsafe extern "C" fn(data: *mut ()) -> RBytes,
    /// Frees it; what it has connected or listens on lives on.
    pub drop: unsafe extern "C" fn(data: *mut ()),
}

/// What one attempt to connect is about.
#[repr(C)]
#[derive(Debug)]
pub struct RConnectContext {
    /// Bytes in this structure.
    pub size: usize,
    /// Nanoseconds that are left for the attempt, the largest number where the caller set no limit. The caller
    /// enforces it.
    pub time_left: u64,
    /// Facts of the connection that is being relayed, where one is.
    pub origin: RSlice,
}

/// What one call of `listen` is about.
#[repr(C)]
#[derive(Debug)]
pub struct RListenContext {
    /// Bytes in this structure.
    pub size: usize,
}

/// What an endpoint is when it is sent across.
pub trait Export: Send + Sync + 'static {
    /// Connects.
    fn connect(
        self: Arc<Self>,
        time_left: Option<std::time::Duration>,
        origin: Vec<u8>,
    ) -> impl Future<Output = Result<Taken, Error>> + Send + 'static;
    /// Listens.
    fn listen(self: Arc<Self>) -> impl Future<Output = Result<ForeignListener, Error>> + Send + 'static;
    /// Final argument values, encoded.
    fn describe(&self) -> Vec<u8>;
}

impl REndpoint {
    /// No endpoint.
    pub const NONE: Self = Self { data: std::ptr::null_mut(), vt: std::ptr::null() };

    /// Sends an endpoint across.
    #[must_use]
    pub fn new<E: Export>(endpoint: Arc<E>) -> Self {
        Self { data: Arc::into_raw(endpoint).cast_mut().cast(), vt: &<Table<E>>::VT }
    }

    /// Whether there is no endpoint.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.vt.is_null()
    }
}

struct Table<E>(std::marker::PhantomData<E>);

impl<E: Export> Table<E> {
    const VT: EndpointVt = EndpointVt {
        size: size_of::<EndpointVt>(),
        connect: connect::<E>,
        listen: listen::<E>,
        describe: describe::<E>,
        drop: drop_arc::<E>,
    };
}

/// # Safety
/// `data` is the pointer of a live `Arc<E>`.
unsafe fn shared<E>(data: *mut ()) -> Arc<E> {
    // SAFETY: by contract; the handle keeps its own count.
    unsafe {
        Arc::increment_strong_count(data.cast_const().cast::<E>());
        Arc::from_raw(data.cast_const().cast::<E>())
    }
}

unsafe extern "C" fn connect<E: Export>(data: *mut (), context: *const RConnectContext) -> RFuture {
    // SAFETY: a live endpoint, by the table's contract.
    let endpoint = unsafe { shared::<E>(data) };
    // SAFETY: lent for the call; both fields are of the first version.
    let (time_left, origin) = unsafe { ((*context).time_left, (*context).origin.bytes().to_vec()) };
    let time_left = (time_left != u64::MAX).then(|| std::time::Duration::from_nanos(time_left));
    guard(RFuture::NONE, || RFuture::new::<RConn, _>(endpoint.connect(time_left, origin)))
}

unsafe extern "C" fn listen<E: Export>(data: *mut (), _context: *const RListenContext) -> RFuture {
    // SAFETY: a live endpoint, by the table's contract.
    let endpoint = unsafe { shared::<E>(data) };
    guard(RFuture::NONE, || RFuture::new::<RListen, _>(endpoint.listen()))
}

unsafe extern "C" fn describe<E: Export>(data: *mut ()) -> RBytes {
    // SAFETY: a live endpoint, by the table's contract.
    let endpoint = unsafe { &*data.cast_const().cast::<E>() };
    guard(RBytes::EMPTY, || endpoint.describe().into())
}

unsafe extern "C" fn drop_arc<E: Export>(data: *mut ()) {
    // SAFETY: the caller gives up the handle's count.
    guard((), || drop(unsafe { Arc::from_raw(data.cast_const().cast::<E>()) }));
}

/// The other side's endpoint.
#[derive(Debug)]
pub struct Foreign(REndpoint);

// SAFETY: the contract of the table allows use from any thread.
unsafe impl Send for Foreign {}
// SAFETY: and several calls at once.
unsafe impl Sync for Foreign {}

impl Foreign {
    /// Takes the endpoint over.
    ///
    /// # Safety
    /// `raw` is valid and owned by the caller.
    #[must_use]
    pub unsafe fn new(raw: REndpoint) -> Self {
        Self(raw)
    }

    /// An endpoint of this image, as the other side holds it.
    #[must_use]
    pub fn of<E: Export>(endpoint: Arc<E>) -> Self {
        // The handle is just made, and owned.
        Self(REndpoint::new(endpoint))
    }

    /// Gives the endpoint up.
    #[must_use]
    pub fn into_raw(self) -> REndpoint {
        let this = std::mem::ManuallyDrop::new(self);
        REndpoint { data: this.0.data, vt: this.0.vt }
    }

    /// Connects; dropping the future cancels.
    pub fn connect(
        &self,
        time_left: Option<std::time::Duration>,
        origin: &[u8],
    ) -> impl Future<Output = Result<Taken, Error>> + Send + 'static + use<> {
        let time_left =
            time_left.map_or(u64::MAX, |left| u64::try_from(left.as_nanos()).unwrap_or(u64::MAX - 1));
        let context =
            RConnectContext { size: size_of::<RConnectContext>(), time_left, origin: RSlice::new(origin) };
        // SAFETY: valid by the contract of `new`; the context is lent for the call.
        let future = unsafe { ((*self.0.vt).connect)(self.0.data, &raw const context) };
        // SAFETY: `connect` gives a future of `RConn`.
        let future = unsafe { ForeignFuture::<RConn>::new(future) };
        async move {
            match future.await {
                // SAFETY: the other side has written it.
                Some(conn) => unsafe { conn.take() },
                None => Err(Error::new(ErrorKind::Panicked, "the plugin panicked while connecting")),
            }
        }
    }

    /// Listens; dropping the future cancels.
    pub fn listen(&self) -> impl Future<Output = Result<ForeignListener, Error>> + Send + 'static + use<> {
        let context = RListenContext { size: size_of::<RListenContext>() };
        // SAFETY: valid by the contract of `new`; the context is lent for the call.
        let future = unsafe { ((*self.0.vt).listen)(self.0.data, &raw const context) };
        // SAFETY: `listen` gives a future of `RListen`.
        let future = unsafe { ForeignFuture::<RListen>::new(future) };
        async move {
            match future.await {
                // SAFETY: the other side has written it.
                Some(listen) => unsafe { listen.take() },
                None => Err(Error::new(ErrorKind::Panicked, "the plugin panicked while starting to listen")),
            }
        }
    }

    /// Final argument values, encoded.
    #[must_use]
    pub fn describe(&self) -> RBytes {
        // SAFETY: valid by the contract of `new`.
        unsafe { ((*self.0.vt).describe)(self.0.data) }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // SAFETY: owned, and not used again.
        unsafe { ((*self.0.vt).drop)(self.0.data) }
    }
}

/// What making an endpoint comes to.
#[repr(C)]
#[derive(Debug)]
pub struct REndpointResult {
    /// Bytes in this structure.
    pub size: usize,
    /// Set where it failed.
    pub error: RError,
    /// The endpoint, where it did not.
    pub endpoint: REndpoint,
}

// SAFETY: `repr(C)`, size first; zeroes are no error and no endpoint.
unsafe impl Sized0 for REndpointResult {}

impl REndpointResult {
    /// Takes the endpoint out.
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
        if self.endpoint.is_none() {
            return Err(Error::new(ErrorKind::Internal, "neither an endpoint nor an error was handed over"));
        }
        // SAFETY: a table, by contract.
        unsafe { check(self.endpoint.vt)? };
        // SAFETY: by contract.
        Ok(unsafe { Foreign::new(self.endpoint) })
    }
}

impl From<Result<REndpoint, Error>> for REndpointResult {
    fn from(result: Result<REndpoint, Error>) -> Self {
        let mut out = Self::absent();
        match result {
            Ok(endpoint) => out.endpoint = endpoint,
            Err(error) => out.error = error.into(),
        }
        out
    }
}
