//! What is left behind by many connections.

use std::time::{Duration, Instant};

use crate::finding::{Finding, Step, Verdict, ensure, fails, orderly, within};
use crate::probe;
use crate::subject::{Pair, Subject, connect};

use super::cancel::Open;

pub(super) async fn close_on_exec(subject: &Subject) -> Verdict {
    let before = probe::descriptors().step("looking at descriptors")?;
    let mut pair = subject.pair().await?;
    pair.greet().await?;
    probe::all_close_on_exec(&before)
}

/// Makes connections one after another until there were enough, or the time is over; gives how many. `looked` is told
/// after every hundred.
async fn many(subject: &Subject, pair: &Pair, mut looked: impl FnMut(usize) -> Verdict) -> Verdict<usize> {
    let (began, limit) = (Instant::now(), Duration::from_millis(subject.task.milliseconds));
    for made in 1..=subject.task.connections {
        let (near, far) = connect(&pair.client, &pair.listener).await?;
        let mut both = Both { near, far };
        both.use_it(made).await?;
        if made % 100 == 0 {
            looked(made)?;
        }
        if began.elapsed() > limit {
            return Ok(made);
        }
    }
    Ok(subject.task.connections)
}

struct Both {
    near: endpoints::Connection,
    far: endpoints::Connection,
}

impl Both {
    async fn use_it(&mut self, made: usize) -> Verdict {
        let bytes = made.to_le_bytes();
        crate::finding::send(&mut self.near, &bytes, "on one of many connections").await?;
        crate::finding::expect(&mut self.far, &bytes, "on one of many connections").await
    }
}

pub(super) async fn descriptors(subject: &Subject) -> Verdict {
    let mut pair = subject.pair().await?;
    pair.greet().await?;
    let before = Open::now()?;
    let made = many(subject, &pair, |_| Ok(())).await?;
    before.is_still_so(&format!("{made} connections")).await
}

/// What the memory in use may grow by for each connection, and besides: allocators keep some for later.
const PER_CONNECTION: u64 = 200;
const BESIDES: u64 = 1 << 20;

pub(super) async fn memory(subject: &Subject) -> Verdict {
    let mut pair = subject.pair().await?;
    pair.greet().await?;
    let mut seen = Vec::new();
    let made = many(subject, &pair, |made| {
        seen.push((made, probe::memory().step("reading the memory in use")?));
        Ok(())
    })
    .await?;
    // The first connections fill caches.
    let Some((&(from, first), &(to, last))) = seen.get(seen.len() / 5).zip(seen.last()) else {
        return Err(Finding::Skips(format!("only {made} connections were made in the time that there is")));
    };
    let grown = last.saturating_sub(first);
    let allowed = (to - from) as u64 * PER_CONNECTION + BESIDES;
    ensure(grown <= allowed, || {
        format!(
            "{} connections leave {} KiB of memory in use, {} bytes each",
            to - from,
            grown >> 10,
            grown / (to - from) as u64
        )
    })
}

pub(super) async fn threads(subject: &Subject) -> Verdict {
    let mut pair = subject.pair().await?;
    pair.greet().await?;
    let before = probe::threads().step("counting threads")?;
    // A plugin may have some threads of its own, and the host some that block for it; but not one for each connection.
    let bound = before + 64;
    many(subject, &pair, |made| {
        let now = probe::threads().step("counting threads")?;
        ensure(now <= bound, || {
            format!("after {made} connections there are {now} threads, and there were {before}")
        })
    })
    .await
    .map(drop)
}

pub(super) async fn failures(subject: &Subject) -> Verdict {
    let client = match subject.needs_wrapper() {
        Ok(()) => subject.client_alone(&Subject::inner("nobody", ""))?,
        Err(_) => {
            let pair = subject.pair().await?;
            within("closing", pair.listener.close()).await?.step("closing the listener")?;
            pair.client
        }
    };
    let once = async || match within("connecting where nobody listens", client.connect()).await? {
        Ok(_) => fails("connecting succeeds though nobody listens"),
        Err(error) => orderly("connecting where nobody listens", &error),
    };
    once().await?;
    let before = Open::now()?;
    let (began, limit) = (Instant::now(), Duration::from_millis(subject.task.milliseconds));
    let mut made = 0;
    while made < subject.task.connections.min(1_000) && began.elapsed() < limit {
        once().await?;
        made += 1;
    }
    before.is_still_so(&format!("{made} failed connections")).await
}
