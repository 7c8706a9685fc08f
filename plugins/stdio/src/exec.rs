//! Programs, their standard input and output as connections.

use std::ffi::OsStr;
use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use endpoints_plugin_api::{
    Arguments, Connect, ConnectContext, Connection, Error, ErrorKind, Facts, Host, Interest, Readiness, name,
};
use rustix::fs::OFlags;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{oneshot, watch};

use self::process::{Ended, Running, attend};

mod process;

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

    /// Starts the program; blocks.
    fn start(&self, host: &Host) -> Result<(Running, ChildStdin, ChildStdout), Error> {
        let mut words = self.words.iter().map(|word| OsStr::from_bytes(word));
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
        // What it starts itself can be killed with it then.
        command.process_group(0);
        crate::sys::keep_activation_from(&mut command);
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
        let failed =
            |error: &io::Error| Error::from_io(format_args!("cannot run {:?}", self.program()), error);
        let mut child = command.spawn().map_err(|error| failed(&error))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let running = Running::new(child, host.clone()).map_err(|error| failed(&error))?;
        match (input, output) {
            (Some(input), Some(output)) => Ok((running, input, output)),
            _ => Err(Error::new(ErrorKind::Internal, "the program has no standard streams")),
        }
    }
}

impl Connect for Program {
    async fn connect(&self, _context: ConnectContext) -> Result<Connection, Error> {
        let settings = Arc::clone(&self.settings);
        // Forking a large process takes its time.
        let host = self.host.clone();
        let (running, input, output) = self.host.blocking(move || settings.start(&host)).await??;
        let id = running.id();
        let program = self.settings.program();
        let failed = |error: &io::Error| {
            Error::from_io(format_args!("cannot join {program:?} to a connection"), error)
        };
        for pipe in [input.as_fd(), output.as_fd()] {
            let flags = rustix::fs::fcntl_getfl(pipe).map_err(|error| failed(&error.into()))?;
            rustix::fs::fcntl_setfl(pipe, flags | OFlags::NONBLOCK).map_err(|error| failed(&error.into()))?;
        }
        let handle = self.host.watch(running.handle())?;
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
        self.host.spawn(attend(running, handle, self.settings.grace, closed, ended))?;
        Ok(Connection::from_stream(stream).with_fact(name::PEER_PID, id.to_string()))
    }

    fn describe(&self) -> Facts {
        self.settings.words.iter().fold(Facts::new(), |facts, word| facts.with("word", word))
    }
}

/// The standard input and output of a program.
struct ProgramStream {
    /// Until it is shut down, or the program has closed it.
    input: Option<Readiness<ChildStdin>>,
    output: Readiness<ChildStdout>,
    end: End,
    status: watch::Receiver<Option<Ended>>,
    host: Host,
    program: String,
    /// Tells, by being dropped, that the connection is closed.
    _open: oneshot::Sender<()>,
}

/// How far the output is.
enum End {
    Reading,
    /// It has ended, and whether the program succeeded is to be seen.
    Waiting(Pin<Box<dyn Future<Output = Option<Ended>> + Send>>),
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
                        match host.timeout(STATUS, ended).await.ok()? {
                            Ok(ended) => ended.clone(),
                            Err(_) => Some(Err("nobody waits for it any more".to_owned())),
                        }
                    }));
                }
                End::Waiting(status) => {
                    let ended = ready!(status.as_mut().poll(cx));
                    this.end = End::Ended;
                    // What came may not be all that there was to be.
                    let problem = match ended {
                        Some(Ok(status)) if !status.success() => status.to_string(),
                        Some(Err(why)) => format!("whether it succeeded is unknown: {why}"),
                        _ => continue,
                    };
                    return Poll::Ready(Err(io::Error::other(format!("{}: {problem}", this.program))));
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
