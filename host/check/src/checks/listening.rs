//! Listeners, and what they and their connections tell.

use std::net::SocketAddr;

use endpoints::{ErrorKind, fact};

use crate::finding::{Step, Verdict, ensure, fails, orderly, told, warns, within};
use crate::subject::{Pair, Subject, connect};

pub(super) async fn reachable(subject: &Subject) -> Verdict {
    let listener = subject.listen().await?;
    let told = listener.reachable();
    if told.is_empty() {
        return warns("a listener does not tell by which client descriptions it is reached");
    }
    for description in &told {
        let text = String::from_utf8_lossy(description.text()).into_owned();
        if let Err(error) = subject.registry.client(description.text()) {
            // A secret is not told: whoever connects knows it.
            let lacks = matches!(error.kind(), ErrorKind::MissingArgument);
            ensure(lacks, || {
                format!(
                    "it tells that it is reached by {text}, which is refused: {}",
                    crate::finding::told(&error)
                )
            })?;
        }
        // One of the endpoint inside reaches the wrapper only where the wrapper adds nothing of its own.
        if description.scheme() == subject.name().as_bytes() || !subject.is_around() {
            let client = subject.client_told(description, None)?;
            drop(connect(&client, &listener).await?);
        }
    }
    Ok(())
}

pub(super) async fn facts(subject: &Subject) -> Verdict {
    let Pair { near, far, listener, .. } = subject.pair().await?;
    for (connection, side) in [(&near, "client"), (&far, "server")] {
        for layer in connection.info().layers() {
            for (name, value) in layer.facts() {
                fact_is_sound(name, value).map_err(|problem| {
                    crate::finding::Finding::Fails(format!(
                        "the fact {name} of a {side} connection {problem}"
                    ))
                })?;
            }
        }
    }
    for address in listener.addresses() {
        ensure(!address.to_string().is_empty(), || "a listener tells an empty address".into())?;
    }
    Ok(())
}

/// Facts whose form is known must have it.
fn fact_is_sound(name: &str, value: &[u8]) -> Result<(), String> {
    let text = || std::str::from_utf8(value).map_err(|_| "is not text".to_owned());
    match name {
        fact::LOCAL_IP | fact::PEER_IP => {
            let text = text()?;
            text.parse::<SocketAddr>().map_err(|_| format!("is {text:?}, which is no socket address"))?;
        }
        fact::PEER_PID | fact::PEER_UID | fact::PEER_GID => {
            let text = text()?;
            text.parse::<u32>().map_err(|_| format!("is {text:?}, which is no number"))?;
        }
        fact::PEER_NAME | fact::TLS_VERSION | fact::TLS_CIPHER | fact::TLS_GROUP | fact::TLS_SNI => {
            text()?;
        }
        "" => return Err("has no name".into()),
        _ => {}
    }
    Ok(())
}

pub(super) async fn refused(subject: &Subject) -> Verdict {
    let Pair { near, far, listener, client } = subject.pair().await?;
    drop((near, far));
    within("closing the listener", listener.close()).await?.step("closing the listener")?;
    match within("connecting where nobody listens", client.connect()).await? {
        Ok(_) => fails("connecting succeeds though nobody listens"),
        Err(error) => {
            orderly("connecting where nobody listens", &error)?;
            ensure(error.is_retryable(), || {
                format!(
                    "the error where nobody listens yet says that a retry makes no sense: {}",
                    told(&error)
                )
            })
        }
    }
}

pub(super) async fn address_in_use(subject: &Subject) -> Verdict {
    let name = subject.fresh_name();
    let listener = subject.listen_around(&Subject::inner(&name, "")).await?;
    // The very address that it has by now, where the system has chosen it.
    let second = subject.server_again(&listener, &Subject::inner(&name, ""))?;
    match within("listening on an address that is taken", second.listen()).await? {
        Ok(_) => Ok(()),
        Err(error) => {
            orderly("listening on an address that is taken", &error)?;
            ensure(error.kind() == ErrorKind::AddressInUse, || {
                format!("an address that is taken is told as another error: {}", told(&error))
            })
        }
    }?;
    // The first one is not harmed.
    let client = subject.client_of(&listener)?;
    connect(&client, &listener).await.map(drop)
}

pub(super) async fn listen_again(subject: &Subject) -> Verdict {
    let name = subject.fresh_name();
    let first = subject.listen_around(&Subject::inner(&name, "")).await?;
    let server = subject.server_again(&first, &Subject::inner(&name, ""))?;
    let mut listener = first;
    for how in ["closed", "dropped", "dropped with a connection open"] {
        let client = subject.client_of(&listener)?;
        let open = connect(&client, &listener).await?;
        match how {
            "closed" => {
                drop(open);
                within("closing the listener", listener.close()).await?.step("closing the listener")?;
            }
            "dropped" => drop((open, listener)),
            _ => {
                drop(listener);
                drop(open);
            }
        }
        let again = within("listening again", server.listen()).await?;
        listener = again.step(&format!("listening again, once the listener was {how},"))?;
    }
    Ok(())
}
