//! An HTTP server on whatever the user typed: `axum SERVER`. Tells each client what is known of its connection.

use std::error::Error;
use std::fmt::Write as _;
use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use endpoints::{ConnectionInfo, ProxyTlv};

// ANCHOR: serve
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let description = std::env::args().nth(1).unwrap_or_else(|| "tcp:port=0:interface=127.0.0.1".to_owned());
    let listener = endpoints::server(description)?.listen().await?;
    for description in listener.reachable() {
        println!("listening on {description}");
    }
    let established = listener.into_established().on_error(|error| eprintln!("{error}"));
    let app = Router::new().route("/", get(facts)).route("/ip", get(ip)).layer(middleware::from_fn(tell_ip));
    axum::serve(established, app.into_make_service_with_connect_info::<ConnectionInfo>())
        .with_graceful_shutdown(async { drop(tokio::signal::ctrl_c().await) })
        .await?;
    Ok(())
}
// ANCHOR_END: serve

// ANCHOR: facts
async fn facts(ConnectInfo(info): ConnectInfo<ConnectionInfo>, request: Request) -> String {
    let mut told = format!("version: {:?}\n", request.version());
    if let Some(peer) = info.peer_addr() {
        let _ = writeln!(told, "peer: {peer}");
    }
    if let Some(credentials) = info.peer_credentials() {
        let _ = writeln!(told, "user: {}", credentials.uid);
    }
    if let Some(tls) = info.tls() {
        let alpn = String::from_utf8_lossy(tls.alpn.unwrap_or_default());
        let _ = writeln!(told, "tls: {} for {}, {alpn}", tls.version, tls.sni.unwrap_or("nobody"));
        let _ = writeln!(told, "certificates: {}", tls.peer_certificates.len());
    }
    for tlv in info.proxy_tlvs() {
        if let ProxyTlv::Authority(name) = tlv {
            let _ = writeln!(told, "asked the proxy for: {name}");
        }
    }
    told
}
// ANCHOR_END: facts

// ANCHOR: ip
/// For whatever was written for TCP alone, and looks for a `ConnectInfo<SocketAddr>`: gives it one where there is one.
async fn tell_ip(
    ConnectInfo(info): ConnectInfo<ConnectionInfo>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(address) = info.peer_addr().and_then(|peer| peer.ip()) {
        request.extensions_mut().insert(ConnectInfo(address));
    }
    next.run(request).await
}

async fn ip(address: Option<Extension<ConnectInfo<SocketAddr>>>) -> String {
    address.map_or("none".to_owned(), |Extension(ConnectInfo(address))| address.ip().to_string())
}
// ANCHOR_END: ip
