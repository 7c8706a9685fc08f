//! A tour of the library: listens, connects and relays wherever the user says.
//!
//! ```text
//! tour listen SERVER            echoes every connection until its standard input ends
//! tour once SERVER              greets one connection
//! tour connect CLIENT TEXT      sends TEXT and prints what comes back
//! tour forward SERVER CLIENT    relays until its standard input ends
//! tour private PATH             greets one connection of this user, on a Unix socket
//! tour secure CLIENT HOST ROOTS TEXT
//!                               as connect, with TLS around whatever CLIENT is
//! ```
//!
//! Plugins are looked for in the folder that `TOUR_PLUGINS` names, beside the usual places.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use endpoints::forward::Forward;
use endpoints::serve::{Event, Serve};
use endpoints::{
    ClientEndpoint, ConnectContext, Connection, Error, Incoming, Listener, Registry, ServerEndpoint,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["listen", server] => listen(server).await,
        ["once", server] => once(server).await,
        ["connect", client, text] => connect(client, text).await,
        ["forward", server, client] => forward(server, client).await,
        ["private", path] => private(path).await,
        ["secure", client, host, roots, text] => secure(client, host, roots, text).await,
        _ => Err("usage: tour listen SERVER | once SERVER | connect CLIENT TEXT | forward SERVER CLIENT \
                      | private PATH | secure CLIENT HOST ROOTS TEXT"
            .into()),
    };
    let Err(failure) = result else { return ExitCode::SUCCESS };
    match failure.downcast_ref::<Error>() {
        Some(error) => report(error),
        None => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

// ANCHOR: report
/// Shows an error, with a caret under the part of the description that is at fault.
fn report(error: &Error) -> ExitCode {
    eprintln!("error: {error}");
    if let (Some(text), Some(span)) = (error.description(), error.span()) {
        // A span counts bytes; the caret stands under characters. Secrets in the text are masked already.
        let characters = |bytes: &[u8]| String::from_utf8_lossy(bytes).chars().count();
        eprintln!("  {}", String::from_utf8_lossy(text));
        let (before, at_fault) = (characters(&text[..span.start]), characters(&text[span]));
        eprintln!("  {:before$}{}", "", "^".repeat(at_fault.max(1)));
    }
    if error.kind().is_invalid_request() { ExitCode::from(2) } else { ExitCode::FAILURE }
}
// ANCHOR_END: report

// ANCHOR: registry
/// A registry that finds this program's own plugins before those in the usual places.
fn registry() -> Result<Registry, Error> {
    let mut builder = Registry::builder();
    if let Some(folder) = std::env::var_os("TOUR_PLUGINS") {
        builder = builder.plugin_path(folder);
    }
    builder.build()
}
// ANCHOR_END: registry

// ANCHOR: serve
async fn listen(description: &str) -> Result<(), Failure> {
    let endpoint = registry()?.server(description)?; // checked, nothing opened
    let listener = endpoint.listen().await?;
    announce(&listener);
    let outcome = Serve::new(listener)
        .max_connections(1000)
        .drain_timeout(Duration::from_secs(5))
        .on_event(show)
        .run(
            |id, incoming| async move {
                if let Err(error) = echo(incoming).await {
                    eprintln!("connection {id}: {error}");
                }
            },
            end_of_input(),
        )
        .await;
    outcome.error.map_or(Ok(()), |error| Err(error.into()))
}

async fn echo(incoming: Incoming) -> io::Result<()> {
    let connection = incoming.await?; // the handshake, where the endpoint has one
    let (mut read, mut write) = tokio::io::split(connection);
    tokio::io::copy(&mut read, &mut write).await?;
    write.shutdown().await
}
// ANCHOR_END: serve

// ANCHOR: once
async fn once(description: &str) -> Result<(), Failure> {
    greet(&registry()?.server(description)?).await
}

async fn greet(endpoint: &ServerEndpoint) -> Result<(), Failure> {
    let listener = endpoint.listen().await?;
    announce(&listener);
    let incoming = listener.accept().await?;
    let mut connection = incoming.await?;
    connection.write_all(b"welcome\n").await?;
    connection.shutdown().await?; // the peer reads the end, and may still send
    // Dropping the listener would do; this waits until the address is free and files are removed.
    listener.close().await?;
    Ok(())
}
// ANCHOR_END: once

// ANCHOR: values
async fn private(path: &str) -> Result<(), Failure> {
    let builder = registry()?.server_builder("unix").argument("address", path);
    let endpoint = builder.argument("mode", 0o600).argument("backlog", 16).build()?;
    greet(&endpoint).await
}
// ANCHOR_END: values

// ANCHOR: wrap_tls
async fn secure(description: &str, host: &str, roots: &str, text: &str) -> Result<(), Failure> {
    let endpoint = registry()?.client(description)?; // whatever the user typed
    let endpoint = endpoint.wrap_tls(host).trust_roots(roots).alpn(["http/1.1"]).build()?;
    say(&endpoint, text).await
}
// ANCHOR_END: wrap_tls

// ANCHOR: connect
async fn connect(description: &str, text: &str) -> Result<(), Failure> {
    say(&registry()?.client(description)?, text).await
}

async fn say(endpoint: &ClientEndpoint, text: &str) -> Result<(), Failure> {
    // Dropping a future cancels it, as this time limit does: nothing stays open.
    let mut connection = tokio::time::timeout(Duration::from_secs(20), patiently(endpoint)).await??;
    for layer in connection.info().layers() {
        let peer = layer.peer_addr().map_or("unknown".to_owned(), |address| address.to_string());
        eprintln!("{}: the peer is {peer}", layer.scheme());
    }
    connection.write_all(text.as_bytes()).await?;
    connection.shutdown().await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    println!("{answer}");
    Ok(())
}

/// Tries again where that makes sense.
async fn patiently(endpoint: &ClientEndpoint) -> Result<Connection, Error> {
    let mut pause = Duration::from_millis(100);
    loop {
        let context = ConnectContext::new().with_timeout(Duration::from_secs(5));
        match endpoint.connect_with(context).await {
            Err(error) if error.is_retryable() && pause < Duration::from_secs(1) => {
                eprintln!("{error}; trying again in {pause:?}");
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            result => return result,
        }
    }
}
// ANCHOR_END: connect

// ANCHOR: forward
async fn forward(server: &str, client: &str) -> Result<(), Failure> {
    let registry = registry()?;
    let client = registry.client(client)?; // a mistake in either shows before anything is open
    let listener = registry.server(server)?.listen().await?;
    announce(&listener);
    let outcome = Forward::new(listener, client)
        .connect_timeout(Duration::from_secs(5))
        .idle_timeout(Duration::from_secs(300))
        .on_event(show)
        .run(end_of_input())
        .await;
    outcome.error.map_or(Ok(()), |error| Err(error.into()))
}
// ANCHOR_END: forward

/// Tells by which client descriptions a listener is reached.
fn announce(listener: &Listener) {
    for description in listener.reachable() {
        println!("listening on {description}");
    }
}

fn show(event: &Event<'_>) {
    match event {
        Event::Closed { id, bytes_in, bytes_out, .. } => {
            eprintln!("connection {id}: {bytes_in} bytes in, {bytes_out} out");
        }
        Event::Error { error, .. } => eprintln!("{error}"),
        _ => {}
    }
}

/// Ends when standard input does.
async fn end_of_input() {
    let (ended, wait) = tokio::sync::oneshot::channel();
    // A thread of its own: one of the runtime's would keep the program from ending while it waits for input.
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        let _ = ended.send(());
    });
    let _ = wait.await;
}
