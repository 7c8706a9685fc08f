//! The host's side of its services: a safe trait, and the table made from it.

use std::future::{Future, ready};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::bytes::{RSlice, line};
use super::conn::{RConn, Taken, owned};
use super::context::{RContext, WakerCache, enter};
use super::endpoint::{Foreign as ForeignEndpoint, REndpointResult};
use super::error::RError;
use super::future::{Foreign as ForeignFuture, RBytesResult, RFuture, RUnit};
use super::host::{HostVt, RHost, RReadiness, RReadinessResult, ReadinessVt};
use super::io::IoPoll;
use super::{Sized0, drop_box, guard};
use crate::error::{Error, ErrorKind};

/// What a host does for a plugin; see [`Host`](crate::Host) for what each means. Called from any thread.
pub trait Services: Send + Sync + 'static {
    /// A watched descriptor.
    type Watched: Watched;

    /// Makes an endpoint of a role ([`CLIENT`](super::host::CLIENT) or [`SERVER`](super::host::SERVER)).
    fn endpoint(&self, role: u32, description: &[u8]) -> Result<ForeignEndpoint, Error>;
    /// Waits for a connect that is under way.
    fn finish_connect(
        &self,
        socket: OwnedFd,
    ) -> impl Future<Output = Result<Taken, Error>> + Send + 'static + use<Self>;
    /// Takes a connected socket over.
    fn adopt(&self, socket: OwnedFd) -> Result<Taken, Error>;
    /// Watches a descriptor that stays open and the plugin's.
    fn watch(&self, descriptor: RawFd) -> Result<Self::Watched, Error>;
    /// Waits.
    fn sleep(&self, time: Duration) -> Result<impl Future<Output = ()> + Send + 'static + use<Self>, Error>;
    /// Drives a future in the background.
    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> Result<(), Error>;
    /// Calls a function where blocking is allowed.
    fn spawn_blocking(&self, work: impl FnOnce() + Send + 'static) -> Result<(), Error>;
    /// Resolves a name.
    fn resolve(
        &self,
        host: &str,
        port: u16,
    ) -> impl Future<Output = Result<Vec<SocketAddr>, Error>> + Send + 'static + use<Self>;
    /// Whether a line of that level (1 error … 5 trace) would be seen.
    fn log_enabled(&self, level: u32) -> bool;
    /// Logs a line.
    fn log(&self, level: u32, message: &str);
}

/// A descriptor that the host watches.
pub trait Watched: Send + Sync + 'static {
    /// Waits until it can be read (or written), then calls `operation`, again while that would block.
    fn poll_io(
        &self,
        cx: &mut Context<'_>,
        write: bool,
        operation: &mut dyn FnMut() -> io::Result<()>,
    ) -> Poll<io::Result<()>>;
}

impl RHost {
    /// Lends `services` to a plugin, which owns the handle.
    #[must_use]
    pub fn new<S: Services>(services: Arc<S>) -> Self {
        Self { data: Arc::into_raw(services).cast(), vt: &Table::<S>::VT }
    }
}

struct Table<S>(std::marker::PhantomData<S>);

impl<S: Services> Table<S> {
    const VT: HostVt = HostVt {
        size: size_of::<HostVt>(),
        retain: retain::<S>,
        release: release::<S>,
        endpoint: endpoint::<S>,
        finish_connect: finish_connect::<S>,
        adopt: adopt::<S>,
        watch: watch::<S>,
        sleep: sleep::<S>,
        spawn: spawn::<S>,
        spawn_blocking: spawn_blocking::<S>,
        resolve: resolve::<S>,
        log_enabled: log_enabled::<S>,
        log: log::<S>,
    };
}

/// # Safety
/// `data` is the pointer of a live `Arc<S>`, for `'a`.
unsafe fn services<'a, S>(data: *const ()) -> &'a S {
    // SAFETY: by contract.
    unsafe { &*data.cast::<S>() }
}

unsafe extern "C" fn retain<S>(data: *const ()) {
    // SAFETY: a live handle, by the table's contract.
    unsafe { Arc::increment_strong_count(data.cast::<S>()) };
}

unsafe extern "C" fn release<S>(data: *const ()) {
    // SAFETY: the caller gives one count back.
    guard((), || drop(unsafe { Arc::from_raw(data.cast::<S>()) }));
}

unsafe extern "C" fn endpoint<S: Services>(
    data: *const (),
    role: u32,
    description: RSlice,
    out: *mut REndpointResult,
) {
    // SAFETY: a live handle; the description is lent for the call.
    let (services, description) = unsafe { (services::<S>(data), description.bytes()) };
    let made = guard(Err(panicked()), || services.endpoint(role, description).map(ForeignEndpoint::into_raw));
    // SAFETY: the caller lends an absent result.
    unsafe { REndpointResult::from(made).write_to(out) };
}

unsafe extern "C" fn finish_connect<S: Services>(data: *const (), fd: i32) -> RFuture {
    // SAFETY: a live handle; the descriptor is given up by the caller.
    let (services, socket) = unsafe { (services::<S>(data), owned(fd)) };
    guard(RFuture::NONE, || match socket {
        Ok(socket) => RFuture::new::<RConn, _>(services.finish_connect(socket)),
        Err(error) => RFuture::new::<RConn, _>(ready(Err(error))),
    })
}

unsafe extern "C" fn adopt<S: Services>(data: *const (), fd: i32, out: *mut RConn) {
    // SAFETY: a live handle; the descriptor is given up by the caller.
    let (services, socket) = unsafe { (services::<S>(data), owned(fd)) };
    let adopted = guard(Err(panicked()), || services.adopt(socket?));
    // SAFETY: the caller lends an absent result.
    unsafe { RConn::from(adopted).write_to(out) };
}

unsafe extern "C" fn watch<S: Services>(data: *const (), fd: i32, out: *mut RReadinessResult) {
    // SAFETY: a live handle.
    let services = unsafe { services::<S>(data) };
    let mut result = RReadinessResult::absent();
    match guard(Err(panicked()), || services.watch(fd)) {
        Ok(watched) => {
            let state = WatchBox { watched, read: WakerCache::default(), write: WakerCache::default() };
            result.readiness =
                RReadiness { data: Box::into_raw(Box::new(state)).cast(), vt: &WatchBox::<S::Watched>::VT };
        }
        Err(error) => result.error = error.into(),
    }
    // SAFETY: the caller lends an absent result.
    unsafe { result.write_to(out) };
}

unsafe extern "C" fn sleep<S: Services>(data: *const (), nanos: u64) -> RFuture {
    // SAFETY: a live handle.
    let services = unsafe { services::<S>(data) };
    guard(RFuture::NONE, || match services.sleep(Duration::from_nanos(nanos)) {
        Ok(sleeping) => RFuture::new::<RUnit, _>(sleeping),
        Err(error) => RFuture::new::<RUnit, _>(ready(Err(error))),
    })
}

unsafe extern "C" fn spawn<S: Services>(data: *const (), future: RFuture) -> RError {
    // SAFETY: a live handle; the future is given up by the caller, and is one of `RUnit`.
    let (services, future) = unsafe { (services::<S>(data), ForeignFuture::<RUnit>::new(future)) };
    let spawned = guard(Err(panicked()), || {
        services.spawn(async move {
            future.await;
        })
    });
    spawned.err().map_or(RError::NONE, RError::from)
}

unsafe extern "C" fn spawn_blocking<S: Services>(
    data: *const (),
    work: unsafe extern "C" fn(*mut ()),
    discard: unsafe extern "C" fn(*mut ()),
    argument: *mut (),
) -> RError {
    // SAFETY: a live handle.
    let services = unsafe { services::<S>(data) };
    let work = Work { work, discard, argument };
    let spawned = guard(Err(panicked()), || services.spawn_blocking(move || work.run()));
    spawned.err().map_or(RError::NONE, RError::from)
}

/// A plugin's function and what it is called with.
struct Work {
    work: unsafe extern "C" fn(*mut ()),
    discard: unsafe extern "C" fn(*mut ()),
    argument: *mut (),
}

// SAFETY: the contract of `spawn_blocking` says that it is called on another thread.
unsafe impl Send for Work {}

impl Work {
    fn run(self) {
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: called once, as the contract says; nothing is discarded now.
        unsafe { (this.work)(this.argument) }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // SAFETY: it was not run, and never will be.
        unsafe { (self.discard)(self.argument) }
    }
}

unsafe extern "C" fn resolve<S: Services>(data: *const (), host: RSlice, port: u16) -> RFuture {
    // SAFETY: a live handle; the name is lent for the call.
    let (services, host) = unsafe { (services::<S>(data), host.bytes()) };
    guard(RFuture::NONE, || {
        let resolving = std::str::from_utf8(host)
            .map(|host| services.resolve(host, port))
            .map_err(|_| Error::new(ErrorKind::NameResolution, "a host name must be UTF-8"));
        RFuture::new::<RBytesResult, _>(async move {
            let addresses = match resolving {
                Ok(resolving) => resolving.await?,
                Err(error) => return Err(error),
            };
            let lines: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            Ok(lines.join("\n"))
        })
    })
}

unsafe extern "C" fn log_enabled<S: Services>(data: *const (), level: u32) -> u32 {
    // SAFETY: a live handle.
    let services = unsafe { services::<S>(data) };
    guard(0, || u32::from(services.log_enabled(level)))
}

unsafe extern "C" fn log<S: Services>(data: *const (), level: u32, message: RSlice) {
    // SAFETY: a live handle; the text is lent for the call.
    let (services, message) = unsafe { (services::<S>(data), message.bytes()) };
    guard((), || services.log(level, &line(message)));
}

fn panicked() -> Error {
    Error::new(ErrorKind::Internal, "the host panicked while it served the plugin")
}

struct WatchBox<W> {
    watched: W,
    read: WakerCache,
    write: WakerCache,
}

impl<W: Watched> WatchBox<W> {
    const VT: ReadinessVt =
        ReadinessVt { size: size_of::<ReadinessVt>(), poll_io: poll_io::<W>, drop: drop_box::<Self> };
}

unsafe extern "C" fn poll_io<W: Watched>(
    data: *const (),
    cx: *const RContext,
    interest: u32,
    operation: unsafe extern "C" fn(*mut ()) -> IoPoll,
    argument: *mut (),
) -> IoPoll {
    // SAFETY: a live readiness, by the table's contract.
    let this = unsafe { &*data.cast::<WatchBox<W>>() };
    let write = interest == super::host::WRITABLE;
    let cache = if write { &this.write } else { &this.read };
    let mut operation = || {
        // SAFETY: the caller lends the function and its argument for the call.
        match unsafe { operation(argument) }.tag {
            IoPoll::PENDING => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        }
    };
    guard(IoPoll::panicked(), || {
        // SAFETY: the context is lent for the call.
        let polled = unsafe { enter(cx, cache, |cx| this.watched.poll_io(cx, write, &mut operation)) };
        let mut kept = None;
        match IoPoll::lower(polled.map_ok(|()| 0), &mut kept) {
            // There is no place for a text: the kind has to do.
            IoPoll { tag: IoPoll::MESSAGE, val } => IoPoll { tag: IoPoll::KIND, val },
            polled => polled,
        }
    })
}
