//! The HTTP service that tells the counts.

use std::fmt;
use std::future::{poll_fn, ready};
use std::sync::Arc;
use std::time::Duration;

use endpoints::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{self, AsyncReadExt, AsyncWriteExt};

use super::{Counts, Statistics, json, prometheus};

/// Requests that are answered at a time; more wait.
pub(crate) const MOST_READERS: usize = 32;

/// How long a reader may take, from accepting its connection to the end of it.
const TIME: Duration = Duration::from_secs(5);

/// The longest head of a request, in bytes: the shortest limit that hyper takes.
const LONGEST: usize = 8 * 1024;

/// What is read beyond a request at most, in bytes, so that nobody keeps a thread busy.
const MOST_UNREAD: u64 = 1 << 20;

/// Answers one request. The connection has no other, and ends in time, so that nobody keeps a place.
pub(crate) async fn answer(incoming: Incoming, statistics: Arc<Statistics>) {
    if tokio::time::timeout(TIME, serve(incoming, &statistics)).await.is_err() {
        tracing::debug!("a request for statistics took too long");
    }
}

async fn serve(incoming: Incoming, statistics: &Statistics) -> Option<()> {
    let connection = TokioIo::new(incoming.await.ok()?);
    let service = service_fn(|request: hyper::Request<_>| {
        ready(respond(request.method(), request.uri().path(), || statistics.counts()))
    });
    let mut http = http1::Builder::new();
    // Whoever has sent all that there is to say may say so, and is answered all the same.
    http.keep_alive(false).max_buf_size(LONGEST).half_close(true);
    let mut serving = http.serve_connection(connection, service);
    // What is no request is answered too, and an error then.
    if let Err(error) = poll_fn(|cx| serving.poll_without_shutdown(cx)).await {
        tracing::debug!(%error, "a request for statistics failed");
    }
    let mut connection = serving.into_parts().io.into_inner();
    connection.shutdown().await.ok()?;
    // Closing with something unread would reset the connection, and the answer could be lost.
    io::copy(&mut connection.take(MOST_UNREAD), &mut io::sink()).await.ok()?;
    Some(())
}

fn respond(
    method: &Method,
    path: &str,
    counts: impl FnOnce() -> Counts,
) -> Result<Response<String>, fmt::Error> {
    const PLAIN: &str = "text/plain; charset=utf-8";
    let reads = [Method::GET, Method::HEAD].contains(method);
    let (status, kind, body) = match path {
        _ if !reads => (StatusCode::METHOD_NOT_ALLOWED, PLAIN, "GET is allowed\n".to_owned()),
        "/stats" => (StatusCode::OK, "application/json", json::text(&counts())),
        "/metrics" => (StatusCode::OK, prometheus::CONTENT_TYPE, prometheus::text(counts())?),
        _ => (StatusCode::NOT_FOUND, PLAIN, "there are /stats and /metrics\n".to_owned()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if !reads {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    Ok(response)
}
