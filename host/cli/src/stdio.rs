//! Standard input and output as one stream, to be relayed to a connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, Stdin, Stdout};
use tokio::time::{Instant, Sleep, sleep};

/// How long input may be silent once the peer has closed, until the connection is over.
const SILENCE: Duration = Duration::from_millis(500);

/// Reads standard input and writes standard output.
///
/// A peer that closes ends the connection also where standard input stays open: what is on its way is still sent, and
/// the input counts as ended when nothing has come for a moment. Nobody can know sooner, since a peer that closes looks
/// like one that only stops sending.
pub(crate) struct Stdio {
    input: Stdin,
    output: Stdout,
    /// Runs once the peer has closed.
    silence: Option<Pin<Box<Sleep>>>,
    nobody_reads: bool,
    /// Who waits for input, which may end without any coming.
    reader: Option<Waker>,
}

impl Stdio {
    pub(crate) fn new() -> Self {
        Self {
            input: tokio::io::stdin(),
            output: tokio::io::stdout(),
            silence: None,
            nobody_reads: false,
            reader: None,
        }
    }

    /// Whether standard output is a pipe that nobody reads any more.
    pub(crate) fn nobody_reads(&self) -> bool {
        self.nobody_reads
    }

    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn written<T>(&mut self, result: io::Result<T>) -> Poll<io::Result<T>> {
        if matches!(&result, Err(error) if error.kind() == io::ErrorKind::BrokenPipe) {
            self.nobody_reads = true;
            self.wake_reader();
        }
        Poll::Ready(result)
    }
}

impl AsyncRead for Stdio {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.nobody_reads {
            return Poll::Ready(Ok(()));
        }
        if let Poll::Ready(read) = Pin::new(&mut self.input).poll_read(cx, buf) {
            if let Some(silence) = &mut self.silence {
                silence.as_mut().reset(Instant::now() + SILENCE);
            }
            return Poll::Ready(read);
        }
        if let Some(silence) = &mut self.silence {
            return silence.as_mut().poll(cx).map(Ok);
        }
        self.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for Stdio {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.output).poll_write(cx, buf));
        self.written(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.output).poll_flush(cx));
        self.written(flushed)
    }

    /// The peer has closed.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        self.silence.get_or_insert_with(|| Box::pin(sleep(SILENCE)));
        self.wake_reader();
        Poll::Ready(Ok(()))
    }
}
