//! Bytes that go through a connection.

use std::io::IoSlice;

use endpoints::Connection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::finding::{Step, Verdict, end, ensure, expect, expect_end, pattern, send, within};
use crate::subject::{Pair, Subject};

pub(super) async fn connect(subject: &Subject) -> Verdict {
    let mut pair = subject.pair().await?;
    pair.greet().await?;
    // Everything can be used again: the listener and the endpoint.
    let (near, far) = crate::subject::connect(&pair.client, &pair.listener).await?;
    Pair { near, far, ..pair }.greet().await
}

/// The bytes of one direction in the check of many.
const BULK: usize = 4 << 20;

pub(super) async fn bulk(subject: &Subject) -> Verdict {
    let Pair { near, far, listener: _listener, .. } = subject.pair().await?;
    let there = async |connection, seed| exchange(connection, seed).await;
    tokio::try_join!(there(near, 1), there(far, 2)).map(drop)
}

/// Sends one pattern and reads the other, in pieces of all sizes, then reads the end.
async fn exchange(mut connection: Connection, seed: u8) -> Verdict {
    let (sent, expected) = (pattern(BULK, seed), pattern(BULK, 3 - seed));
    let (mut reader, mut writer) = tokio::io::split(&mut connection);
    let writing = async {
        let (mut rest, mut size) = (sent.as_slice(), 1);
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(size.min(rest.len()));
            writer.write_all(piece).await.step("writing much")?;
            (rest, size) = (after, size * 7 % 70_001 + 1);
        }
        writer.flush().await.step("flushing")?;
        writer.shutdown().await.step("shutting down")
    };
    let reading = async {
        let (mut read, mut place, mut size) = (vec![0; 100_000], 0, 1);
        loop {
            let count = reader.read(&mut read[..size]).await.step("reading much")?;
            if count == 0 {
                break;
            }
            let same = expected.get(place..place + count) == Some(&read[..count]);
            ensure(same, || format!("of {BULK} bytes those from {place} on are not what was sent"))?;
            (place, size) = (place + count, size * 11 % 90_001 + 1);
        }
        ensure(place == BULK, || format!("the end came after {place} of {BULK} bytes"))
    };
    within_long(async { tokio::try_join!(writing, reading).map(drop) }).await
}

/// As [`within`], for what takes a while.
async fn within_long(step: impl Future<Output = Verdict>) -> Verdict {
    let limit = 6 * crate::finding::step_limit();
    match tokio::time::timeout(limit, step).await {
        Ok(done) => done,
        Err(_) => {
            crate::finding::fails(format!("sending {BULK} bytes both ways did not end within {limit:?}"))
        }
    }
}

pub(super) async fn single_bytes(subject: &Subject) -> Verdict {
    let mut pair = subject.pair().await?;
    for _ in 0..2 {
        let bytes = pattern(300, 5);
        let writing = async {
            for byte in &bytes {
                send(&mut pair.near, &[*byte], "one byte").await?;
            }
            Ok(())
        };
        let reading = async {
            for byte in &bytes {
                expect(&mut pair.far, &[*byte], "one byte").await?;
            }
            Ok(())
        };
        tokio::try_join!(writing, reading)?;
        std::mem::swap(&mut pair.near, &mut pair.far);
    }
    Ok(())
}

pub(super) async fn vectored(subject: &Subject) -> Verdict {
    let mut pair = subject.pair().await?;
    let bytes = pattern(40_000, 7);
    let (one, two) = bytes.split_at(3);
    let (two, three) = two.split_at(20_000);
    let pieces = [&[], one, &[], two, three, &[]];
    let mut slices = pieces.map(IoSlice::new);
    let mut slices = slices.as_mut_slice();
    let writing = async {
        while slices.iter().any(|slice| !slice.is_empty()) {
            let count = pair.near.write_vectored(slices).await.step("a vectored write")?;
            ensure(count != 0, || "a vectored write of some bytes took none".into())?;
            IoSlice::advance_slices(&mut slices, count);
        }
        pair.near.flush().await.step("flushing")
    };
    let reading = expect(&mut pair.far, &bytes, "the pieces of vectored writes");
    within("vectored writes", async { tokio::try_join!(writing, reading).map(drop) }).await?
}

pub(super) async fn empty_buffers(subject: &Subject) -> Verdict {
    let mut pair = subject.pair().await?;
    for _ in 0..2 {
        let count = within("writing no bytes", pair.near.write(&[])).await?.step("writing no bytes")?;
        ensure(count == 0, || format!("a write of no bytes claims {count}"))?;
        send(&mut pair.near, b"x", "after a write of no bytes").await?;
        let count = within("reading no bytes", pair.far.read(&mut [])).await?.step("reading no bytes")?;
        ensure(count == 0, || format!("a read of no bytes claims {count}"))?;
        expect(&mut pair.far, b"x", "after a read of no bytes").await?;
        std::mem::swap(&mut pair.near, &mut pair.far);
    }
    end(&mut pair.near, "the client").await?;
    expect_end(&mut pair.far, "after reads and writes of no bytes").await
}

pub(super) async fn flush(subject: &Subject) -> Verdict {
    // What is inside keeps bytes until it is told to flush.
    let mut pair = subject.pair_with("hold=1", "hold=1").await?;
    for (place, size) in [1, 100, 20_000].into_iter().enumerate() {
        let bytes = pattern(size, u8::try_from(place).unwrap_or(0));
        send(&mut pair.near, &bytes, "and flushing").await?;
        expect(&mut pair.far, &bytes, "what was written and flushed").await?;
        std::mem::swap(&mut pair.near, &mut pair.far);
    }
    let doing = "flushing with nothing to flush";
    within(doing, pair.near.flush()).await?.step(doing)
}
