//! Programs, their standard input and output as connections.

use std::ffi::OsStr;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use endpoints_plugin_api::{
    Arguments, Connect, ConnectContext, Connection, Error, ErrorKind, Facts, Host, Interest, LogLevel,
    Readiness, name,
};
use rustix::fs::OFlags;
use rustix::process::{Pid, PidfdFlags};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{oneshot, watch};

/// How long the end of a program's output waits for the end of the program, which tells whether it succeeded.
const STATUS: Duration = Duration::from_millis(100);

/// A program to run.
pub(crate) struct Program {
    host: Host,
    settings: Arc<Settings>,
}

struct Settings {
    /// The program and its arguments.
    words: Vec<Vec<u8>>,
    directory: Option<PathBuf>,
    discard_errors: bool,
    grace: Duration,
}

impl Program {
    pub(crate) fn from_arguments(host: &Host, arguments: &Arguments<'_>) -> Result<Self, Error> {
        let settings = Settings {
            words: words(arguments.bytes("command")?)
                .map_err(|problem| Error::invalid_argument("command", problem))?,
            directory: arguments.opt_path("directory").map(PathBuf::from),
            discard_errors: arguments.text("stderr")? == "discard",
            grace: arguments.duration("grace")?,
        };
        Ok(Self { host: host.clone(), settings: Arc::new(settings) })
    }
}

/// Splits a command as a POSIX shell does.
fn words(command: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
    if command.contains(&0) {
        return Err("it has a NUL in it");
    }
    let words = shlex::bytes::split(command)
        .ok_or("a quotation has no end, or nothing follows the last backslash")?;
    match words.first() {
        None => Err("it names no program"),
        Some(program) if program.is_empty() => Err("the name of the program is empty"),
        Some(_) => Ok(words),
    }
}

impl Settings {
    fn program(&self) -> String {
        self.words.first().map(|word| String::from_utf8_lossy(word).into_owned()).unwrap_or_default()
    }

    fn start(&self) -> Result<Running, Error> {
        let mut words = self.words.iter().map(|word| OsStr::from_bytes(word));
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(directory) = &self.directory {
            // Otherwise its absence would look like that of the program.
            if !directory.is_dir() {
                let message = format!("{} is no directory", directory.display());
                return Err(Error::invalid_argument("directory", message));
            }
            command.current_dir(directory);
        }
        if self.discard_errors {
            command.stderr(Stdio::null());
        }
        let child = command
            .spawn()
            .map_err(|error| Error::from_io(format_args!("cannot run {:?}", self.program()), &error))?;
        Ok(Running(child))
    }
}

impl Connect for Program {
    async fn connect(&self, _context: ConnectContext) -> Result<Connection, Error> {
        let settings = Arc::clone(&self.settings);
        // Forking a large process takes its time.
        let mut running = self.host.blocking(move || settings.start()).await??;
        let id = running.0.id();
        let program = self.settings.program();
        let failed = |error: &io::Error| {
            Error::from_io(format_args!("cannot join {program:?} to a connection"), error)
        };
        let (Some(input), Some(output)) = (running.0.stdin.take(), running.0.stdout.take()) else {
            return Err(Error::new(ErrorKind::Internal, "the program has no standard streams"));
        };
        for pipe in [input.as_fd(), output.as_fd()] {
            let flags = rustix::fs::fcntl_getfl(pipe).map_err(|error| failed(&error.into()))?;
            rustix::fs::fcntl_setfl(pipe, flags | OFlags::NONBLOCK).map_err(|error| failed(&error.into()))?;
        }
        let handle = running.handle().map_err(|error| failed(&error))?;
        let handle = self.host.watch(handle)?;
        let (ended, status) = watch::channel(None);
        let (open, closed) = oneshot::channel();
        let stream = ProgramStream {
            input: Some(self.host.watch(input)?),
            output: self.host.watch(output)?,
            end: End::Reading,
            status,
            host: self.host.clone(),
            program: program.clone(),
            _open: open,
        };
        self.host.spawn(attend(self.host.clone(), running, handle, self.settings.grace, closed, ended))?;
        Ok(Connection::from_stream(stream).with_fact(name::PEER_PID, id.to_string()))
    }

    fn describe(&self) -> Facts {
        self.settings.words.iter().fold(Facts::new(), |facts, word| facts.with("word", word))
    }
}

/// A program that runs, until this is dropped.
struct Running(Child);

impl Running {
    /// Becomes readable when the program has ended.
    fn handle(&self) -> io::Result<OwnedFd> {
        Ok(rustix::process::pidfd_open(Pid::from_child(&self.0), PidfdFlags::NONBLOCK)?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            // Neither fails for a child that nobody else waits for; a killed one ends at once.
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// Waits for the end of a program, and brings it about after the connection's.
async fn attend(
    host: Host,
    mut running: Running,
    handle: Readiness<OwnedFd>,
    grace: Duration,
    closed: oneshot::Receiver<()>,
    ended: watch::Sender<Option<ExitStatus>>,
) {
    let mut end = async || {
        handle
            .io(Interest::Read, |_| running.0.try_wait()?.ok_or_else(|| io::ErrorKind::WouldBlock.into()))
            .await
    };
    let status = tokio::select! {
        status = end() => Some(status),
        // Never sent: it ends when the stream is dropped.
        _ = closed => host.timeout(grace, end()).await.ok(),
    };
    match status {
        Some(Ok(status)) => {
            let _ = ended.send(Some(status));
        }
        Some(Err(error)) => host.log(LogLevel::Warn, format_args!("cannot wait for a program: {error}")),
        None => {
            let id = running.0.id();
            host.log(
                LogLevel::Debug,
                format_args!("the program {id} goes on {grace:?} after its connection; killed"),
            );
        }
    }
}

/// The standard input and output of a program.
struct ProgramStream {
    /// Until it is shut down, or the program has closed it.
    input: Option<Readiness<ChildStdin>>,
    output: Readiness<ChildStdout>,
    end: End,
    status: watch::Receiver<Option<ExitStatus>>,
    host: Host,
    program: String,
    /// Tells, by being dropped, that the connection is closed.
    _open: oneshot::Sender<()>,
}

/// How far the output is.
enum End {
    Reading,
    /// It has ended, and whether the program succeeded is to be seen.
    Waiting(Pin<Box<dyn Future<Output = Option<ExitStatus>> + Send>>),
    Ended,
}

impl AsyncRead for ProgramStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match &mut this.end {
                End::Reading => {
                    if buf.remaining() == 0 {
                        return Poll::Ready(Ok(()));
                    }
                    let unfilled = buf.initialize_unfilled();
                    let mut read = |output: &ChildStdout| Ok(rustix::io::read(output, &mut *unfilled)?);
                    let count = ready!(this.output.poll_io(cx, Interest::Read, &mut read))?;
                    buf.advance(count);
                    if count > 0 {
                        return Poll::Ready(Ok(()));
                    }
                    let (host, mut status) = (this.host.clone(), this.status.clone());
                    this.end = End::Waiting(Box::pin(async move {
                        let ended = status.wait_for(Option::is_some);
                        host.timeout(STATUS, ended).await.ok()?.ok().and_then(|status| *status)
                    }));
                }
                End::Waiting(status) => {
                    let status = ready!(status.as_mut().poll(cx));
                    this.end = End::Ended;
                    if let Some(status) = status.filter(|status| !status.success()) {
                        // What came may not be all that there was to be.
                        return Poll::Ready(Err(io::Error::other(format!("{}: {status}", this.program))));
                    }
                }
                End::Ended => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl AsyncWrite for ProgramStream {
    /// A program need not read all that comes: what follows is thrown away, so that its output is not lost.
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let Some(input) = &this.input else { return Poll::Ready(Ok(buf.len())) };
        match ready!(input.poll_io(cx, Interest::Write, &mut |input| Ok(rustix::io::write(input, buf)?))) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                this.input = None;
                Poll::Ready(Ok(buf.len()))
            }
            written => Poll::Ready(written),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// A pipe ends by being closed.
    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().input = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_split_as_a_shell_does() {
        let split = |command: &str| words(command.as_bytes()).map(|words| words.join(&b'|'));
        assert_eq!(split("cat"), Ok(b"cat".to_vec()));
        assert_eq!(split(r#" sh -c 'a  b' "c d" e\ f"#), Ok(b"sh|-c|a  b|c d|e f".to_vec()));
        assert!(split("").unwrap_err().contains("no program"));
        assert!(split("  ").unwrap_err().contains("no program"));
        assert!(split("'' a").unwrap_err().contains("empty"));
        assert!(split("sh -c 'a").unwrap_err().contains("quotation"));
        assert!(split("a\0b").unwrap_err().contains("NUL"));
        assert_eq!(words(b"a\xff b"), Ok(vec![b"a\xff".to_vec(), b"b".to_vec()]));
    }
}
