//! A protocol of lines on whatever the user typed: `lines SERVER`. Sends each line back in capitals, by tokio-util's codec.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_util::codec::{Framed, LinesCodec};

// ANCHOR: lines
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let description = std::env::args().nth(1).unwrap_or_else(|| "tcp:port=0:interface=127.0.0.1".to_owned());
    let listener = endpoints::server(description)?.listen().await?;
    for description in listener.reachable() {
        println!("listening on {description}");
    }
    let mut established = listener.into_established();
    loop {
        let (connection, _peer) = tokio_util::net::Listener::accept(&mut established).await?;
        tokio::spawn(async move {
            let mut lines = Framed::new(connection, LinesCodec::new_with_max_length(1024));
            while let Some(Ok(line)) = lines.next().await {
                lines.send(line.to_uppercase()).await?;
            }
            Ok::<(), tokio_util::codec::LinesCodecError>(())
        });
    }
}
// ANCHOR_END: lines
