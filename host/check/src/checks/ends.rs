//! How connections end.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::finding::{
    Step, Verdict, end, ensure, expect, expect_end, expect_gone, fails, orderly_io, send, within,
};
use crate::memory;
use crate::subject::{Pair, Subject, settle};

pub(super) async fn half_close_client(subject: &Subject) -> Verdict {
    let Pair { near, far, listener: _listener, .. } = subject.pair().await?;
    half_close(near, far, ["the client", "the server"]).await
}

pub(super) async fn half_close_server(subject: &Subject) -> Verdict {
    let Pair { near, far, listener: _listener, .. } = subject.pair().await?;
    half_close(far, near, ["the server", "the client"]).await
}

async fn half_close(
    mut first: endpoints::Connection,
    mut second: endpoints::Connection,
    names: [&str; 2],
) -> Verdict {
    send(&mut first, b"last words", format!("from {}", names[0])).await?;
    end(&mut first, names[0]).await?;
    expect(&mut second, b"last words", "what came before the end").await?;
    expect_end(&mut second, format!("of what {} sent", names[0])).await?;
    send(&mut second, b"an answer", format!("from {} to {}, which has ended its side", names[1], names[0]))
        .await?;
    expect(&mut first, b"an answer", "the answer, after its own end").await?;
    end(&mut second, names[1]).await?;
    expect_end(&mut first, format!("of what {} sent", names[1])).await
}

pub(super) async fn end_stays(subject: &Subject) -> Verdict {
    let mut pair = subject.pair().await?;
    for _ in 0..2 {
        end(&mut pair.near, "one side").await?;
        for _ in 0..3 {
            expect_end(&mut pair.far, "again").await?;
        }
        std::mem::swap(&mut pair.near, &mut pair.far);
    }
    Ok(())
}

pub(super) async fn shutdown_twice(subject: &Subject) -> Verdict {
    let mut pair = subject.pair().await?;
    for _ in 0..2 {
        end(&mut pair.near, "one side").await?;
        let again = within("shutting down again", pair.near.shutdown()).await?;
        if let Err(error) = again {
            orderly_io("shutting down again", &error)?;
        }
        let writing = async {
            pair.near.write_all(b"after the end").await?;
            pair.near.flush().await
        };
        match within("writing after shutting down", writing).await? {
            Err(error) => orderly_io("writing after shutting down", &error)?,
            Ok(()) => return fails("writing after shutting down succeeds: nobody will ever read that"),
        }
        std::mem::swap(&mut pair.near, &mut pair.far);
    }
    Ok(())
}

pub(super) async fn drop_closes(subject: &Subject) -> Verdict {
    for client_first in [true, false] {
        let before = memory::open_streams();
        let mut pair = subject.pair().await?;
        pair.greet().await?;
        let (first, mut second) = if client_first { (pair.near, pair.far) } else { (pair.far, pair.near) };
        drop(first);
        expect_gone(
            &mut second,
            if client_first { "when the client is dropped" } else { "when the server is dropped" },
        )
        .await?;
        drop(second);
        ensure(settle(|| memory::open_streams() <= before).await, || {
            "the connection inside stays open when the one around it is dropped".into()
        })?;
    }
    Ok(())
}

pub(super) async fn write_to_nobody(subject: &Subject) -> Verdict {
    let mut pair = subject.pair().await?;
    pair.greet().await?;
    drop(pair.far);
    let block = vec![7; 65_536];
    let writing = async {
        // A peer that is gone can take no more than what lies on the way.
        for _ in 0..1_024 {
            pair.near.write_all(&block).await?;
            pair.near.flush().await?;
        }
        Ok::<(), std::io::Error>(())
    };
    match within("writing to a peer that is gone", writing).await? {
        Err(error) => orderly_io("writing to a peer that is gone", &error)?,
        Ok(()) => return fails("64 MiB can be written to a peer that is gone"),
    }
    let mut rest = [0; 16];
    match within("reading from a peer that is gone", pair.near.read(&mut rest)).await? {
        Err(error) => orderly_io("reading from a peer that is gone", &error),
        Ok(0) => Ok(()),
        Ok(_) => Err(std::io::Error::other("there are bytes of a peer that is gone")).step("reading"),
    }
}
