//! A command run for each connection.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::pin::Pin;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use endpoints::forward::{Traffic, relay};
use endpoints::{Connection, Error, ErrorKind};
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::events::{peer_and_local, tell};
use crate::output::harmless;
use crate::service;
use crate::work::{Open, kind_of};

/// How long an accepted connection whose command is gone may go on. What the peer sends meanwhile is read and thrown away:
/// closing with something unread would reset the connection, and what the peer has not read yet would be lost.
pub(crate) const LINGER: Duration = Duration::from_secs(30);

/// The same for one that is kept up, from when all was sent: the peer may wait for the next connection before it closes this one.
pub(crate) const SHORT_LINGER: Duration = Duration::from_secs(3);

/// What a service manager tells the process that it starts: it is not meant for that one's children, which would take its sockets
/// or speak in its name.
const FROM_THE_MANAGER: [&str; 6] =
    ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];

/// What this program is called with to become a command that has a lower limit of descriptors: the limit and the command
/// follow. It can be lowered in the command's own process alone.
pub(crate) const CHILD: &str = "become-command";

/// Becomes the command, unless that fails.
pub(crate) fn become_command(arguments: &[OsString]) -> ExitCode {
    let [limit, program, arguments @ ..] = arguments else { return ExitCode::FAILURE };
    let limited = match limit.to_str().and_then(|limit| limit.parse().ok()) {
        Some(limit) => service::limit_descriptors(limit),
        None => Err(io::ErrorKind::InvalidInput.into()),
    };
    let error = match limited {
        Ok(()) => std::process::Command::new(program).args(arguments).exec(),
        Err(error) => error,
    };
    tell(&harmless(&format!("cannot run {}: {error}", program.to_string_lossy())));
    // As shells have it.
    ExitCode::from(127)
}

/// The groups of commands that run.
static GROUPS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Kills all commands, and what they have started with them: for when this process ends at once.
pub(crate) fn kill_all() {
    for leader in GROUPS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        kill_group(*leader);
    }
}

fn kill_group(leader: i32) {
    if let Some(leader) = Pid::from_raw(leader) {
        // Those that may not be killed go on.
        let _ = rustix::process::kill_process_group(leader, Signal::KILL);
    }
}

/// Runs a command with its standard input and output joined to a connection; ends with the command, and when the peer ends
/// too or has had so long. The command is killed, and what it has started with it, when the connection breaks and when this
/// is dropped.
pub(crate) async fn exec(
    command: &[OsString],
    mut connection: Connection,
    linger: Duration,
    open: &mut Open<'_>,
) -> Result<(), Error> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Error::new(ErrorKind::Internal, "there is no command to run"));
    };
    let info = connection.info();
    let (peer, local) = peer_and_local(&info);
    let lower = service::lower_descriptor_limit();
    let is_limited = lower.is_some();
    let mut command = match lower {
        None => Command::new(program),
        Some(limit) => {
            let mut command = Command::new("/proc/self/exe");
            command.arg(CHILD).arg(limit.to_string()).arg(program);
            command
        }
    };
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    // What it starts itself can be killed with it then.
    command.process_group(0);
    for name in FROM_THE_MANAGER {
        command.env_remove(name);
    }
    // Sets the flag that closes the sockets in the command. The one that is listened on has been taken, and nobody takes
    // another. Where it fails there are none.
    let _ = sd_notify::listen_fds();
    for (name, address) in [("ENDPOINTS_PEER", peer), ("ENDPOINTS_LOCAL", local)] {
        command.env(name, OsStr::from_bytes(&address.unwrap_or_default()));
    }
    let failed = |what: &str, error: &io::Error| {
        Error::new(ErrorKind::Other, format!("{what} {}: {error}", program.to_string_lossy()))
    };
    let cannot = if is_limited {
        "cannot run /proc/self/exe, which lowers the limit of descriptors, for"
    } else {
        "cannot run"
    };
    let mut child = command.spawn().map_err(|error| failed(cannot, &error))?;
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let mut group = Group::new(child);
    open.connected(&info);
    let traffic = &mut open.traffic;
    let ended = Arc::new(Notify::new());
    let mut pipes = Pipes { input, output, ended: Arc::clone(&ended) };
    let gone = async {
        ended.notified().await;
        let _ = group.wait().await;
    };
    let joined = tokio::select! {
        joined = relay(&mut connection, &mut pipes, None, traffic) => Some(joined),
        () = gone => None,
    };
    drop(pipes);
    let joined = match joined {
        Some(joined) => joined,
        // All of its output is written; a peer that reads nothing has as long as any.
        None => timeout(LINGER, end(&mut connection, linger, traffic)).await.unwrap_or(Ok(())),
    };
    drop(connection);
    // Not that a peer reads no more: it need not read all that comes, and the command may have something to finish.
    let broke = joined.err().filter(|error| error.kind() != io::ErrorKind::BrokenPipe);
    if let Some(error) = broke {
        group.kill();
        let _ = group.wait().await;
        let program = program.to_string_lossy();
        let message = format!("the connection broke, which ends {program}: {error}");
        return Err(Error::new(kind_of(&error, ErrorKind::Other), message));
    }
    let status = group.wait().await.map_err(|error| failed("cannot wait for", &error))?;
    if !status.success() {
        return Err(Error::new(ErrorKind::Other, format!("{}: {status}", program.to_string_lossy())));
    }
    Ok(())
}

/// Ends the sending direction, and throws away what still comes, for so long at most.
async fn end(connection: &mut Connection, linger: Duration, traffic: &mut Traffic) -> io::Result<()> {
    match connection.shutdown().await {
        // It is gone already, which is an end too.
        Err(error) if error.kind() != io::ErrorKind::NotConnected => return Err(error),
        _ => {}
    }
    let rest = async {
        let mut buf = vec![0; 16 * 1024];
        loop {
            match connection.read(&mut buf).await {
                Ok(0) => return Ok(()),
                Ok(count) => traffic.bytes_in += count as u64,
                // It is idle, and nothing is missing.
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    };
    timeout(linger, rest).await.unwrap_or(Ok(()))
}

/// A command in a process group of its own, which is killed when this is dropped.
struct Group {
    /// Until this is dropped.
    child: Option<Child>,
    /// Until its status has been read.
    leader: Option<i32>,
}

impl Group {
    fn new(child: Child) -> Self {
        let leader = child.id().and_then(|number| i32::try_from(number).ok());
        if let Some(leader) = leader {
            GROUPS.lock().unwrap_or_else(PoisonError::into_inner).insert(leader);
        }
        Self { child: Some(child), leader }
    }

    /// Waits for the end of the command.
    async fn wait(&mut self) -> io::Result<ExitStatus> {
        let Some(child) = &mut self.child else { return Err(io::ErrorKind::NotFound.into()) };
        let status = child.wait().await?;
        self.forget();
        Ok(status)
    }

    fn kill(&self) {
        if let Some(leader) = self.leader {
            kill_group(leader);
        }
    }

    /// Once its status has been read, the number may be given to another group.
    fn forget(&mut self) {
        if let Some(leader) = self.leader.take() {
            GROUPS.lock().unwrap_or_else(PoisonError::into_inner).remove(&leader);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let goes_on = self.leader.is_some();
        self.kill();
        self.forget();
        // Whoever only drops it leaves it to chance when it is waited for: it would stay a zombie until the next one ends.
        if let (true, Some(mut child), Ok(runtime)) = (goes_on, self.child.take(), Handle::try_current()) {
            runtime.spawn(async move { child.wait().await });
        }
    }
}

/// The standard input and output of a command. It need not read all that comes: the rest is thrown away.
struct Pipes {
    input: Option<ChildStdin>,
    output: Option<ChildStdout>,
    /// Told when the output has ended.
    ended: Arc<Notify>,
}

impl AsyncRead for Pipes {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(output) = &mut self.output else { return Poll::Ready(Ok(())) };
        let before = buf.filled().len();
        let read = Pin::new(output).poll_read(cx, buf);
        if matches!(read, Poll::Ready(Ok(()))) && buf.filled().len() == before {
            self.ended.notify_one();
        }
        read
    }
}

impl AsyncWrite for Pipes {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Some(input) = &mut self.input else { return Poll::Ready(Ok(buf.len())) };
        match ready!(Pin::new(input).poll_write(cx, buf)) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.input = None;
                Poll::Ready(Ok(buf.len()))
            }
            written => Poll::Ready(written),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.as_mut().map_or(Poll::Ready(Ok(())), |input| Pin::new(input).poll_flush(cx))
    }

    /// A pipe ends by being closed.
    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input = None;
        Poll::Ready(Ok(()))
    }
}
