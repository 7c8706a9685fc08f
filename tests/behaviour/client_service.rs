//! Connections that stay up, over real sockets.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use endpoints::serve::Stopping;
use endpoints::service::{Backoff, ClientService, ClientState, RetryPolicy};
use endpoints::{Connection, ErrorKind, quote_str};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{World, both_forms, exchange, pki, port};
use crate::tls;

both_forms!(
    it_connects_anew_when_the_server_comes_back,
    failed_handshakes_make_it_wait_longer,
    the_next_endpoint_is_taken_where_one_is_down,
    what_it_is_connected_to_is_told,
    stopping_closes_the_socket,
);

/// Uses a connection by handing out what comes from it.
async fn lines(mut connection: Connection, _stopping: Stopping) {
    let _ = connection.read_to_end(&mut Vec::new()).await;
}

fn at_once(_failures: u64) -> Duration {
    Duration::from_millis(5)
}

async fn it_connects_anew_when_the_server_comes_back(world: &World) {
    let listener = world.listen("tcp:0:interface=127.0.0.1").await;
    let port = port(&listener);
    let client = world.registry.client(format!("tcp:127.0.0.1:{port}")).expect("a client");
    let service = ClientService::builder(client).retry_policy(at_once).handle(lines);
    service.start().expect("a runtime");
    service.when_connected().await.expect("a server");
    let accepted = listener.accept().await.expect("accept").await.expect("a connection");
    listener.close().await.expect("close");
    let mut state = service.state();
    drop(accepted);
    let refused = |state: &ClientState| matches!(state, ClientState::Waiting { error: Some(_), .. });
    state.wait_for(refused).await.expect("it goes on");
    let error = service.when_connected_within(1).await.expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let listener = world.listen(&format!("tcp:{port}:interface=127.0.0.1")).await;
    service.when_connected().await.expect("the server is back");
    listener.accept().await.expect("accept").await.expect("a connection");
    service.stop().await.expect("stop");
}

async fn failed_handshakes_make_it_wait_longer(world: &World) {
    let Some(folder) = pki() else { return };
    let files = folder.join("pki");
    let listener = world.listen(&tls::server(&files, "server.pem", "")).await;
    let client = tls::client(&files, "somebody-else.example", &listener, "");
    let serving = tokio::spawn(async move {
        loop {
            let _ = listener.accept().await.expect("accept").await;
        }
    });
    let waits = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&waits);
    let backoff = Backoff::new().initial_delay(Duration::from_millis(10)).jitter(Duration::ZERO);
    let service = ClientService::builder(world.registry.client(client).expect("a client"))
        .retry_policy(backoff)
        .on_state(move |state| {
            if let ClientState::Waiting { failures, delay, error, .. } = state {
                let kind = error.as_ref().map(endpoints::Error::kind);
                noted.lock().unwrap().push((*failures, *delay, kind));
            }
        })
        .handle(lines);
    service.start().expect("a runtime");
    let error = service.when_connected_within(4).await.expect_err("the name is another");
    assert_eq!(error.kind(), ErrorKind::HandshakeFailed);
    service.stop().await.expect("stop");
    let waits = waits.lock().unwrap();
    for (place, wait) in waits.iter().enumerate() {
        let failures = place as u64 + 1;
        assert_eq!(*wait, (failures, backoff.delay(failures), Some(ErrorKind::HandshakeFailed)));
    }
    assert!(waits.len() >= 4 && waits[3].1 > 3 * waits[0].1, "{waits:?}");
    serving.abort();
}

async fn the_next_endpoint_is_taken_where_one_is_down(world: &World) {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = format!("unix:{}", quote_str(folder.path().join("missing").to_str().expect("UTF-8")));
    let listener = world.listen("tcp:0:interface=127.0.0.1").await;
    let service = ClientService::builder(world.registry.client(missing).expect("a client"))
        .or(world.registry.client(format!("tcp:127.0.0.1:{}", port(&listener))).expect("a client"))
        .handle(lines);
    service.start().expect("a runtime");
    service.when_connected().await.expect("the second one");
    listener.accept().await.expect("accept").await.expect("a connection");
}

async fn what_it_is_connected_to_is_told(world: &World) {
    let listener = world.listen("tcp:0:interface=127.0.0.1").await;
    let port = port(&listener);
    let client = world.registry.client(format!("tcp:localhost:{port}")).expect("a client");
    let service = ClientService::builder(client).handle(lines);
    service.start().expect("a runtime");
    service.when_connected().await.expect("a server");
    let ClientState::Connected { info, endpoint, attempt, .. } = service.state().borrow().clone() else {
        panic!("{service:?}");
    };
    assert_eq!(info.peer_addr().and_then(|peer| peer.port()), Some(port));
    assert_eq!((endpoint.scheme(), attempt), ("tcp", 1));
}

async fn stopping_closes_the_socket(world: &World) {
    let listener = world.listen("tcp:0:interface=127.0.0.1").await;
    let client = world.registry.client(format!("tcp:127.0.0.1:{}", port(&listener))).expect("a client");
    let service = ClientService::builder(client).handle(|mut connection, stopping| async move {
        connection.write_all(b"hello").await.expect("a peer");
        stopping.wait().await;
        connection.write_all(b" and goodbye").await.expect("a peer");
        connection.shutdown().await.expect("a peer");
    });
    for _ in 0..2 {
        service.start().expect("a runtime");
        let mut accepted = listener.accept().await.expect("accept").await.expect("a connection");
        let mut hello = [0; 5];
        accepted.read_exact(&mut hello).await.expect("hello");
        service.stop().await.expect("stop");
        let mut rest = String::new();
        accepted.read_to_string(&mut rest).await.expect("the rest");
        assert_eq!(rest, " and goodbye");
    }
    let (mut one, mut other) = world.pair(&listener).await;
    exchange(&mut one, &mut other).await;
}
