//! Operations that are given up halfway.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::path::PathBuf;
use std::task::{Context, Poll};
use std::time::Duration;

use endpoints::{ConnectContext, ErrorKind, Listener};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::wakers::Counter;
use crate::finding::{Step, Verdict, ensure, expect, fails, orderly, send, step_limit, told, within};
use crate::memory;
use crate::probe;
use crate::subject::{Pair, Subject, connect, settle};

/// Polls an operation at most so many times, and gives it up then.
async fn at_most<F: IntoFuture>(polls: usize, operation: F) -> Option<F::Output> {
    let mut operation = Box::pin(operation.into_future());
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match operation.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Polls an operation once, for a task that nobody else has, and gives it up.
fn poll_once<F: Future>(operation: F) -> Poll<F::Output> {
    let (_, waker) = Counter::new();
    let mut operation = std::pin::pin!(operation);
    operation.as_mut().poll(&mut Context::from_waker(&waker))
}

/// The most points at which an operation is given up.
const POINTS: usize = 100;

/// What is open in this process.
#[derive(Clone, Debug)]
pub(super) struct Open {
    descriptors: BTreeMap<u32, PathBuf>,
    streams: usize,
}

impl Open {
    pub(super) fn now() -> Verdict<Self> {
        let descriptors = probe::descriptors().step("looking at descriptors")?;
        Ok(Self { descriptors, streams: memory::open_streams() })
    }

    /// Fails if more is open than before, also after a while.
    pub(super) async fn is_still_so(&self, after: &str) -> Verdict {
        let is_less = || {
            let count = probe::descriptor_count().unwrap_or(usize::MAX);
            count <= self.descriptors.len() + 1 && memory::open_streams() <= self.streams
        };
        if settle(is_less).await {
            return Ok(());
        }
        let now = Self::now()?;
        if now.streams > self.streams {
            let (before, now) = (self.streams, now.streams);
            return fails(format!(
                "after {after} {now} connections inside are open, and {before} were before"
            ));
        }
        let new = now.descriptors.iter().find(|(number, _)| !self.descriptors.contains_key(number));
        let example = new.map(|(number, target)| format!(", such as {number}: {}", target.display()));
        let (before, now) = (self.descriptors.len(), now.descriptors.len());
        fails(format!(
            "after {after} {now} descriptors are open, and {before} were before{}",
            example.unwrap_or_default()
        ))
    }
}

/// Accepts whatever comes, and drops it, as long as it is polled.
async fn accept_all(listener: &Listener) -> Verdict<std::convert::Infallible> {
    loop {
        match listener.accept().await {
            Ok(incoming) => {
                // A client that gave up is no fault of the server's.
                if let Ok(Err(error)) =
                    tokio::time::timeout(Duration::from_millis(200), incoming.into_future()).await
                {
                    orderly("the handshake with a client that gave up", &error)?;
                }
            }
            Err(error) if error.kind() == ErrorKind::Closed => {
                return fails(format!("the listener ends when a client gives up: {}", told(&error)));
            }
            Err(error) => orderly("accepting when a client gave up", &error)?,
        }
    }
}

pub(super) async fn connecting(subject: &Subject) -> Verdict {
    let Pair { near, far, listener, client } = subject.pair().await?;
    drop((near, far));
    let giving_up = async {
        within("settling", tokio::time::sleep(Duration::from_millis(50))).await?;
        let before = Open::now()?;
        for polls in 0..POINTS {
            match tokio::time::timeout(step_limit(), at_most(polls, client.connect())).await {
                Ok(None) => {}
                Ok(Some(connected)) => {
                    connected.step("connecting, after other attempts were given up,")?;
                    break;
                }
                Err(_) => return fails(format!("connecting did not end within {:?}", step_limit())),
            }
        }
        before.is_still_so("attempts to connect that were given up").await
    };
    tokio::select! {
        done = giving_up => done?,
        failed = accept_all(&listener) => match failed? {},
    }
    // It goes on working, once those that gave up are accepted and gone.
    let asking = async {
        let mut near = within("connecting", client.connect()).await?.step("connecting")?;
        send(&mut near, b"ping", "after attempts that were given up").await?;
        expect(&mut near, b"pong", "the answer, after attempts that were given up").await
    };
    tokio::select! {
        done = asking => done,
        failed = answer_all(&listener) => failed,
    }
}

/// Answers the clients that ask, as long as it is polled.
async fn answer_all(listener: &Listener) -> Verdict {
    loop {
        let incoming = listener.accept().await.step("accepting")?;
        let answering = async {
            let mut far = incoming.await?;
            let mut asked = [0; 4];
            far.read_exact(&mut asked).await?;
            far.write_all(b"pong").await?;
            far.flush().await?;
            // The asker has it before the connection ends.
            far.read(&mut asked).await
        };
        let _gave_up = tokio::time::timeout(step_limit(), answering).await;
    }
}

pub(super) async fn listen(subject: &Subject) -> Verdict {
    subject.role(true)?;
    // Whatever is made once for all is made now.
    drop(subject.listen().await?);
    let before = Open::now()?;
    for polls in 0..POINTS {
        let server = subject.server()?;
        match tokio::time::timeout(step_limit(), at_most(polls, server.listen())).await {
            Ok(None) => {}
            Ok(Some(Ok(listener))) => {
                within("closing", listener.close()).await?.step("closing a listener")?;
                break;
            }
            // One that was given up may need a moment to be gone.
            Ok(Some(Err(error))) if error.kind() == ErrorKind::AddressInUse => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(Some(Err(error))) => return fails(format!("listening failed: {}", told(&error))),
            Err(_) => return fails(format!("starting to listen did not end within {:?}", step_limit())),
        }
    }
    before.is_still_so("listening that was given up").await?;
    drop(subject.listen().await?);
    Ok(())
}

pub(super) async fn accept(subject: &Subject) -> Verdict {
    let Pair { near, far, listener, client } = subject.pair().await?;
    drop((near, far));
    for round in 0..20 {
        let connecting = async { within("connecting", client.connect()).await?.step("connecting") };
        let accepting = async {
            // Each time by another task, as far as wakers can tell.
            for _ in 0..5 {
                if let Poll::Ready(accepted) = poll_once(listener.accept()) {
                    return Ok(accepted);
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            match tokio::time::timeout(step_limit(), listener.accept()).await {
                Ok(accepted) => Ok(accepted),
                Err(_) => fails("a connection is lost when an accept is given up: it never arrives"),
            }
        };
        let handshake = async {
            within("the handshake", accepting.await?.step("accepting")?.into_future())
                .await?
                .step("the handshake")
        };
        let (near, far) = tokio::try_join!(connecting, handshake)?;
        let mut pair = (near, far);
        crate::finding::send(&mut pair.0, &[round], "after accepts were given up").await?;
        crate::finding::expect(&mut pair.1, &[round], "after accepts were given up").await?;
    }
    Ok(())
}

pub(super) async fn handshake(subject: &Subject) -> Verdict {
    let Pair { near, far, listener, client } = subject.pair().await?;
    drop((near, far));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let before = Open::now()?;
    for polls in 0..POINTS {
        let connecting = tokio::time::timeout(step_limit(), client.connect());
        let giving_up = async {
            let incoming = within("accepting", listener.accept()).await?.step("accepting")?;
            let done = at_most(polls, incoming).await;
            match done {
                None => Ok(false),
                Some(done) => done.step("the handshake, after others were given up,").map(|_| true),
            }
        };
        // The client has its connection, or learns that the server gave up: either way soon.
        let both = async { tokio::join!(connecting, giving_up) };
        let (connected, finished) =
            within("connecting to a server that gives the handshake up", both).await?;
        match connected {
            Ok(Err(error)) => orderly("connecting to a server that gives the handshake up", &error)?,
            Err(_) => return fails("a client goes on waiting for a server that has given the handshake up"),
            Ok(Ok(_)) => {}
        }
        if finished? {
            break;
        }
    }
    before.is_still_so("handshakes that were given up").await?;
    connect(&client, &listener).await.map(drop)
}

pub(super) async fn time_limit(subject: &Subject) -> Verdict {
    subject.needs_wrapper()?;
    let client = subject.client_alone(&Subject::inner("nobody", "connect=hangs"))?;
    let before = Open::now()?;
    let context = ConnectContext::new().with_timeout(Duration::from_millis(50));
    match within("connecting with a time limit of 50 ms", client.connect_with(context)).await? {
        Ok(_) => fails("connecting succeeds though the endpoint inside does not connect"),
        Err(error) => ensure(error.kind() == ErrorKind::TimedOut, || {
            format!(
                "connecting to what hangs fails with another error than that of the time limit: {}",
                told(&error)
            )
        }),
    }?;
    before.is_still_so("a connect that took too long").await
}
