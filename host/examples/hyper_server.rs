//! An HTTP server with hyper alone, on whatever the user typed: `hyper_server SERVER`. Echoes the bodies of requests.

use std::convert::Infallible;
use std::time::Duration;

use endpoints::serve::Serve;
use endpoints::{Error, Incoming, RoleKind};
use hyper::body::Incoming as Body;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tracing::Instrument as _;

#[tokio::main]
async fn main() -> Result<(), Error> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let description = std::env::args().nth(1).unwrap_or_else(|| "tcp:port=0:interface=127.0.0.1".to_owned());
    let listener = endpoints::server(description)?.listen().await?;
    for description in listener.reachable() {
        println!("listening on {description}");
    }
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    let outcome = Serve::new(listener).run(|_id, incoming| serve(incoming), stop).await;
    outcome.error.map_or(Ok(()), Err)
}

// ANCHOR: serve
async fn serve(incoming: Incoming) {
    let connection = match incoming.establish(Duration::from_secs(10)).await {
        Ok(connection) => connection,
        Err(error) => return tracing::info!(%error, "no connection"),
    };
    let span = connection.info().span(RoleKind::Server);
    // HTTP/1.1 or HTTP/2, whichever the client begins with.
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // A client may end its side after its request, as one at the other end of a pipe does, and is still answered.
    builder.http1().half_close(true);
    let served =
        builder.serve_connection(TokioIo::new(connection), service_fn(echo)).instrument(span.clone());
    if let Err(error) = served.await {
        let _entered = span.enter();
        tracing::info!(error, "broken");
    }
}
// ANCHOR_END: serve

async fn echo(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    tracing::info!(path = request.uri().path(), "request");
    Ok(Response::new(request.into_body()))
}
