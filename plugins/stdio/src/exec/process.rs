//! A program that runs: how it ends, and how it is made to.
//!
//! Everything goes by a pidfd: a number alone could be another process's by the time that it is signalled.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use endpoints_plugin_api::{Host, Interest, LogLevel, Readiness};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus};
use tokio::sync::{oneshot, watch};

/// How a program ended, or why that is not known.
pub(super) type Ended = Result<ExitStatus, String>;

/// A program that runs in a process group of its own. Dropping it kills the group, and waits for nothing.
pub(super) struct Running {
    host: Host,
    process: Pid,
    /// Becomes readable when the program has ended.
    handle: Arc<OwnedFd>,
    /// Its status has been read, or is not to be had: the number may be another's.
    ended: bool,
}

impl Running {
    /// Blocks if it fails.
    pub(super) fn new(mut child: Child, host: Host) -> io::Result<Self> {
        let process = Pid::from_child(&child);
        match rustix::process::pidfd_open(process, PidfdFlags::NONBLOCK) {
            Ok(handle) => Ok(Self { host, process, handle: Arc::new(handle), ended: false }),
            // No descriptor left, say.
            Err(error) => {
                let _ = child.kill().and_then(|()| child.wait());
                Err(error.into())
            }
        }
    }

    pub(super) fn id(&self) -> i32 {
        self.process.as_raw_nonzero().get()
    }

    /// What to watch for its end.
    pub(super) fn handle(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.handle)
    }

    /// Its status, once it has ended.
    fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let waited = wait(&self.handle, WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        self.ended = !matches!(waited, Ok(None));
        Ok(waited?.map(|status| exit_status(&status)))
    }

    /// # Cancel safety
    /// Nothing is lost.
    async fn end(&mut self, handle: &Readiness<Arc<OwnedFd>>) -> io::Result<ExitStatus> {
        handle.io(Interest::Read, |_| self.try_wait()?.ok_or_else(|| io::ErrorKind::WouldBlock.into())).await
    }

    /// Kills it and what it has started, as far as that has stayed in its process group.
    fn kill(&self) {
        // As long as nobody has read its status, the number of the group is not given to another. The kernel itself may
        // have (SIGCHLD is ignored); there is no handle for a group, so this look must do.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let group = match wait(&self.handle, look) {
            Ok(_) => rustix::process::kill_process_group(self.process, Signal::KILL),
            Err(error) => Err(error),
        };
        // It may have joined another group.
        let alone = rustix::process::pidfd_send_signal(&self.handle, Signal::KILL);
        for error in [group, alone].into_iter().filter_map(Result::err) {
            if !matches!(error, Errno::SRCH | Errno::CHILD) {
                let message =
                    format_args!("cannot kill the program {}: {}", self.id(), io::Error::from(error));
                self.host.log(LogLevel::Warn, message);
                break;
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended || !matches!(self.try_wait(), Ok(None)) {
            return;
        }
        self.kill();
        // When it ends is up to the system, and up to itself if it may not be killed. This is a thread that others'
        // connections need, so another one waits. If none can be started, the program's entry stays until this process
        // ends.
        let handle = Arc::clone(&self.handle);
        let reap = move || {
            let _ = rustix::fs::fcntl_setfl(&handle, OFlags::empty());
            let _ = wait(&handle, WaitIdOptions::EXITED);
        };
        let _ = thread::Builder::new().name("endpoints-reaper".into()).spawn(reap);
    }
}

fn wait(handle: &OwnedFd, options: WaitIdOptions) -> rustix::io::Result<Option<WaitIdStatus>> {
    rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::PidFd(handle.as_fd()), options))
}

/// The status as wait(2) encodes it.
fn exit_status(status: &WaitIdStatus) -> ExitStatus {
    const CORE_DUMPED: i32 = 0x80;
    let core = if status.dumped() { CORE_DUMPED } else { 0 };
    match status.terminating_signal() {
        Some(signal) => ExitStatus::from_raw(signal | core),
        None => ExitStatus::from_raw(status.exit_status().unwrap_or_default() << 8),
    }
}

/// Waits for the end of a program, and brings it about after the connection's.
pub(super) async fn attend(
    mut running: Running,
    handle: Readiness<Arc<OwnedFd>>,
    grace: Duration,
    closed: oneshot::Receiver<()>,
    ended: watch::Sender<Option<Ended>>,
) {
    let host = running.host.clone();
    let status = tokio::select! {
        status = running.end(&handle) => Some(status),
        // Never sent: it ends when the stream is dropped.
        _ = closed => None,
    };
    let status = match status {
        Some(status) => status,
        None => match host.timeout(grace, running.end(&handle)).await {
            Ok(status) => status,
            Err(_) => {
                let id = running.id();
                host.log(
                    LogLevel::Debug,
                    format_args!("the program {id} goes on {grace:?} after its connection; killed"),
                );
                running.kill();
                running.end(&handle).await
            }
        },
    };
    if let Err(error) = &status {
        host.log(LogLevel::Warn, format_args!("cannot tell how the program {} ended: {error}", running.id()));
    }
    let _ = ended.send(Some(status.map_err(|error| error.to_string())));
}
