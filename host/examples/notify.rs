//! Keeps a connection to a server up, and sends it every line that clients bring:
//!
//! ```console
//! $ notify tcp:port=7000:interface=127.0.0.1 tcp:host=127.0.0.1:port=7001
//! ```

use std::io;
use std::time::Duration;

use endpoints::Connection;
use endpoints::serve::Stopping;
use endpoints::service::{Backoff, ClientService, ServerService, ServiceGroup};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), endpoints::Error> {
    let mut arguments = std::env::args().skip(1);
    let (Some(server), Some(client)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: notify SERVER CLIENT");
        std::process::exit(2);
    };

    // ANCHOR: client
    let policy = Backoff::new().initial_delay(Duration::from_millis(100)).max_delay(Duration::from_secs(5));
    let uplink = ClientService::builder(endpoints::client(client)?)
        .named("uplink")
        .retry_policy(policy)
        .prepare(log_in);
    // ANCHOR_END: client

    // ANCHOR: server
    let sender = uplink.clone();
    let notices = ServerService::builder(endpoints::server(server)?)
        .named("notices")
        .max_connections(100)
        .idle_timeout(Duration::from_secs(60))
        .handle(move |connection, _stopping| {
            let uplink = sender.clone();
            async move {
                if let Err(error) = pass_on(connection, &uplink).await {
                    eprintln!("{error}");
                }
            }
        });
    // ANCHOR_END: server

    // ANCHOR: group
    ServiceGroup::new("notify").with(uplink).with(notices).run_until_signal().await
    // ANCHOR_END: group
}

// ANCHOR: prepare
/// Makes a new connection ready for use: what others get is where they put their lines.
async fn log_in(
    mut connection: Connection,
    stopping: Stopping,
) -> io::Result<(mpsc::Sender<String>, impl Future<Output = ()>)> {
    connection.write_all(b"hello\n").await?;
    if connection.read_u8().await? != b'+' {
        return Err(io::Error::other("the server does not want us"));
    }
    let (sender, mut lines) = mpsc::channel::<String>(16);
    let run = async move {
        let (mut reader, mut writer) = tokio::io::split(connection);
        loop {
            let line = tokio::select! {
                Some(line) = lines.recv() => line,
                // The server says nothing more: this is its end.
                _ = reader.read_u8() => return,
                () = stopping.wait() => return,
            };
            if writer.write_all(line.as_bytes()).await.is_err() {
                return;
            }
        }
    };
    Ok((sender, run))
}
// ANCHOR_END: prepare

// ANCHOR: when_connected
/// Sends every line of a connection to the server; waits for one that is away.
async fn pass_on(connection: Connection, uplink: &ClientService<mpsc::Sender<String>>) -> io::Result<()> {
    let mut lines = BufReader::new(connection).lines();
    while let Some(line) = lines.next_line().await? {
        let mut line = format!("{line}\n");
        // A connection can end between being up and being used: then the next one gets the line.
        while let Err(unsent) = uplink.when_connected().await?.send(line).await {
            line = unsent.0;
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}
// ANCHOR_END: when_connected
