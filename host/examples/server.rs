//! A service that answers lines, wherever the user says, until its standard input ends.
//!
//! ```text
//! server SERVER
//! ```

use std::io;
use std::time::Duration;

use endpoints::serve::{Event, Stopping};
use endpoints::service::ServerService;
use endpoints::{Connection, Error, Incoming};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

// ANCHOR: service
#[tokio::main]
async fn main() -> Result<(), Error> {
    let description = std::env::args().nth(1).unwrap_or_else(|| "tcp:port=0:interface=127.0.0.1".to_owned());
    let service = ServerService::builder(endpoints::server(description)?)
        .named("lines")
        .max_connections(1000)
        .max_per_peer(50)
        .max_handshakes(100)
        .idle_timeout(Duration::from_secs(300))
        .drain_timeout(Duration::from_secs(10))
        .on_event(|event| {
            if let Event::Error { error, .. } = event {
                eprintln!("{error}");
            }
        })
        .handle_incoming(serve);
    service.bind().await?; // needs the right to the port, or to the folder of a Unix socket
    drop_privileges();
    service.start().await?; // needs none
    for description in service.reachable() {
        println!("listening on {description}");
    }
    tokio::select! {
        ended = service.ended() => ended, // by itself
        () = end_of_input() => service.stop().await, // an error tells how many connections were cut
    }
}
// ANCHOR_END: service

// ANCHOR: serve
async fn serve(id: u64, incoming: Incoming) {
    let stopping = incoming.stopping();
    let done = async { answer(incoming.await?, stopping).await }; // the handshake, where there is one
    if let Err(error) = done.await {
        eprintln!("connection {id}: {error}");
    }
}

/// Sends each line back. A connection that waits for the next line ends when the service is stopped.
async fn answer(connection: Connection, stopping: Stopping) -> io::Result<()> {
    let mut connection = BufReader::new(connection);
    let mut line = Vec::new();
    loop {
        tokio::select! {
            read = connection.read_until(b'\n', &mut line) => if read? == 0 { break },
            () = stopping.wait() => break,
        }
        connection.write_all(&line).await?;
        connection.flush().await?;
        line.clear();
    }
    connection.shutdown().await
}
// ANCHOR_END: serve

fn drop_privileges() {
    // Whatever the program has for it, such as setuid(2).
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
