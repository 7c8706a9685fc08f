//! An HTTP client through whatever the user typed: `hyper_client CLIENT URI…`. Prints the answers.

use std::error::Error;

use endpoints::adapters::hyper_util::Connector;
use endpoints::{ClientEndpoint, ConnectionInfo, Layer};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let endpoint: ClientEndpoint = arguments.next().ok_or("usage: hyper_client CLIENT URI…")?.parse()?;
    // ANCHOR: client
    let client: Client<_, Empty<Bytes>> =
        Client::builder(TokioExecutor::new()).build(Connector::new(endpoint));
    for uri in arguments {
        let answer = client.get(uri.parse()?).await?;
        let info: Option<&ConnectionInfo> = answer.extensions().get();
        let schemes: Vec<_> = info.iter().flat_map(|info| info.layers()).map(Layer::scheme).collect();
        eprintln!("{:?} {} over {}", answer.version(), answer.status(), schemes.join(", "));
        let body = answer.into_body().collect().await?.to_bytes();
        print!("{}", String::from_utf8_lossy(&body));
    }
    // ANCHOR_END: client
    Ok(())
}
