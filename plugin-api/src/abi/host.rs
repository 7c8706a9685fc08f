//! What the host lends a plugin.

use super::bytes::RSlice;
use super::conn::RConn;
use super::context::RContext;
use super::endpoint::REndpointResult;
use super::error::RError;
use super::future::RFuture;
use super::io::IoPoll;
use abi_stable::StableAbi;

/// The host of one plugin instance. Counted: `create` is given one count; `retain` and `release` what is kept.
#[repr(C)]
#[derive(Debug, StableAbi)]
pub struct RHost {
    /// The host's own.
    pub data: *const (),
    /// The host's functions: a [`HostVt`], which grows, so its layout is not compared.
    #[sabi(unsafe_opaque_field)]
    pub vt: *const HostVt,
}

/// The host's services. Each may be called from any thread; those that need a reactor use the runtime of the calling
/// thread, or the registry's own where that has none.
#[repr(C)]
#[derive(Debug)]
pub struct HostVt {
    /// Bytes in this table.
    pub size: usize,
    /// Counts one more user.
    pub retain: unsafe extern "C" fn(data: *const ()),
    /// Counts one user less.
    pub release: unsafe extern "C" fn(data: *const ()),
    /// Makes an endpoint (role: [`CLIENT`] or [`SERVER`]) from a description.
    pub endpoint:
        unsafe extern "C" fn(data: *const (), role: u32, description: RSlice, out: *mut REndpointResult),
    /// Takes over a non-blocking internet socket whose connect is under way: a future of an [`RConn`] that ends when it is
    /// connected or has failed. The connect of a Unix socket is never under way: give it to `adopt` when it is connected.
    pub finish_connect: unsafe extern "C" fn(data: *const (), fd: i32) -> RFuture,
    /// Takes over a connected stream socket and gives it back as a stream of the host.
    pub adopt: unsafe extern "C" fn(data: *const (), fd: i32, out: *mut RConn),
    /// Watches a non-blocking descriptor, which stays the plugin's and must stay open until the readiness is dropped.
    pub watch: unsafe extern "C" fn(data: *const (), fd: i32, out: *mut RReadinessResult),
    /// A future of an [`RUnit`](super::future::RUnit) that ends after so many nanoseconds.
    pub sleep: unsafe extern "C" fn(data: *const (), nanoseconds: u64) -> RFuture,
    /// Drives a future of an [`RUnit`](super::future::RUnit) to its end.
    pub spawn: unsafe extern "C" fn(data: *const (), future: RFuture) -> RError,
    /// Calls `work` with the pointer, on a thread where blocking is allowed; or `discard`, where that will not come to
    /// pass, be it because of the error that is returned or because the runtime ends. One of them is called, once.
    pub spawn_blocking: unsafe extern "C" fn(
        data: *const (),
        work: unsafe extern "C" fn(argument: *mut ()),
        discard: unsafe extern "C" fn(argument: *mut ()),
        argument: *mut (),
    ) -> RError,
    /// A future of an [`RBytesResult`](super::future::RBytesResult): the socket addresses of a name, as text, one a line,
    /// in the order of the resolver.
    pub resolve: unsafe extern "C" fn(data: *const (), name: RSlice, port: u16) -> RFuture,
    /// Whether a message of that level would be seen: 1 error, 2 warning, 3 information, 4 debugging, 5 trace.
    pub log_enabled: unsafe extern "C" fn(data: *const (), level: u32) -> u32,
    /// Logs a line.
    pub log: unsafe extern "C" fn(data: *const (), level: u32, line: RSlice),
}

/// The role of an endpoint that connects.
pub const CLIENT: u32 = 1;
/// The role of an endpoint that listens.
pub const SERVER: u32 = 2;

/// Readiness for reading: bytes, the end of the stream, or a connection to accept.
pub const READABLE: u32 = 1;
/// Readiness for writing, or the end of a connect that was under way.
pub const WRITABLE: u32 = 2;

/// Readiness of a watched descriptor.
#[repr(C)]
#[derive(Debug)]
pub struct RReadiness {
    /// The host's own.
    pub data: *mut (),
    /// The host's functions.
    pub vt: *const ReadinessVt,
}

/// The functions of a readiness.
#[repr(C)]
#[derive(Debug)]
pub struct ReadinessVt {
    /// Bytes in this table.
    pub size: usize,
    /// Waits until the descriptor is ready for reading ([`READABLE`])
    /// or writing ([`WRITABLE`]), then calls `operation` with the pointer;
    /// where that answers [`IoPoll::PENDING`] (it would block), waits again. Its other answers count as done: it leaves
    /// what came of it behind the pointer. It runs within this call, never twice at once. May be called several times at
    /// once; in each direction the last waker to wait may be the only one that is woken.
    pub poll_io: unsafe extern "C" fn(
        data: *const (),
        cx: *const RContext,
        interest: u32,
        operation: unsafe extern "C" fn(argument: *mut ()) -> IoPoll,
        argument: *mut (),
    ) -> IoPoll,
    /// Stops watching; the descriptor stays open.
    pub drop: unsafe extern "C" fn(data: *mut ()),
}

/// What watching a descriptor comes to.
#[repr(C)]
#[derive(Debug)]
pub struct RReadinessResult {
    /// Bytes in this structure.
    pub size: usize,
    /// Set where it failed.
    pub error: RError,
    /// The readiness, where it did not.
    pub readiness: RReadiness,
}

// SAFETY: `repr(C)`, size first; zeroes are no error and no readiness.
unsafe impl super::Sized0 for RReadinessResult {}
