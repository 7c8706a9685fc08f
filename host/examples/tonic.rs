//! gRPC on and through whatever the user typed: `tonic serve SERVER`, `tonic call CLIENT TEXT`.
//!
//! Messages are bare bytes, so that the example needs no compiler of protocol buffers; generated services and clients are
//! used alike.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, BufMut as _};
use endpoints::adapters::hyper_util::Connector;
use endpoints::{ConnectionInfo, Established};
use http::uri::PathAndQuery;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};
use tower_service::Service;

type Failure = Box<dyn std::error::Error>;

const SAY: &str = "/example.Echo/Say";

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", server] => serve(server).await,
        ["call", client, text] => call(client, text).await,
        _ => Err("usage: tonic serve SERVER | call CLIENT TEXT".into()),
    }
}

// ANCHOR: serve
async fn serve(description: &str) -> Result<(), Failure> {
    let listener = endpoints::server(description)?.listen().await?;
    for description in listener.reachable() {
        println!("listening on {description}");
    }
    let established: Established = listener.into_established();
    Server::builder().serve_with_incoming(Echo, established).await?;
    Ok(())
}

async fn say(request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Status> {
    let info = request.extensions().get::<ConnectionInfo>();
    let scheme = info.and_then(|info| Some(info.layers().first()?.scheme().to_owned()));
    let text = String::from_utf8_lossy(request.get_ref());
    Ok(Response::new(format!("{text}, over {}", scheme.unwrap_or_default()).into_bytes()))
}
// ANCHOR_END: serve

// ANCHOR: call
async fn call(description: &str, text: &str) -> Result<(), Failure> {
    let connector = Connector::new(endpoints::client(description)?);
    // The name is for the requests' headers alone; the description says where to connect.
    let channel: Channel = Endpoint::from_static("http://echo").connect_with_connector(connector).await?;
    println!("{}", say_to(channel, text).await?);
    Ok(())
}
// ANCHOR_END: call

async fn say_to(channel: Channel, text: &str) -> Result<String, Failure> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await?;
    let request = Request::new(text.as_bytes().to_vec());
    let answer = client.unary(request, PathAndQuery::from_static(SAY), Bare).await?;
    Ok(String::from_utf8_lossy(answer.get_ref()).into_owned())
}

/// The service, as a generated one would be.
#[derive(Clone)]
struct Echo;

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            Ok(match request.uri().path() {
                SAY => tonic::server::Grpc::new(Bare).unary(tower::service_fn(say), request).await,
                _ => Status::unimplemented("there is no such method").into_http(),
            })
        })
    }
}

/// Messages as they stand.
#[derive(Clone, Copy, Default)]
struct Bare;

impl Codec for Bare {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Bare {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Bare {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut message = vec![0; from.remaining()];
        from.copy_to_slice(&mut message);
        Ok(Some(message))
    }
}
