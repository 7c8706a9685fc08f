//! An HTTP client through whatever the user typed. Prints the answers.
//!
//! ```text
//! hyper_client to CLIENT URI…        over connections by that description, wherever the URIs are
//! hyper_client through CLIENT URI…   to where the URIs are, through the SOCKS5 proxy at that description
//! ```

use std::error::Error;

use endpoints::adapters::hyper_util::Connector;
use endpoints::{ClientEndpoint, ConnectionInfo, Layer};
use http_body_util::{BodyExt as _, Empty};
use hyper::Uri;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["to", client, ref uris @ ..] => fetch(Connector::new(client.parse()?), uris).await,
        ["through", proxy, ref uris @ ..] => fetch(through(proxy.parse()?), uris).await,
        _ => Err("usage: hyper_client to|through CLIENT URI…".into()),
    }
}

// ANCHOR: through
/// Connects to where a URI is, through a proxy.
fn through(proxy: ClientEndpoint) -> Connector {
    Connector::by_uri(move |uri: &Uri| {
        let client = ClientEndpoint::builder("socks5").argument("proxy", &proxy);
        client
            .argument("host", uri.host().unwrap_or_default())
            .argument("port", uri.port_u16().unwrap_or(80))
            .build()
    })
}
// ANCHOR_END: through

// ANCHOR: client
async fn fetch(connector: Connector, uris: &[&str]) -> Result<(), Box<dyn Error>> {
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    for uri in uris {
        let answer = client.get(uri.parse()?).await?;
        let info: Option<&ConnectionInfo> = answer.extensions().get();
        let schemes: Vec<_> = info.iter().flat_map(|info| info.layers()).map(Layer::scheme).collect();
        eprintln!("{:?} {} over {}", answer.version(), answer.status(), schemes.join(", "));
        let body = answer.into_body().collect().await?.to_bytes();
        print!("{}", String::from_utf8_lossy(&body));
    }
    Ok(())
}
// ANCHOR_END: client
