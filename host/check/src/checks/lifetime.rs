//! Threads, runtimes, and the order in which things end.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use endpoints::{ClientEndpoint, Connection, Listener, Registry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::child::runtime;
use crate::finding::{Step, Verdict, ensure, expect, fails, pattern, send, skips, step_limit, within};
use crate::subject::{Pair, Subject, connect};

/// One of the things that can be dropped.
enum Thing {
    Registry(#[expect(dead_code, reason = "only dropped")] Registry),
    Client(#[expect(dead_code, reason = "only dropped")] ClientEndpoint),
    Listener(#[expect(dead_code, reason = "only dropped")] Listener),
    Connection(Connection),
}

pub(super) fn drop_order(subject: &Subject) -> Verdict {
    let (began, limit) = (Instant::now(), Duration::from_millis(subject.task.milliseconds));
    runtime()?.block_on(async {
        // Where each connection takes its time, the first orders have to do.
        for order in permutations(5).into_iter().take_while(|_| began.elapsed() < limit) {
            // Each in a registry of its own, so that the last reference goes too.
            let own = Subject::new(&subject.task)?;
            let mut pair = own.pair().await?;
            pair.greet().await?;
            let Subject { registry, .. } = own;
            let Pair { near, far, listener, client } = pair;
            let mut things = [
                Some(Thing::Registry(registry)),
                Some(Thing::Client(client)),
                Some(Thing::Listener(listener)),
                Some(Thing::Connection(near)),
                Some(Thing::Connection(far)),
            ];
            for place in order {
                things[place] = None;
                tokio::task::yield_now().await;
                // What is left still works, or says why not.
                for thing in things.iter_mut().flatten() {
                    if let Thing::Connection(connection) = thing
                        && let Err(error) =
                            within("writing to what is left", connection.write_all(b"x")).await?
                    {
                        crate::finding::orderly_io("writing to what is left", &error)?;
                    }
                }
            }
        }
        Ok(())
    })
}

/// All orders of so many things.
fn permutations(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(count - 1);
    let insert = |order: Vec<usize>| {
        (0..count).map(move |place| {
            let mut order = order.clone();
            order.insert(place, count - 1);
            order
        })
    };
    shorter.into_iter().flat_map(insert).collect()
}

pub(super) fn runtime_gone(subject: &Subject) -> Verdict {
    for waiting in [false, true] {
        let runtime = runtime()?;
        let (pair, pending) = runtime.block_on(async {
            let mut pair = subject.pair().await?;
            pair.greet().await?;
            let mut pending = None;
            if waiting {
                // Something that waits when the runtime ends.
                let client = pair.client.clone();
                pending = Some(Box::pin(async move { client.connect().await }));
                if let Some(connecting) = &mut pending {
                    let _ = tokio::time::timeout(Duration::from_millis(5), connecting.as_mut()).await;
                }
            }
            Ok((pair, pending))
        })?;
        drop(runtime);
        drop(pending);
        drop(pair);
    }
    // In another runtime everything works as before.
    runtime()?.block_on(async { subject.pair().await?.greet().await })
}

pub(super) fn two_runtimes(subject: &Subject) -> Verdict {
    // The endpoints are made once, and outlive the first runtime.
    let server = subject.server()?;
    for round in 1..=3 {
        runtime()?.block_on(async {
            let doing = format!("listening in runtime {round}");
            let listener = within(&doing, server.listen()).await?.step(&doing)?;
            let client = subject.client_of(&listener)?;
            let (near, far) = connect(&client, &listener).await?;
            let mut pair = Pair { near, far, listener, client };
            pair.greet().await?;
            within("closing", pair.listener.close()).await?.step("closing the listener")
        })?;
    }
    Ok(())
}

/// A runtime as most programs have it.
fn many_threads() -> Verdict<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .step("making a runtime")
}

pub(super) fn threads(subject: &Subject) -> Verdict {
    let runtime = many_threads()?;
    let Pair { listener, client, .. } = runtime.block_on(subject.pair())?;
    let echoing = runtime.spawn(async move {
        while let Ok(incoming) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(connection) = incoming.await else { return };
                let (mut reader, mut writer) = tokio::io::split(connection);
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
                let _ = writer.shutdown().await;
            });
        }
    });
    let (sender, results) = mpsc::channel();
    for thread in 0..4_u8 {
        let (client, sender, handle) = (client.clone(), sender.clone(), runtime.handle().clone());
        std::thread::spawn(move || {
            for round in 0..25 {
                let done = handle.block_on(echo(&client, thread * 25 + round));
                if sender.send(done).is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);
    for _ in 0..100 {
        match results.recv_timeout(4 * step_limit()) {
            Ok(done) => done?,
            Err(_) => return fails("connections made on several threads at once do not get on"),
        }
    }
    echoing.abort();
    Ok(())
}

/// A connection to a listener that echoes.
async fn echo(client: &ClientEndpoint, seed: u8) -> Verdict {
    let mut connection = within("connecting", client.connect()).await?.step("connecting")?;
    let bytes = pattern(10_000, seed);
    send(&mut connection, &bytes, "among other threads").await?;
    expect(&mut connection, &bytes, "what comes back among other threads").await?;
    within("shutting down", connection.shutdown()).await?.step("shutting down")?;
    let mut rest = Vec::new();
    within("reading the end", connection.read_to_end(&mut rest)).await?.step("reading the end")?;
    ensure(rest.is_empty(), || "there are bytes that nobody sent".into())
}

pub(super) fn moves(subject: &Subject) -> Verdict {
    let runtime = Arc::new(many_threads()?);
    let Pair { near, far, listener, client } = runtime.block_on(subject.pair())?;
    let mut ends = Some((near, far));
    for round in 0..8 {
        let taken = ends.take();
        let handle = runtime.handle().clone();
        let used = std::thread::spawn(move || {
            handle.block_on(async move {
                let Some((mut near, mut far)) = taken else { return fails("the connection is gone") };
                send(&mut near, &[round], "on another thread").await?;
                expect(&mut far, &[round], "on another thread").await?;
                send(&mut far, &[round], "on another thread").await?;
                expect(&mut near, &[round], "on another thread").await?;
                Ok((near, far))
            })
        });
        match used.join() {
            Ok(used) => ends = Some(used?),
            Err(_) => return fails("using the connection on another thread panics"),
        }
    }
    // Dropped on another thread than any that used it, which has no runtime.
    let dropped = std::thread::spawn(move || drop((ends, listener, client)));
    dropped.join().or_else(|_| fails("dropping everything on another thread panics"))
}

/// How many connections are open at once.
const AT_ONCE: u8 = 200;

pub(super) async fn many_at_once(subject: &Subject) -> Verdict {
    let Pair { near, far, listener, client } = subject.pair().await?;
    let mut open = vec![(near, far)];
    let (began, limit) = (Instant::now(), Duration::from_millis(subject.task.milliseconds / 2));
    for _ in 1..AT_ONCE {
        if began.elapsed() > limit {
            return skips(format!("only {} connections were made in the time that there is", open.len()));
        }
        open.push(connect(&client, &listener).await?);
    }
    for (place, (near, far)) in (0_u8..).zip(&mut open) {
        send(near, &[place; 100], "on one of many connections").await?;
        send(far, &[place ^ 0xff; 100], "on one of many connections").await?;
    }
    for (place, (near, far)) in (0_u8..).zip(&mut open) {
        expect(far, &[place; 100], "on one of many connections").await?;
        expect(near, &[place ^ 0xff; 100], "on one of many connections").await?;
    }
    Ok(())
}
