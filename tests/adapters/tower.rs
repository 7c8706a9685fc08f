//! Client endpoints as services, with a layer around them.

use std::time::Duration;

use endpoints::{ClientEndpoint, ConnectContext, ConnectionInfo, ErrorKind};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tower::{ServiceBuilder, ServiceExt};

fn client(port: u16) -> ClientEndpoint {
    endpoints::client(format!("tcp:127.0.0.1:{port}")).expect("a description")
}

#[tokio::test]
async fn a_request_is_an_attempt_to_connect() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let service = ServiceBuilder::new().timeout(Duration::from_secs(30)).service(client(port));
    let connection = service.oneshot(()).await.expect("a connection");
    let (mut accepted, peer) = listener.accept().await.expect("the other side");
    assert_eq!(connection.info().local_addr().and_then(|address| address.ip()), Some(peer));
    drop(connection);
    assert_eq!(accepted.read(&mut [0; 1]).await.expect("the end"), 0);
    drop(listener);
    let error = ServiceExt::<()>::oneshot(client(port), ()).await.expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_request_may_say_more() {
    let registry = endpoints::Registry::builder().default_plugin_path(false).build().expect("a registry");
    let server = registry.server("haproxy:tcp:0:interface=127.0.0.1").expect("a description");
    let listener = server.listen().await.expect("a listener");
    let port = listener.addresses()[0].port().expect("a port");
    // What is told of the connection that is relayed comes through.
    let origin: ConnectionInfo = {
        let accepting = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let near = client(accepting.local_addr().expect("its address").port()).connect().await;
        near.expect("a connection").info()
    };
    let told = origin.peer_addr();
    let client = registry.client(format!("haproxy:tcp:127.0.0.1:{port}")).expect("a description");
    let connecting = client.oneshot(ConnectContext::new().with_origin(origin));
    let accepting = async { listener.accept().await.expect("accepted").await.expect("a connection") };
    let (connected, accepted) = tokio::join!(connecting, accepting);
    connected.expect("a connection");
    assert_eq!(accepted.info().peer_addr(), told);
}
