//! What a wrapper makes of the endpoint inside.

use std::time::Duration;

use endpoints::ErrorKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::cancel::Open;
use crate::finding::{
    Step, Verdict, end, ensure, expect, expect_end, fails, orderly, orderly_io, pattern, send, step_limit,
    told, within,
};
use crate::subject::{Pair, Subject, connect};

pub(super) async fn silent_peer(subject: &Subject) -> Verdict {
    subject.needs_wrapper()?;
    let name = subject.fresh_name();
    let inner = Subject::inner(&name, "");
    let listener = subject.listen_around(&inner).await?;
    let client = subject.client_around(&listener, Some(&inner))?;
    let silent = subject.registry.client(&inner).step("making a bare client")?;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(within("connecting", silent.connect()).await?.step("connecting bare")?);
    }
    // Their handshakes are left waiting, as somebody who serves many would.
    let mut handshakes = tokio::task::JoinSet::new();
    for _ in 0..3 {
        match tokio::time::timeout(step_limit(), listener.accept()).await {
            Ok(incoming) => {
                let incoming = incoming.step("accepting")?;
                handshakes.spawn(async move { incoming.await.map(drop) });
            }
            Err(_) => {
                return fails(
                    "accepting waits for the bytes of a peer: one that says nothing delays everybody",
                );
            }
        }
    }
    match tokio::time::timeout(step_limit(), connect(&client, &listener)).await {
        Ok(connected) => connected.map(drop),
        Err(_) => fails("while a peer says nothing, nobody else can connect"),
    }
}

pub(super) async fn early_end(subject: &Subject) -> Verdict {
    subject.needs_wrapper()?;
    let name = subject.fresh_name();
    let inner = Subject::inner(&name, "");
    let noise = pattern(70_000, 13);
    let words: [&[u8]; 6] = [b"", b"\0", b"GET / HTTP/1.1\r\n\r\n", &[0xff; 300], &noise[..100], &noise];
    // To the server.
    let listener = subject.listen_around(&inner).await?;
    let bare = subject.registry.client(&inner).step("making a bare client")?;
    for word in words {
        let talking = async {
            let mut connection = within("connecting", bare.connect()).await?.step("connecting bare")?;
            // The server may hang up whenever it likes.
            let _ = connection.write_all(word).await;
            let _ = connection.shutdown().await;
            let mut answer = Vec::new();
            let _ = tokio::time::timeout(step_limit(), connection.read_to_end(&mut answer)).await;
            Ok(())
        };
        let serving = async {
            let incoming = within("accepting", listener.accept()).await?.step("accepting")?;
            let what =
                format!("the handshake with a peer that sends {} bytes of nonsense and ends", word.len());
            match within(&what, incoming.into_future()).await? {
                Err(error) => orderly(&what, &error),
                Ok(mut connection) => {
                    let mut rest = Vec::new();
                    match within(&what, connection.read_to_end(&mut rest)).await? {
                        Err(error) => orderly_io(&what, &error),
                        Ok(_) => Ok(()),
                    }
                }
            }
        };
        tokio::try_join!(talking, serving)?;
    }
    let client = subject.client_around(&listener, Some(&inner))?;
    connect(&client, &listener).await?;
    drop(listener);
    // To the client.
    let bare = subject
        .registry
        .server(&inner)
        .step("making a bare server")?
        .listen()
        .await
        .step("listening bare")?;
    for word in words {
        let talking = async {
            let mut connection = within("accepting", bare.accept())
                .await?
                .step("accepting bare")?
                .await
                .step("accepting bare")?;
            let _ = connection.write_all(word).await;
            let _ = connection.shutdown().await;
            let mut answer = Vec::new();
            let _ =
                tokio::time::timeout(Duration::from_millis(100), connection.read_to_end(&mut answer)).await;
            Ok(())
        };
        let connecting = async {
            let what = format!("connecting to a peer that sends {} bytes of nonsense and ends", word.len());
            match within(&what, client.connect()).await? {
                Err(error) => orderly(&what, &error),
                Ok(mut connection) => {
                    let mut rest = Vec::new();
                    match within(&what, connection.read_to_end(&mut rest)).await? {
                        Err(error) => orderly_io(&what, &error),
                        Ok(_) => Ok(()),
                    }
                }
            }
        };
        tokio::try_join!(talking, connecting)?;
    }
    Ok(())
}

pub(super) async fn trickle(subject: &Subject) -> Verdict {
    subject.needs_wrapper()?;
    for conduct in ["most=1:pending=1", "most=3", "pending=1:capacity=16384"] {
        let Pair { mut near, mut far, listener: _listener, .. } = subject.pair_with(conduct, conduct).await?;
        let bytes = pattern(3_000, 21);
        let there = async {
            send(&mut near, &bytes, "through an endpoint that takes little at a time").await?;
            end(&mut near, "the client").await
        };
        let here = async {
            expect(&mut far, &bytes, "what went through an endpoint that takes little at a time").await?;
            expect_end(&mut far, "of it").await
        };
        tokio::try_join!(there, here)?;
        let back = send(&mut far, &bytes, "back through an endpoint that takes little at a time");
        let read = expect(&mut near, &bytes, "what came back through it");
        tokio::try_join!(back, read)?;
    }
    Ok(())
}

pub(super) async fn error(subject: &Subject) -> Verdict {
    subject.needs_wrapper()?;
    // Somewhere in the handshake, or after it.
    for after in [0, 1, 7, 100, 5_000] {
        let conduct = format!("fail-after={after}");
        let name = subject.fresh_name();
        let listener = subject.listen_around(&Subject::inner(&name, "")).await?;
        let client = subject.client_around(&listener, Some(&Subject::inner(&name, &conduct)))?;
        let serving = async {
            let incoming = within("accepting", listener.accept()).await?.step("accepting")?;
            let what = "the handshake with a peer whose connection is reset";
            match within(what, incoming.into_future()).await? {
                Err(error) => orderly(what, &error)?,
                Ok(mut far) => {
                    let mut rest = Vec::new();
                    if let Err(error) = within("reading", far.read_to_end(&mut rest)).await? {
                        orderly_io("reading from a peer whose connection is reset", &error)?;
                    }
                }
            }
            Ok(())
        };
        let using = async {
            let what = format!("connecting, with the connection inside reset after {after} bytes,");
            let mut near = match within(&what, client.connect()).await? {
                Err(error) => return orderly(&what, &error),
                Ok(near) => near,
            };
            let writing = async {
                let block = vec![1; 1_000];
                for _ in 0..1_000 {
                    near.write_all(&block).await?;
                    near.flush().await?;
                }
                Ok::<(), std::io::Error>(())
            };
            match within("writing to a connection that is reset", writing).await? {
                Ok(()) => fails("a megabyte can be written though the connection inside was reset"),
                Err(error) => orderly_io("writing to a connection that is reset", &error),
            }?;
            let mut byte = [0; 1];
            match within("reading from a connection that is reset", near.read(&mut byte)).await? {
                Ok(0) => fails(
                    "a reset of the connection inside looks like its orderly end: what was cut short seems whole",
                ),
                Ok(_) => Ok(()),
                Err(error) => orderly_io("reading from a connection that is reset", &error),
            }
        };
        tokio::try_join!(serving, using)?;
    }
    Ok(())
}

pub(super) async fn refused(subject: &Subject) -> Verdict {
    subject.needs_wrapper()?;
    let client = subject.client_alone(&Subject::inner("nobody", ""))?;
    match within("connecting where nobody listens inside", client.connect()).await? {
        Ok(_) => fails("connecting succeeds though nobody listens inside"),
        Err(error) => {
            orderly("connecting where nobody listens inside", &error)?;
            ensure(error.kind() == ErrorKind::ConnectionRefused && error.is_retryable(), || {
                format!("that nobody listens inside is told as something else: {}", told(&error))
            })
        }
    }
}

pub(super) async fn panic(subject: &Subject) -> Verdict {
    subject.needs_wrapper()?;
    // They are meant, so nobody needs to read about them.
    std::panic::set_hook(Box::new(|_| {}));
    let before = Open::now()?;
    for conduct in ["connect=panics", "panic=read", "panic=write", "panic=drop"] {
        let name = subject.fresh_name();
        let bare = subject.registry.server(Subject::inner(&name, "")).step("making a bare server")?;
        let bare = bare.listen().await.step("listening bare")?;
        let client = subject.client_alone(&Subject::inner(&name, conduct))?;
        let accepting = async {
            // Says nothing: a handshake may wait for it.
            let accepted = bare.accept().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(accepted);
            std::future::pending::<()>().await;
        };
        let using = async {
            let what = format!("an endpoint inside that panics ({conduct})");
            // Whatever comes of it, it must come: a process that is aborted is found by who waits for it.
            if let Ok(mut connection) = within(&what, client.connect()).await? {
                let mut byte = [0; 1];
                let _ = within(&what, connection.write_all(b"x")).await?;
                let _ = within(&what, connection.flush()).await?;
                let _ = within(&what, connection.read(&mut byte)).await?;
            }
            Ok(())
        };
        tokio::select! {
            done = using => done?,
            () = accepting => {}
        }
    }
    before.is_still_so("panics inside").await
}
