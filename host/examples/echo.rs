//! Listens on whatever the user typed, and echoes.

use tokio::io::{copy, split};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), endpoints::Error> {
    let description = std::env::args().nth(1).unwrap_or_else(|| "tcp:port=0:interface=127.0.0.1".to_owned());
    let listener = endpoints::server(description)?.listen().await?;
    for description in listener.reachable() {
        println!("listening on {description}");
    }
    loop {
        let incoming = listener.accept().await?;
        tokio::spawn(async move {
            match incoming.await {
                Ok(connection) => {
                    let (mut read, mut write) = split(connection);
                    let _ = copy(&mut read, &mut write).await;
                }
                Err(error) => eprintln!("{error}"),
            }
        });
    }
}
