//! Descriptors that the plugin owns, in the reactor.
#![expect(unsafe_code, reason = "watches a descriptor that somebody else keeps open")]

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;

use super::host::Open;
use crate::abi::services::Watched;

/// A descriptor that the plugin keeps open while it is watched.
struct Raw(RawFd);

impl AsRawFd for Raw {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

/// The plugin's descriptor in the reactor.
pub(super) struct Watch {
    descriptor: AsyncFd<Raw>,
    _open: Open,
}

impl Watch {
    pub(super) fn new(descriptor: RawFd, open: Open) -> io::Result<Self> {
        // SAFETY: the contract of `HostVt::watch` has the plugin keep the descriptor open until this value is dropped.
        let descriptor = unsafe { AsyncFd::register(Raw(descriptor)) }.map_err(io::Error::from)?;
        Ok(Self { descriptor, _open: open })
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
            let ready = if write {
                self.descriptor.poll_write_ready(cx)
            } else {
                self.descriptor.poll_read_ready(cx)
            };
            let mut guard = ready!(ready)?;
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
