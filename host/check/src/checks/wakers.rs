//! Who is woken, and when.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use endpoints::Connection;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::pressure::fill;
use crate::finding::{Step, Verdict, ensure, expect, fails, pattern, send, within};
use crate::subject::{Pair, Subject, settle};

/// A waker that counts.
#[derive(Default)]
pub(super) struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Counter {
    pub(super) fn new() -> (Arc<Self>, Waker) {
        let counter = Arc::new(Self::default());
        (Arc::clone(&counter), Waker::from(counter))
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn poll_read(connection: &mut Connection, waker: &Waker) -> Poll<io::Result<Vec<u8>>> {
    let mut bytes = [0; 1024];
    let mut buf = ReadBuf::new(&mut bytes);
    let polled = Pin::new(connection).poll_read(&mut Context::from_waker(waker), &mut buf);
    polled.map_ok(|()| buf.filled().to_vec())
}

fn poll_write(connection: &mut Connection, waker: &Waker, bytes: &[u8]) -> Poll<io::Result<usize>> {
    Pin::new(connection).poll_write(&mut Context::from_waker(waker), bytes)
}

/// Polls a read that must wait.
fn must_wait(connection: &mut Connection, waker: &Waker) -> Verdict {
    match poll_read(connection, waker) {
        Poll::Pending => Ok(()),
        Poll::Ready(read) => {
            let read = read.step("reading")?;
            fails(format!("a read gives {} bytes though nobody has written", read.len()))
        }
    }
}

/// A connection that works, with either side as the near one.
async fn pair(subject: &Subject, turned: bool) -> Verdict<Pair> {
    let mut pair = subject.pair().await?;
    pair.greet().await?;
    if turned {
        std::mem::swap(&mut pair.near, &mut pair.far);
    }
    Ok(pair)
}

pub(super) async fn wakes_reader(subject: &Subject) -> Verdict {
    for turned in [false, true] {
        let mut pair = pair(subject, turned).await?;
        let (counter, waker) = Counter::new();
        must_wait(&mut pair.near, &waker)?;
        send(&mut pair.far, b"news", "to a waiting reader").await?;
        ensure(settle(|| counter.count() > 0).await, || "a waiting reader is not woken by bytes".into())?;
        expect(&mut pair.near, b"news", "what the reader was woken for").await?;
        let (counter, waker) = Counter::new();
        must_wait(&mut pair.near, &waker)?;
        crate::finding::end(&mut pair.far, "the other side").await?;
        ensure(settle(|| counter.count() > 0).await, || "a waiting reader is not woken by the end".into())?;
    }
    Ok(())
}

pub(super) async fn wakes_writer(subject: &Subject) -> Verdict {
    let block = pattern(1 << 20, 3);
    for turned in [false, true] {
        let mut pair = pair(subject, turned).await?;
        let sent = fill(&mut pair.near, &block).await?;
        let (counter, waker) = Counter::new();
        let sent = write_waits(&mut pair.near, &waker, &block, sent).await?;
        let mut buffer = vec![0; 65_536];
        let mut read = 0;
        // Not every byte that is read makes room for another.
        while read < sent && counter.count() == 0 {
            read += read_some(&mut pair.far, &mut buffer).await?;
            tokio::task::yield_now().await;
        }
        ensure(settle(|| counter.count() > 0).await, || {
            "a waiting writer is not woken when there is room".into()
        })?;
    }
    Ok(())
}

/// Writes until a write has to wait, which then waits with that waker; gives how much went in all. In the background room may
/// appear once more.
async fn write_waits(
    connection: &mut Connection,
    waker: &Waker,
    block: &[u8],
    mut sent: usize,
) -> Verdict<usize> {
    for _ in 0..20 {
        match poll_write(connection, waker, &block[sent % block.len()..]) {
            Poll::Pending => return Ok(sent),
            Poll::Ready(count) => sent += count.step("writing to a peer that does not read")?,
        }
        sent += fill(connection, &block[sent % block.len()..]).await?;
    }
    fails("there is always room for a peer that does not read")
}

/// Reads some of what was held up.
async fn read_some(connection: &mut Connection, buffer: &mut [u8]) -> Verdict<usize> {
    let doing = "reading what was held up";
    match within(doing, connection.read(buffer)).await?.step(doing)? {
        0 => fails("the connection ends while its peer waits for room"),
        count => Ok(count),
    }
}

pub(super) async fn last_waker(subject: &Subject) -> Verdict {
    for turned in [false, true] {
        let mut pair = pair(subject, turned).await?;
        let ((first, one), (second, two)) = (Counter::new(), Counter::new());
        must_wait(&mut pair.near, &one)?;
        must_wait(&mut pair.near, &two)?;
        send(&mut pair.far, b"news", "to the reader that polled last").await?;
        ensure(settle(|| second.count() > 0).await, || {
            let other = if first.count() > 0 { ", but the one before it" } else { "" };
            format!(
                "the waker of the last poll is not woken{other}: a task that took the connection over would hang"
            )
        })?;
    }
    Ok(())
}

pub(super) async fn both_directions(subject: &Subject) -> Verdict {
    let block = pattern(1 << 20, 4);
    for turned in [false, true] {
        let mut pair = pair(subject, turned).await?;
        let ((reader, to_read), (writer, to_write)) = (Counter::new(), Counter::new());
        let sent = fill(&mut pair.near, &block).await?;
        must_wait(&mut pair.near, &to_read)?;
        let sent = write_waits(&mut pair.near, &to_write, &block, sent).await?;
        send(&mut pair.far, b"news", "to a side that waits to read and to write").await?;
        ensure(settle(|| reader.count() > 0).await, || {
            "the reader is not woken by bytes while a writer waits with another waker".into()
        })?;
        expect(&mut pair.near, b"news", "what the reader was woken for").await?;
        // The other way round: the writer comes last.
        let (_, to_read) = Counter::new();
        must_wait(&mut pair.near, &to_read)?;
        let sent = write_waits(&mut pair.near, &to_write, &block, sent).await?;
        let (mut read, mut buffer, woken) = (0, vec![0; 65_536], writer.count());
        while read < sent && writer.count() == woken {
            read += read_some(&mut pair.far, &mut buffer).await?;
            tokio::task::yield_now().await;
        }
        ensure(settle(|| writer.count() > woken).await, || {
            "the writer is not woken by room while a reader waits with another waker".into()
        })?;
    }
    Ok(())
}

pub(super) async fn polls_unasked(subject: &Subject) -> Verdict {
    for turned in [false, true] {
        let mut pair = pair(subject, turned).await?;
        let (_, waker) = Counter::new();
        for _ in 0..1_000 {
            must_wait(&mut pair.near, &waker)?;
        }
        send(&mut pair.far, b"still here", "to a side that was polled a thousand times").await?;
        expect(&mut pair.near, b"still here", "after a thousand polls").await?;
    }
    Ok(())
}
