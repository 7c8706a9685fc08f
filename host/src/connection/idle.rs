//! The idle limit of a connection.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Connection;
use crate::idle::{Alarm, Idle};

/// Watches a connection. Reading and writing may wait in two tasks, so each has a timer, armed when it first waits.
#[derive(Debug)]
pub(super) struct Watch {
    idle: Idle,
    reading: Alarm,
    writing: Alarm,
}

impl Watch {
    /// What a read gives: bytes that came, or the error when it has waited too long.
    pub(super) fn read<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.idle.moved();
            return polled;
        }
        self.idle.poll(cx, &mut self.reading).map(Err)
    }

    /// The same for a write.
    pub(super) fn write<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.idle.moved();
        }
        self.wait(cx, polled)
    }

    /// The same for what moves no bytes itself: flushing, shutting down.
    pub(super) fn wait<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            return polled;
        }
        self.idle.poll(cx, &mut self.writing).map(Err)
    }
}

impl Connection {
    /// Ends waiting on it when nothing was read or written for so long, from now on; `None` for no limit, as at first.
    ///
    /// A read, a write, a flush or a shutdown that waits then fails with [`io::ErrorKind::TimedOut`]. What need not wait
    /// goes on: a last word can still be written, and counts as movement. The peer sees the end when the connection is
    /// dropped.
    ///
    /// A limit costs a look at the clock with every read and write, and one timer for each direction that waits; none costs
    /// nothing. Waiting needs a tokio runtime with its timer then.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example() -> std::io::Result<()> {
    /// use std::time::Duration;
    ///
    /// use tokio::io::AsyncReadExt;
    ///
    /// let mut connection = endpoints::client("tcp:host=example.com:port=80")?.connect().await?;
    /// connection.set_idle_timeout(Some(Duration::from_secs(60)));
    /// let mut bytes = Vec::new();
    /// connection.read_to_end(&mut bytes).await?; // however long it takes, as long as something comes each minute
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_idle_timeout(&mut self, limit: Option<Duration>) {
        self.idle = limit.map(|limit| {
            let idle = Idle::new(limit);
            Box::new(Watch { idle, reading: Alarm::default(), writing: Alarm::default() })
        });
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::advance;

    use super::*;
    use crate::stream::Stream;

    const LIMIT: Duration = Duration::from_secs(10);

    fn poll<F: Future>(future: F) -> Poll<F::Output> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn is_over(polled: Poll<io::Result<usize>>) -> bool {
        matches!(polled, Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::TimedOut)
    }

    /// A connection whose socket is known to take bytes, and to have three.
    async fn pair() -> (Connection, std::os::unix::net::UnixStream) {
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut connection = Connection::new(Stream::from_socket(near.into()).unwrap(), None);
        io::Write::write_all(&mut &far, b"1234").unwrap();
        connection.write_all(b"x").await.unwrap();
        assert_eq!(connection.read(&mut [0]).await.unwrap(), 1);
        (connection, far)
    }

    #[tokio::test(start_paused = true)]
    async fn what_moves_counts_and_what_waits_does_not() {
        let (mut connection, _far) = pair().await;
        let nearly = LIMIT - Duration::from_secs(1);
        connection.set_idle_timeout(Some(LIMIT));
        for _ in 0..3 {
            advance(nearly).await;
            assert!(poll(connection.read(&mut [0])).is_ready());
        }
        advance(nearly).await;
        assert!(poll(connection.read(&mut [0])).is_pending());
        for _ in 0..3 {
            assert!(poll(connection.write(b"x")).is_ready());
            advance(nearly).await;
            // Neither waiting nor flushing is movement.
            assert!(poll(connection.read(&mut [0])).is_pending());
            assert!(poll(connection.flush()).is_ready());
        }
        advance(Duration::from_secs(2)).await;
        assert!(is_over(poll(connection.read(&mut [0]))));
        assert!(is_over(poll(connection.read(&mut [0]))), "it stays so");
        connection.set_idle_timeout(None);
        assert!(poll(connection.read(&mut [0])).is_pending());
    }

    #[tokio::test(start_paused = true)]
    async fn an_endless_limit_is_none() {
        let (mut connection, _far) = pair().await;
        connection.set_idle_timeout(Some(Duration::MAX));
        connection.read_exact(&mut [0; 3]).await.unwrap();
        assert!(poll(connection.read(&mut [0])).is_pending());
        advance(100 * LIMIT).await;
        assert!(poll(connection.read(&mut [0])).is_pending());
    }

    #[tokio::test(start_paused = true)]
    async fn writing_is_watched_too() {
        let (mut connection, _far) = pair().await;
        connection.set_idle_timeout(Some(LIMIT));
        while poll(connection.write(&[7; 1 << 16])).is_ready() {}
        advance(LIMIT - Duration::from_secs(1)).await;
        assert!(poll(connection.write(b"x")).is_pending());
        advance(Duration::from_secs(2)).await;
        assert!(is_over(poll(connection.write(b"x"))));
        let pieces = [io::IoSlice::new(b"x")];
        assert!(is_over(poll(connection.write_vectored(&pieces))));
    }
}
