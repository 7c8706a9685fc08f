//! What the host lends a plugin.
#![expect(unsafe_code, reason = "the safe face of the host's table")]

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::abi::bytes::RSlice;
use crate::abi::conn::RConn;
use crate::abi::context::lend;
use crate::abi::endpoint::{Foreign as ForeignEndpoint, REndpointResult};
use crate::abi::future::{Foreign as ForeignFuture, RBytesResult, RFuture, RUnit};
use crate::abi::host::{CLIENT, RHost, RReadiness, RReadinessResult, SERVER};
use crate::abi::io::IoPoll;
use crate::abi::{Sized0, guard};
use crate::connection::Connection;
use crate::error::{Error, ErrorKind};
use crate::plugin::{Client, Server};

/// The host's services, for any thread.
///
/// What needs a reactor uses the runtime of the calling thread where that is the host's, else the registry's own: a
/// plugin with a runtime of its own may call from there.
pub struct Host(RHost);

// SAFETY: the contract of `HostVt` allows every function from any thread, at any time.
unsafe impl Send for Host {}
// SAFETY: likewise.
unsafe impl Sync for Host {}

impl Host {
    /// # Safety
    /// `raw` is a valid, counted handle that is given to this value.
    pub(crate) unsafe fn from_raw(raw: RHost) -> Self {
        Self(raw)
    }

    /// Makes a client endpoint from a description.
    ///
    /// Nested descriptions of the manifest's types `client` and `server` are made by the host beforehand: this is for
    /// descriptions that come from elsewhere.
    ///
    /// # Errors
    /// What is wrong with the description.
    pub fn client(&self, description: impl AsRef<[u8]>) -> Result<Client, Error> {
        self.endpoint(CLIENT, description.as_ref()).map(Client)
    }

    /// Makes a server endpoint from a description.
    ///
    /// # Errors
    /// What is wrong with the description.
    pub fn server(&self, description: impl AsRef<[u8]>) -> Result<Server, Error> {
        self.endpoint(SERVER, description.as_ref()).map(Server)
    }

    fn endpoint(&self, role: u32, description: &[u8]) -> Result<ForeignEndpoint, Error> {
        let mut out = REndpointResult::absent();
        // SAFETY: a valid handle; the description is lent for the call, `out` is absent and written by it.
        unsafe {
            ((*self.0.vt).endpoint)(self.0.data, role, RSlice::new(description), &raw mut out);
            out.take()
        }
    }

    /// Waits until a stream socket, whose non-blocking `connect` was begun, is connected.
    ///
    /// The connection is the host's own socket: handed on as it is, it costs nothing more.
    ///
    /// # Errors
    /// Why the socket did not connect, with the operating system's error.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    pub async fn finish_connect(&self, socket: impl Into<OwnedFd>) -> Result<Connection, Error> {
        // SAFETY: a valid handle; the descriptor is given to the host.
        let future = unsafe {
            let raw = ((*self.0.vt).finish_connect)(self.0.data, socket.into().into_raw_fd());
            ForeignFuture::<RConn>::new(raw)
        };
        // SAFETY: written by the host.
        let taken = unsafe { future.await.ok_or_else(host_panicked)?.take()? };
        Connection::from_taken(taken)
    }

    /// Makes a connected stream socket one of the host's own, to read and write it here.
    ///
    /// # Errors
    /// If it is no stream socket, or the reactor cannot take it.
    pub fn adopt(&self, socket: impl Into<OwnedFd>) -> Result<Connection, Error> {
        let mut out = RConn::absent();
        // SAFETY: a valid handle; the descriptor is given to the host, `out` is absent and written by it.
        let taken = unsafe {
            ((*self.0.vt).adopt)(self.0.data, socket.into().into_raw_fd(), &raw mut out);
            out.take()?
        };
        Connection::from_taken(taken)
    }

    /// Watches a non-blocking descriptor that `io` holds.
    ///
    /// # Errors
    /// If the reactor cannot watch it; it refuses regular files.
    pub fn watch<T: AsFd + Send + Sync + 'static>(&self, io: T) -> Result<Readiness<T>, Error> {
        let mut out = RReadinessResult::absent();
        // SAFETY: a valid handle; `out` is absent and written by it. `io` is dropped after the readiness.
        unsafe { ((*self.0.vt).watch)(self.0.data, io.as_fd().as_raw_fd(), &raw mut out) };
        match out.error.into_error() {
            Some(error) => Err(error),
            None if out.readiness.vt.is_null() => Err(host_panicked()),
            None => Ok(Readiness { raw: out.readiness, io }),
        }
    }

    /// Waits.
    ///
    /// # Cancel safety
    /// Nothing is left behind when the future is dropped.
    pub fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send + 'static + use<> {
        let sleep = self.begin_sleep(time);
        async move {
            sleep.await;
        }
    }

    fn begin_sleep(&self, time: Duration) -> ForeignFuture<RUnit> {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        // SAFETY: a valid handle; `sleep` gives a future of `RUnit`.
        unsafe { ForeignFuture::new(((*self.0.vt).sleep)(self.0.data, nanos)) }
    }

    /// Waits for `future`, but no longer than `limit`.
    ///
    /// # Errors
    /// [`TimedOut`] when the time is over; the future is dropped with that.
    pub fn timeout<F: Future>(
        &self,
        limit: Duration,
        future: F,
    ) -> impl Future<Output = Result<F::Output, TimedOut>> + use<'_, F> {
        Timeout { future, host: self, limit, sleep: None }
    }

    /// Drives `future` to its end in the background.
    ///
    /// # Errors
    /// If there is no runtime to drive it.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> Result<(), Error> {
        let raw = RFuture::new::<RUnit, _>(future);
        // SAFETY: a valid handle; the future is given to the host.
        let error = unsafe { ((*self.0.vt).spawn)(self.0.data, raw) };
        error.into_error().map_or(Ok(()), Err)
    }

    /// Calls `work` on a thread where blocking is allowed, and waits for what it gives.
    ///
    /// # Errors
    /// If there is no runtime with such threads, or `work` panicked.
    ///
    /// # Cancel safety
    /// Work that has begun is done even when the future is dropped.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let shared = std::sync::Arc::new(Blocking::default());
        let begun = {
            let finish = Finish(std::sync::Arc::clone(&shared));
            let task: Box<dyn FnOnce() + Send> = Box::new(move || {
                let done = guard(Err(Unfinished::Panicked), || Ok(work()));
                finish.0.finish(done);
            });
            let data = Box::into_raw(Box::new(task)).cast();
            // SAFETY: a valid handle; the host calls one of the functions once with the pointer.
            let error = unsafe { ((*self.0.vt).spawn_blocking)(self.0.data, run_task, discard_task, data) };
            error.into_error()
        };
        if let Some(error) = begun {
            return Err(error);
        }
        poll_fn(|cx| shared.poll(cx)).await.map_err(|unfinished| match unfinished {
            Unfinished::Panicked => Error::new(ErrorKind::Panicked, "the plugin panicked in blocking work"),
            Unfinished::Discarded => {
                Error::new(ErrorKind::Cancelled, "the runtime ended before the work began")
            }
        })
    }

    /// The socket addresses of a host name or IP address, in the order of the system's resolver.
    ///
    /// # Errors
    /// [`NameResolution`](ErrorKind::NameResolution) if the name has none.
    ///
    /// # Cancel safety
    /// Dropping the future gives the answer up.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        // SAFETY: a valid handle; the name is lent for the call, which gives a future of `RBytesResult`.
        let future = unsafe {
            let raw = ((*self.0.vt).resolve)(self.0.data, RSlice::new(host.as_bytes()), port);
            ForeignFuture::<RBytesResult>::new(raw)
        };
        let result = future.await.ok_or_else(host_panicked)?;
        if let Some(error) = result.error.into_error() {
            return Err(error);
        }
        Ok(result.bytes.to_text().lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Whether a message of that level would be seen.
    #[must_use]
    pub fn log_enabled(&self, level: LogLevel) -> bool {
        // SAFETY: a valid handle.
        unsafe { ((*self.0.vt).log_enabled)(self.0.data, level as u32) != 0 }
    }

    /// Logs a line; the host adds the plugin's name. Never log the value of a secret argument.
    pub fn log(&self, level: LogLevel, message: impl fmt::Display) {
        if self.log_enabled(level) {
            let message = message.to_string();
            // SAFETY: a valid handle; the text is lent for the call.
            unsafe { ((*self.0.vt).log)(self.0.data, level as u32, RSlice::new(message.as_bytes())) };
        }
    }
}

impl Clone for Host {
    fn clone(&self) -> Self {
        // SAFETY: a valid handle, counted once more.
        unsafe { ((*self.0.vt).retain)(self.0.data) };
        Self(RHost { data: self.0.data, vt: self.0.vt })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // SAFETY: this value's count is given back.
        unsafe { ((*self.0.vt).release)(self.0.data) }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Host")
    }
}

pin_project_lite::pin_project! {
    /// A future and its time limit.
    struct Timeout<'a, F> {
        #[pin]
        future: F,
        host: &'a Host,
        limit: Duration,
        // Begun once there is something to wait for.
        sleep: Option<ForeignFuture<RUnit>>,
    }
}

impl<F: Future> Future for Timeout<'_, F> {
    type Output = Result<F::Output, TimedOut>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        let sleep = this.sleep.get_or_insert_with(|| this.host.begin_sleep(*this.limit));
        Pin::new(sleep).poll(cx).map(|_| Err(TimedOut { limit: *this.limit }))
    }
}

fn host_panicked() -> Error {
    Error::new(ErrorKind::Internal, "the host failed to serve the plugin")
}

/// The time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOut {
    limit: Duration,
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not done within {:?}", self.limit)
    }
}

impl std::error::Error for TimedOut {}

impl From<TimedOut> for Error {
    fn from(error: TimedOut) -> Self {
        Self::new(ErrorKind::TimedOut, error.to_string())
    }
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum LogLevel {
    /// Something failed.
    Error = 1,
    /// Something is wrong but goes on.
    Warn = 2,
    /// Something worth knowing.
    Info = 3,
    /// For whoever looks for a fault.
    Debug = 4,
    /// Everything.
    Trace = 5,
}

/// A direction to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Interest {
    /// Something can be read, or accepted.
    Read = crate::abi::host::READABLE,
    /// Something can be written, or a connect has ended.
    Write = crate::abi::host::WRITABLE,
}

/// A descriptor that the host's reactor watches; made by [`Host::watch`].
#[derive(Debug)]
pub struct Readiness<T> {
    raw: RReadiness,
    io: T,
}

// SAFETY: the contract of `ReadinessVt` allows any thread.
unsafe impl<T: Send> Send for Readiness<T> {}
// SAFETY: and several calls at once.
unsafe impl<T: Sync> Sync for Readiness<T> {}

impl<T> Readiness<T> {
    /// What is watched.
    pub fn get_ref(&self) -> &T {
        &self.io
    }

    /// Does `operation` when the descriptor is ready, again and again until it no longer would block.
    ///
    /// One task at a time may wait in each direction: of several, only the last may be woken.
    ///
    /// # Errors
    /// What the operation fails with, but for [`WouldBlock`](io::ErrorKind::WouldBlock).
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped: the operation was done, or it was not.
    pub async fn io<R>(
        &self,
        interest: Interest,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        poll_fn(|cx| self.poll_io(cx, interest, &mut operation)).await
    }

    /// As [`io`](Self::io), to be polled.
    ///
    /// # Errors
    /// Likewise.
    pub fn poll_io<R, F: FnMut(&T) -> io::Result<R>>(
        &self,
        cx: &mut Context<'_>,
        interest: Interest,
        operation: &mut F,
    ) -> Poll<io::Result<R>> {
        let mut call = Call { io: &self.io, operation, result: None };
        // SAFETY: the host calls the function with the pointer during this call only.
        let polled = lend(cx, |cx| unsafe {
            ((*self.raw.vt).poll_io)(
                self.raw.data,
                cx,
                interest as u32,
                Call::<T, R, F>::run,
                (&raw mut call).cast(),
            )
        });
        match polled.tag {
            IoPoll::PENDING => Poll::Pending,
            _ => Poll::Ready(call.result.unwrap_or_else(|| match polled.raise(0, || None) {
                Poll::Ready(Err(error)) => Err(error),
                _ => Err(io::Error::other("the host did not call the operation")),
            })),
        }
    }
}

impl<T> Drop for Readiness<T> {
    fn drop(&mut self) {
        // SAFETY: owned, and not used again; `io` is dropped afterwards.
        unsafe { ((*self.raw.vt).drop)(self.raw.data) }
    }
}

struct Call<'a, T, R, F> {
    io: &'a T,
    operation: &'a mut F,
    result: Option<io::Result<R>>,
}

impl<T, R, F: FnMut(&T) -> io::Result<R>> Call<'_, T, R, F> {
    unsafe extern "C" fn run(data: *mut ()) -> IoPoll {
        // SAFETY: the `Call` of `poll_io`, which waits for this.
        let call = unsafe { &mut *data.cast::<Self>() };
        // The error is made afterwards: this runs for every read and write.
        let result = guard(None, || Some((call.operation)(call.io)))
            .unwrap_or_else(|| Err(io::Error::other("the operation panicked")));
        match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                IoPoll { tag: IoPoll::PENDING, val: 0 }
            }
            result => {
                call.result = Some(result);
                IoPoll { tag: IoPoll::READY, val: 0 }
            }
        }
    }
}

unsafe extern "C" fn run_task(data: *mut ()) {
    // SAFETY: the box of `Host::blocking`, handed over once.
    let task = unsafe { Box::from_raw(data.cast::<Box<dyn FnOnce() + Send>>()) };
    guard((), task);
}

unsafe extern "C" fn discard_task(data: *mut ()) {
    // SAFETY: the box of `Host::blocking`, handed over once.
    guard((), || drop(unsafe { Box::from_raw(data.cast::<Box<dyn FnOnce() + Send>>()) }));
}

/// Why blocking work has no result.
#[derive(Clone, Copy)]
enum Unfinished {
    Panicked,
    Discarded,
}

/// Tells who waits that the work is discarded, unless it has a result by then.
struct Finish<T>(std::sync::Arc<Blocking<T>>);

impl<T> Drop for Finish<T> {
    fn drop(&mut self) {
        self.0.finish(Err(Unfinished::Discarded));
    }
}

/// Where blocking work leaves its result.
struct Blocking<T>(std::sync::Mutex<BlockingState<T>>);

struct BlockingState<T> {
    result: Option<Result<T, Unfinished>>,
    waker: Option<std::task::Waker>,
    /// The first result counts.
    done: bool,
}

impl<T> Default for Blocking<T> {
    fn default() -> Self {
        Self(std::sync::Mutex::new(BlockingState { result: None, waker: None, done: false }))
    }
}

impl<T> Blocking<T> {
    fn finish(&self, result: Result<T, Unfinished>) {
        let waker = {
            let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if state.done {
                return;
            }
            state.done = true;
            state.result = Some(result);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<T, Unfinished>> {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(result) = state.result.take() {
            return Poll::Ready(result);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
