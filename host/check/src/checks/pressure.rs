//! Peers that do not read, and what waiting costs.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use endpoints::Connection;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::finding::{Step, Verdict, ensure, fails, pattern, step_limit, within};
use crate::probe;
use crate::subject::{Pair, Subject};

/// What may lie on the way when the peer does not read: the buffers of sockets, and those of layers around them.
const ON_THE_WAY: usize = 64 << 20;

/// Writes until there is no room for a while; gives how much went.
pub(super) async fn fill(connection: &mut Connection, block: &[u8]) -> Verdict<usize> {
    let mut sent = 0;
    let mut room_at = Instant::now();
    loop {
        let offset = sent % block.len();
        let written = poll_fn(|cx| match Pin::new(&mut *connection).poll_write(cx, &block[offset..]) {
            Poll::Pending => Poll::Ready(None),
            Poll::Ready(written) => Poll::Ready(Some(written)),
        });
        match written.await {
            Some(written) => {
                sent += written.step("writing to a peer that does not read")?;
                room_at = Instant::now();
            }
            // What goes on in the background has its chance.
            None if room_at.elapsed() > Duration::from_millis(150) => return Ok(sent),
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
        if sent > ON_THE_WAY {
            return fails(format!(
                "{} MiB can be written to a peer that does not read: memory grows without end",
                sent >> 20
            ));
        }
    }
}

pub(super) async fn back_pressure(subject: &Subject) -> Verdict {
    let block = pattern(1 << 20, 9);
    for client_writes in [true, false] {
        let Pair { near, far, listener: _listener, .. } = subject.pair().await?;
        let (mut writer, mut reader) = if client_writes { (near, far) } else { (far, near) };
        let sent = fill(&mut writer, &block).await?;
        let reading = async {
            let (mut place, mut buffer) = (0, vec![0; 65_536]);
            loop {
                let count = reader.read(&mut buffer).await.step("reading what was held up")?;
                if count == 0 {
                    return Ok(place);
                }
                for byte in &buffer[..count] {
                    ensure(*byte == block[place % block.len()], || {
                        format!("byte {place} is not what was sent")
                    })?;
                    place += 1;
                }
            }
        };
        let ending = async { writer.shutdown().await.step("shutting down once there is room") };
        let both = async { tokio::try_join!(reading, ending) };
        let (read, ()) = within("reading what was held up", both).await??;
        ensure(read == sent, || {
            format!("{read} bytes arrive of {sent} that were sent before the peer read")
        })?;
    }
    Ok(())
}

pub(super) async fn idle(subject: &Subject) -> Verdict {
    let Pair { mut near, mut far, listener, .. } = subject.pair().await?;
    let polls = AtomicUsize::new(0);
    let reading = async {
        let mut byte = [0; 1];
        let mut other = [0; 1];
        tokio::select! {
            _ = near.read(&mut byte) => {}
            _ = far.read(&mut other) => {}
            _ = listener.accept() => {}
        }
    };
    let mut reading = std::pin::pin!(reading);
    let counted = poll_fn(|cx| {
        polls.fetch_add(1, Ordering::Relaxed);
        reading.as_mut().poll(cx)
    });
    let window = Duration::from_millis(500);
    let used_before = probe::processor_time().step("reading the processor time")?;
    let ended = tokio::time::timeout(window, counted).await;
    let used = probe::processor_time().step("reading the processor time")?.saturating_sub(used_before);
    ensure(ended.is_err(), || "reading, or accepting, ended though nobody did anything".into())?;
    let polls = polls.into_inner();
    ensure(polls < 50, || {
        format!("a connection and a listener that wait are woken {polls} times in {window:?}")
    })?;
    ensure(used < window / 4, || {
        format!("a connection and a listener that wait use {used:?} of processor time in {window:?}")
    })
}

/// The longest that a poll may take; a thread that serves thousands of connections waits for each.
const POLL: Duration = Duration::from_millis(100);

pub(super) async fn short_polls(subject: &Subject) -> Verdict {
    // The machine may be busy: what blocks does so each time.
    let mut shortest = (Duration::MAX, "");
    for _ in 0..4 {
        shortest = shortest.min(longest_poll(subject).await?);
    }
    let (time, what) = shortest;
    ensure(time < POLL, || {
        format!("{what} blocks its thread for {time:?}, where other connections wait for it")
    })
}

/// The longest poll while a connection lives, and what it was for.
async fn longest_poll(subject: &Subject) -> Verdict<(Duration, &'static str)> {
    let watch = Watch::default();
    let server = subject.server()?;
    let listener = watch.over("listening", server.listen()).await.step("listening")?;
    let client = subject.client_of(&listener)?;
    let both = async {
        tokio::try_join!(
            async { watch.over("connecting", client.connect()).await.step("connecting") },
            async {
                let incoming = watch.over("accepting", listener.accept()).await.step("accepting")?;
                watch.over("the handshake of an accepted connection", incoming).await.step("the handshake")
            },
        )
    };
    let (mut near, mut far) = match tokio::time::timeout(2 * step_limit(), both).await {
        Ok(both) => both?,
        Err(_) => return fails("connecting did not end"),
    };
    let mut bytes = [0; 4];
    watch.over("writing", near.write_all(b"ping")).await.step("writing")?;
    watch.over("flushing", near.flush()).await.step("flushing")?;
    watch.over("reading", within("reading", far.read_exact(&mut bytes))).await?.step("reading")?;
    watch.over("shutting down", near.shutdown()).await.step("shutting down")?;
    watch.over("closing the listener", listener.close()).await.step("closing the listener")?;
    Ok(watch.longest.into_inner())
}

#[derive(Default)]
struct Watch {
    longest: std::cell::Cell<(Duration, &'static str)>,
}

impl Watch {
    async fn over<F: IntoFuture>(&self, what: &'static str, future: F) -> F::Output {
        let mut future = std::pin::pin!(future.into_future());
        poll_fn(|cx| {
            let began = Instant::now();
            let polled = future.as_mut().poll(cx);
            self.longest.set(self.longest.get().max((began.elapsed(), what)));
            polled
        })
        .await
    }
}
