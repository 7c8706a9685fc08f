//! Both sides of the transport, in a host in memory.

use std::time::Duration;

use endpoints_plugin_api::ErrorKind;
use endpoints_plugin_api::testing::{TestClient, TestHost, TestServer, Values};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use {{crate}}::Transport;

const SCHEME: &str = "{{name}}";

/// Both sides of a name. Names are those of the whole machine, so it becomes one of this process.
fn endpoints(name: &str) -> (TestServer, TestClient) {
    let plugin = TestHost::new().plugin::<Transport>().expect("an instance");
    let name = format!("{name}-{}", std::process::id());
    // Hosts fill in defaults. Here there is none, so tests give every value.
    let values = Values::new()
        .text("name", &name)
        .duration("timeout", Duration::from_secs(5));
    let server = plugin.server(SCHEME, &values).expect("a server");
    let client = plugin.client(SCHEME, &values).expect("a client");
    (server, client)
}

#[tokio::test]
async fn bytes_go_both_ways_until_each_ends() {
    let (server, client) = endpoints("both-ways");
    let mut listener = server.listen().await.expect("a listener");
    let accepting = async { listener.accept().await?.await };
    let (mut connected, mut accepted) =
        tokio::try_join!(client.connect(), accepting).expect("a connection");

    connected.write_all(b"there").await.expect("write");
    connected.shutdown().await.expect("shutdown");
    let mut heard = String::new();
    accepted.read_to_string(&mut heard).await.expect("read");
    assert_eq!(heard, "there");

    accepted.write_all(b"and back").await.expect("write");
    drop(accepted);
    let mut heard = String::new();
    connected.read_to_string(&mut heard).await.expect("read");
    assert_eq!(heard, "and back");
}

#[tokio::test]
async fn nobody_listening_is_an_error_to_try_again() {
    let (_, client) = endpoints("nobody");
    let error = client.connect().await.expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_name_that_is_taken_is_refused_until_it_is_free() {
    let (server, _) = endpoints("taken");
    let first = server.listen().await.expect("a listener");
    let error = server.listen().await.expect_err("it is taken");
    assert_eq!(error.kind(), ErrorKind::AddressInUse, "{error}");
    first.close().await.expect("close");
    server.listen().await.expect("it is free again");
}

#[tokio::test]
async fn a_name_that_is_too_long_is_refused_before_anything_is_opened() {
    let plugin = TestHost::new().plugin::<Transport>().expect("an instance");
    let values = Values::new().text("name", &"x".repeat(200));
    let error = plugin.server(SCHEME, &values).expect_err("too long");
    assert_eq!(error.argument(), Some("name"));
}
