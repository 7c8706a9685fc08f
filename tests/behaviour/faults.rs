//! Plugins that panic, fail and hang: the program lives on, and so do the other schemes.

use std::io::{self, IoSlice};
use std::time::Duration;

use endpoints::ErrorKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{World, around, assert_kind, both_forms, exchange, port, rest};

both_forms!(
    panics_while_connecting_are_errors,
    panics_while_listening_are_errors,
    panics_in_streams_are_errors,
    panics_in_every_operation_of_a_stream_are_errors,
    panics_before_the_first_poll_are_errors,
    panics_in_what_a_listener_tells_leave_it_usable,
    panics_in_what_the_host_does_for_a_plugin_are_errors,
    panics_of_what_is_dropped_are_kept_in,
    panics_at_the_end_are_kept_in,
    errors_of_plugins_keep_their_words,
    every_kind_of_error_crosses_the_boundary,
    a_faulty_endpoint_leaves_the_others_of_its_plugin_alone,
);

fn faulty(mode: &str, inner: &str) -> String {
    around(&format!("faulty:{mode}"), inner)
}

const LOCAL: &str = "tcp:0:interface=127.0.0.1";

async fn panics_while_connecting_are_errors(world: &World) {
    let listener = world.listen(LOCAL).await;
    let plain = format!("tcp:127.0.0.1:{}", port(&listener));
    let made = world.registry.client(faulty("panic-endpoint", &plain)).expect_err("it panics");
    assert_kind(&made, ErrorKind::PluginPanicked);
    let made = world.registry.server(faulty("panic-endpoint", LOCAL)).expect_err("it panics");
    assert_kind(&made, ErrorKind::PluginPanicked);
    for mode in ["panic-connect", "panic-await"] {
        for client in [
            faulty(mode, &plain),
            around("pass", &faulty(mode, &plain)),
            faulty("none", &faulty(mode, &plain)),
        ] {
            let error = world.connect_error(&client).await;
            assert_kind(&error, ErrorKind::PluginPanicked);
            assert!(!error.is_retryable(), "{error}");
            world.assert_tcp_works().await;
        }
    }
}

async fn panics_while_listening_are_errors(world: &World) {
    let error = world.listen_error(&faulty("panic-listen", LOCAL)).await;
    assert_kind(&error, ErrorKind::PluginPanicked);
    let listener = world.listen(&faulty("panic-accept", LOCAL)).await;
    for _ in 0..3 {
        let error = listener.accept().await.expect_err("it panics");
        // The first panic is reported; what it left is not used again.
        assert!(matches!(error.kind(), ErrorKind::PluginPanicked | ErrorKind::Closed), "{error}");
    }
    let _ = listener.close().await;

    let listener = world.listen(&faulty("panic-await", LOCAL)).await;
    for _ in 0..3 {
        let mut client = world.reach(&listener).await;
        let error = listener.accept().await.expect("accept").await.expect_err("it panics");
        assert_kind(&error, ErrorKind::PluginPanicked);
        assert_eq!(rest(&mut client).await, b"", "the connection is closed");
    }
    listener.close().await.expect("close");
    world.assert_tcp_works().await;
}

async fn panics_in_streams_are_errors(world: &World) {
    let listener = world.listen(LOCAL).await;
    let plain = format!("tcp:127.0.0.1:{}", port(&listener));
    for (mode, wrapped) in
        [("panic-read", false), ("panic-write", false), ("panic-read", true), ("panic-write", true)]
    {
        let inside = faulty(mode, &plain);
        // With something around it, the panic comes through two plugins.
        let mut client = world.connect(&if wrapped { around("pass", &inside) } else { inside }).await;
        let mut accepted = listener.accept().await.expect("accept").await.expect("handshake");
        accepted.write_all(b"something to read").await.expect("write");
        for _ in 0..2 {
            let error = match mode {
                "panic-read" => client.read_u8().await.expect_err("it panics"),
                _ => client.write_all(b"x").await.expect_err("it panics"),
            };
            assert_ne!(error.kind(), io::ErrorKind::UnexpectedEof, "a fault is no end: {error}");
        }
        drop(client);
        // A reset where there was something to read, else an end.
        assert!(accepted.read_u8().await.is_err(), "what is inside is closed");
        world.assert_tcp_works().await;
    }
}

async fn panics_in_every_operation_of_a_stream_are_errors(world: &World) {
    let listener = world.listen(LOCAL).await;
    let plain = format!("tcp:127.0.0.1:{}", port(&listener));
    for mode in ["panic-vectored", "panic-flush", "panic-shutdown", "panic-error"] {
        let mut client = world.connect(&faulty(mode, &plain)).await;
        let mut accepted = listener.accept().await.expect("accept").await.expect("handshake");
        let mut said = Vec::new();
        for _ in 0..2 {
            let operation = match mode {
                "panic-vectored" => {
                    client.write_vectored(&[IoSlice::new(b"x"), IoSlice::new(b"y")]).await.map(drop)
                }
                "panic-flush" => client.flush().await,
                "panic-shutdown" => client.shutdown().await,
                _ => client.read_u8().await.map(drop),
            };
            let error = operation.expect_err(mode);
            assert_ne!(error.kind(), io::ErrorKind::UnexpectedEof, "{mode}: {error}");
            said.push(error.to_string());
        }
        match mode {
            // The error stands, without its words.
            "panic-error" => assert_eq!(said[0], io::Error::from(io::ErrorKind::InvalidData).to_string()),
            _ => assert!(said.iter().all(|said| said.contains("panicked")), "{mode}: {said:?}"),
        }
        drop(client);
        assert_eq!(rest(&mut accepted).await, b"", "{mode}: what is inside is closed");
        world.assert_tcp_works().await;
    }
    // It is asked while the connection is handed over.
    let error = world.connect_error(&faulty("panic-is-vectored", &plain)).await;
    assert_kind(&error, ErrorKind::PluginPanicked);
    world.assert_tcp_works().await;
}

async fn panics_before_the_first_poll_are_errors(world: &World) {
    let listener = world.listen(LOCAL).await;
    let plain = format!("tcp:127.0.0.1:{}", port(&listener));
    for client in [faulty("panic-build", &plain), around("pass", &faulty("panic-build", &plain))] {
        assert_kind(&world.connect_error(&client).await, ErrorKind::PluginPanicked);
    }
    assert_kind(&world.listen_error(&faulty("panic-build", LOCAL)).await, ErrorKind::PluginPanicked);
    // What an endpoint tells of itself goes without, and it works.
    let client = world.registry.client(faulty("panic-describe", &plain)).expect("it is made");
    assert!(client.to_string().starts_with("faulty:panic-describe:"), "{client}");
    let _ = client.explain();
    client.connect().await.expect("connect");
    world.assert_tcp_works().await;
}

async fn panics_in_what_a_listener_tells_leave_it_usable(world: &World) {
    for (mode, tells) in [("panic-addresses", (false, true)), ("panic-reachable", (true, false))] {
        let listener = world.listen(&faulty(mode, LOCAL)).await;
        let told = (!listener.addresses().is_empty(), !listener.reachable().is_empty());
        assert_eq!(told, tells, "{mode}");
        let waiting = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        waiting.map(drop).expect_err("it waits for a connection");
        listener.close().await.expect(mode);
    }
    world.assert_tcp_works().await;
}

async fn panics_in_what_the_host_does_for_a_plugin_are_errors(world: &World) {
    let listener = world.listen(LOCAL).await;
    let plain = format!("tcp:127.0.0.1:{}", port(&listener));
    let error = world.connect_error(&faulty("panic-blocking", &plain)).await;
    assert_kind(&error, ErrorKind::PluginPanicked);
    assert!(error.message().contains("blocking work"), "{error}");
    let error = world.connect_error(&faulty("panic-watch", &plain)).await;
    assert!(error.message().contains("the operation panicked"), "{error}");
    for _ in 0..2 {
        drop(listener.accept().await.expect("accept"));
    }
    // A task in the background is nobody's: the connection goes on.
    let mut client = world.connect(&faulty("panic-task", &plain)).await;
    let mut accepted = listener.accept().await.expect("accept").await.expect("handshake");
    tokio::task::yield_now().await;
    exchange(&mut client, &mut accepted).await;
    world.assert_tcp_works().await;
}

async fn panics_of_what_is_dropped_are_kept_in(world: &World) {
    let plain = world.listen(LOCAL).await;
    let client = format!("tcp:127.0.0.1:{}", port(&plain));
    drop(world.registry.client(faulty("panic-drop-endpoint", &client)).expect("it is made"));
    drop(world.registry.server(faulty("panic-drop-endpoint", LOCAL)).expect("it is made"));
    // One around it has it to drop.
    drop(world.registry.client(around("pass", &faulty("panic-drop-endpoint", &client))).expect("it is made"));

    let listener = world.listen(&faulty("panic-drop-listener", LOCAL)).await;
    let place = format!("tcp:127.0.0.1:{}", listener.addresses()[0].port().expect("a port"));
    listener.close().await.expect("close");
    world.connect_error(&place).await;

    // A future that is given up in the middle, on either side.
    let registry = &world.registry;
    let connecting = registry.client(faulty("panic-drop-handshake", &client)).expect("it is made");
    let given_up = tokio::time::timeout(Duration::from_millis(50), connecting.connect()).await;
    given_up.map(drop).expect_err("it never ends");
    let mut accepted = plain.accept().await.expect("accept").await.expect("handshake");
    assert_eq!(rest(&mut accepted).await, b"", "what it had opened is closed");
    let listener = world.listen(&faulty("panic-drop-handshake", LOCAL)).await;
    let mut client = world.connect(&format!("tcp:127.0.0.1:{}", port(&listener))).await;
    let handshake = async { listener.accept().await.expect("accept").await };
    tokio::time::timeout(Duration::from_millis(50), handshake).await.map(drop).expect_err("it never ends");
    assert_eq!(rest(&mut client).await, b"", "the connection is closed");
    world.assert_tcp_works().await;
}

async fn panics_at_the_end_are_kept_in(world: &World) {
    let listener = world.listen(&faulty("panic-drop", LOCAL)).await;
    for _ in 0..3 {
        let client = faulty("panic-drop", &format!("tcp:127.0.0.1:{}", port(&listener)));
        let accepting = async { listener.accept().await.expect("accept").await.expect("handshake") };
        let (mut client, mut accepted) = tokio::join!(world.connect(&client), accepting);
        exchange(&mut client, &mut accepted).await;
        drop(client);
        assert_eq!(rest(&mut accepted).await, b"", "what is inside is closed all the same");
    }
    world.assert_tcp_works().await;
}

async fn errors_of_plugins_keep_their_words(world: &World) {
    let listener = world.listen(LOCAL).await;
    let client = format!("tcp:127.0.0.1:{}", port(&listener));
    for client in [faulty("error-read", &client), around("pass", &faulty("error-read", &client))] {
        let mut client = world.connect(&client).await;
        let _accepted = listener.accept().await.expect("accept");
        let error = client.read_u8().await.expect_err("told to");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("told to fail"), "{error}");
    }
}

async fn every_kind_of_error_crosses_the_boundary(world: &World) {
    let manifest = world.registry.manifest("faulty").expect("the fixture").0;
    let role = manifest.plugin.schemes[0].client.as_ref().expect("a client");
    let kinds = role.parameter("kind").expect("kind").choices.clone();
    assert_eq!(kinds.len(), 19);
    let listener = world.listen("tcp:0:interface=127.0.0.1:backlog=500").await;
    let plain = format!("tcp:127.0.0.1:{}", port(&listener));
    for kind in kinds {
        let expected = if kind == "panicked" { "plugin-panicked" } else { kind.as_str() };
        let failing = format!("{}:kind={kind}", faulty("error", &plain));
        // Through other plugins too.
        for client in [failing.clone(), around("pass", &failing), around("pass", &around("pass", &failing))] {
            let error = world.connect_error(&client).await;
            assert_eq!(error.kind().name(), expected);
            assert!(error.message().contains("told to"), "{error}");
            let retryable = [
                "address-in-use",
                "not-found",
                "connection-refused",
                "connection-reset",
                "unreachable",
                "timed-out",
                "name-resolution",
                "resource-exhausted",
            ]
            .contains(&kind.as_str());
            assert_eq!(error.is_retryable(), retryable, "{kind}");
        }
        let server = world.listen(&format!("{}:kind={kind}", faulty("error", LOCAL))).await;
        let _client = world.connect(&format!("tcp:127.0.0.1:{}", port(&server))).await;
        let error = server.accept().await.expect("accept").await.expect_err("told to");
        assert_eq!(error.kind().name(), expected);
        assert_eq!(error.scheme(), Some("faulty"));
    }
}

async fn a_faulty_endpoint_leaves_the_others_of_its_plugin_alone(world: &World) {
    let good = world.listen(&faulty("none", LOCAL)).await;
    let plain = format!("tcp:127.0.0.1:{}", port(&good));
    assert_kind(&world.connect_error(&faulty("panic-connect", &plain)).await, ErrorKind::PluginPanicked);
    let error = world.listen_error(&faulty("panic-listen", LOCAL)).await;
    assert_kind(&error, ErrorKind::PluginPanicked);
    let (mut client, mut accepted) = world.pair(&good).await;
    exchange(&mut client, &mut accepted).await;
    assert!(!client.is_socket(), "the plugin carries the bytes");
}
