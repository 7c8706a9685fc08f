//! Descriptors that a plugin owns, in the host's reactor.
#![expect(unsafe_code, reason = "watches a descriptor that somebody else keeps open")]

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::task::{Context, Poll, ready};

use endpoints_plugin_api::abi::services::Watched;
use tokio::io::unix::AsyncFd;

/// A descriptor that a plugin keeps open while it is watched.
struct Raw(RawFd);

impl AsRawFd for Raw {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

/// A plugin's descriptor in the reactor.
pub(crate) struct Watch(AsyncFd<Raw>);

impl Watch {
    pub(crate) fn new(descriptor: RawFd) -> io::Result<Self> {
        // SAFETY: the contract of `HostVt::watch` has the plugin keep the descriptor open until this value is dropped.
        let watched = unsafe { AsyncFd::register(Raw(descriptor)) };
        watched.map(Self).map_err(io::Error::from)
    }
}

impl Watched for Watch {
    fn poll_io(
        &self,
        cx: &mut Context<'_>,
        write: bool,
        operation: &mut dyn FnMut() -> io::Result<()>,
    ) -> Poll<io::Result<()>> {
        loop {
            let ready = if write { self.0.poll_write_ready(cx) } else { self.0.poll_read_ready(cx) };
            let mut guard = ready!(ready)?;
            // Clears the readiness that was seen, and no later one, where the operation would block.
            if let Ok(done) = guard.try_io(|_| operation()) {
                return Poll::Ready(done);
            }
            let seen = guard.ready();
            if if write { seen.is_write_closed() } else { seen.is_read_closed() } {
                // It is ready from now on, whatever the operation says: others have their turn first.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }
}
