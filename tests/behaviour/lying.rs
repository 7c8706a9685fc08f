//! Plugins whose tables answer what no sound plugin would: each lie is an error of its own, and nothing else suffers.

use std::io::{ErrorKind as IoKind, IoSlice};

use endpoints::{Address, Connection, Error, ErrorKind, Registry};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{assert_kind, assert_tcp_works, folder_with, in_time};

/// A registry that has the fixture from its file, and everything else compiled in.
fn world() -> (Registry, TempDir) {
    let folder = folder_with(&["endpoints_fixture_lying"]);
    let builder = Registry::builder().default_plugin_path(false).plugin_path(folder.path());
    (builder.build().expect("a registry"), folder)
}

#[track_caller]
fn assert_said(error: &Error, kind: ErrorKind, mention: &str) {
    assert_kind(error, kind);
    let said = error.to_string();
    assert!(said.contains(mention), "{mention:?} is not in: {said}");
    assert!(!said.contains(char::is_control) && said.len() < 10_000, "{said:?}");
}

async fn connected(registry: &Registry, mode: &str) -> Result<Connection, Error> {
    in_time(registry.client(format!("lying:{mode}")).expect(mode).connect()).await
}

#[tokio::test]
async fn endpoints_that_are_none() {
    let (registry, _folder) = world();
    let made = |mode: &str| registry.client(format!("lying:{mode}")).expect_err(mode);
    assert_said(&made("endpoint-unwritten"), ErrorKind::Internal, "neither an endpoint nor an error");
    assert_said(&made("endpoint-error"), ErrorKind::InvalidArgument, "told to lie  [31m");
    let error = made("endpoint-argument");
    assert_said(&error, ErrorKind::InvalidArgument, "told to lie");
    let argument = error.argument().expect("it names one");
    assert!(!argument.contains(char::is_control), "{argument:?}");
    assert!(error.span().is_none(), "there is no such argument in the description: {error:?}");
    // What the plugin says of its arguments ends where it cannot be read.
    let described = registry.client("lying:describe").expect("lying").to_string();
    assert!(!described.contains("absurd"), "{described}");
    assert_tcp_works(&registry).await;
}

#[tokio::test]
async fn connections_that_are_none() {
    let (registry, _folder) = world();
    for (mode, kind, mention) in [
        ("future-null", ErrorKind::PluginPanicked, "panicked"),
        ("future-state", ErrorKind::PluginPanicked, "panicked"),
        ("future-unwritten", ErrorKind::Internal, "unknown kind 0"),
        ("conn-unwritten", ErrorKind::Internal, "unknown kind 0"),
        ("conn-kind", ErrorKind::Internal, "unknown kind 99"),
        ("conn-without-error", ErrorKind::Internal, "kind 1"),
        ("conn-error-kind", ErrorKind::Other, "told to lie  [31m\u{fffd}  at length"),
        ("conn-error-os", ErrorKind::Other, "told to lie"),
        ("conn-error-long", ErrorKind::Other, "xxx…"),
        ("conn-stream-null", ErrorKind::Internal, "kind 4"),
        ("conn-handshake-null", ErrorKind::Internal, "kind 5"),
        ("conn-handshake", ErrorKind::Internal, "handshake in place of a connection"),
        ("fd-negative", ErrorKind::Internal, "-7 was handed over as a descriptor"),
        ("fd-closed", ErrorKind::Internal, "is not open"),
        ("fd-file", ErrorKind::Internal, "no socket"),
        ("fd-datagram", ErrorKind::Internal, "no stream"),
        ("fd-listening", ErrorKind::Internal, "a listening socket"),
        ("fd-twice", ErrorKind::Internal, "handed over twice"),
        ("fd-pair-negative", ErrorKind::Internal, "-1 was handed over"),
        ("fd-pair-closed", ErrorKind::Internal, "is not open"),
    ] {
        let error = connected(&registry, mode).await.map(drop).expect_err(mode);
        assert_said(&error, kind, mention);
        assert_eq!(error.scheme(), Some("lying"), "{mode}: {error}");
    }
    assert_tcp_works(&registry).await;
}

#[tokio::test]
async fn facts_that_end_too_early() {
    let (registry, _folder) = world();
    let mut connection = connected(&registry, "conn-facts").await.expect("a socket");
    assert_eq!(told(&connection), ["sound", "peer.ip"]);
    assert!(!matches!(connection.info().peer_addr(), Some(Address::Ip(_))), "it is no address");
    assert_eq!(connection.read(&mut [0; 8]).await.expect("its other end is closed"), 0);
    assert_tcp_works(&registry).await;
}

/// The names of the facts that the plugin told, without those that the host knows of a socket.
fn told(connection: &Connection) -> Vec<String> {
    let info = connection.info();
    let names = info.layers()[0].facts().map(|(name, _)| name.to_owned());
    names.filter(|name| *name == "sound" || name.contains("ip") || name.contains("absurd")).collect()
}

/// What a stream of that mode answers to the operation that its mode is about.
async fn operated(registry: &Registry, mode: &str) -> std::io::Result<()> {
    let mut connection = connected(registry, mode).await.expect(mode);
    let operation = async {
        match mode.split('-').next().unwrap_or_default() {
            "read" => connection.read(&mut [0; 16]).await.map(drop),
            "write" => connection.write(b"some bytes").await.map(drop),
            "vectored" => {
                connection.write_vectored(&[IoSlice::new(b"some"), IoSlice::new(b"bytes")]).await.map(drop)
            }
            "flush" => connection.flush().await,
            _ => connection.shutdown().await,
        }
    };
    in_time(operation).await
}

#[tokio::test]
async fn streams_that_claim_what_cannot_be() {
    let (registry, _folder) = world();
    for (operation, claims) in [("read", 16), ("write", 10), ("vectored", 9), ("flush", 0), ("shutdown", 0)] {
        for (lie, kind, mention) in [
            ("more", IoKind::InvalidData, format!("claims {} bytes of a buffer of {claims}", claims + 1)),
            ("most", IoKind::InvalidData, format!("claims {} bytes of a buffer of {claims}", u64::MAX)),
            ("tag", IoKind::InvalidData, "the unknown tag 77".to_owned()),
            ("os", std::io::Error::from_raw_os_error(-1).kind(), "os error".to_owned()),
            ("kind", IoKind::Other, String::new()),
            ("silent", IoKind::Other, String::new()),
            ("words", IoKind::Other, "told to lie  [31m\u{fffd}  at length".to_owned()),
            ("panicked", IoKind::Other, "panicked".to_owned()),
        ] {
            let counts = !matches!(operation, "flush" | "shutdown");
            if !counts && matches!(lie, "more" | "most") {
                // The number means nothing there.
                operated(&registry, &format!("{operation}-{lie}")).await.expect("done");
                continue;
            }
            let mode = format!("{operation}-{lie}");
            let error = operated(&registry, &mode).await.expect_err(&mode);
            assert_eq!(error.kind(), kind, "{mode}: {error}");
            let said = error.to_string();
            assert!(said.contains(&mention) && !said.contains(char::is_control), "{mode}: {said:?}");
        }
    }
    connected(&registry, "sound").await.expect("a stream");
    assert_tcp_works(&registry).await;
}

#[tokio::test]
async fn listeners_that_are_none() {
    let (registry, _folder) = world();
    let server = |mode: &str| registry.server(format!("lying:{mode}")).expect("lying");
    for (mode, kind, mention) in [
        ("future-null", ErrorKind::PluginPanicked, "panicked"),
        ("future-state", ErrorKind::PluginPanicked, "panicked"),
        ("future-unwritten", ErrorKind::Internal, "neither a listener nor an error"),
        ("listen-unwritten", ErrorKind::Internal, "neither a listener nor an error"),
        ("listen-error", ErrorKind::Other, "told to lie"),
        ("socket-closed", ErrorKind::Internal, "is not open"),
        ("socket-file", ErrorKind::Internal, "no socket"),
        ("socket-datagram", ErrorKind::Internal, "no stream"),
        ("socket-connected", ErrorKind::Internal, "does not listen"),
    ] {
        let error = in_time(server(mode).listen()).await.map(drop).expect_err(mode);
        assert_said(&error, kind, mention);
        assert_eq!(error.scheme(), Some("lying"), "{mode}: {error}");
    }
    for (mode, kind, mention) in [
        ("accept-state", ErrorKind::PluginPanicked, "panicked"),
        ("accept-unwritten", ErrorKind::Internal, "unknown kind 0"),
        ("conn-kind", ErrorKind::Internal, "unknown kind 99"),
        ("conn-error-kind", ErrorKind::Other, "told to lie"),
        ("conn-stream-null", ErrorKind::Internal, "kind 4"),
        ("conn-handshake-null", ErrorKind::Internal, "kind 5"),
        ("fd-closed", ErrorKind::Internal, "is not open"),
        ("fd-twice", ErrorKind::Internal, "handed over twice"),
        ("handshake-twice", ErrorKind::Internal, "came to another handshake"),
        ("handshake-state", ErrorKind::PluginPanicked, "panicked"),
        ("handshake-unwritten", ErrorKind::Internal, "unknown kind 0"),
        ("handshake-kind", ErrorKind::Internal, "unknown kind 99"),
    ] {
        let listener = in_time(server(mode).listen()).await.expect(mode);
        assert!(listener.addresses().is_empty(), "{mode}: {:?}", listener.addresses());
        for _ in 0..2 {
            let accepted = in_time(async { listener.accept().await?.await }).await;
            assert_said(&accepted.map(drop).expect_err(mode), kind, mention);
        }
        in_time(listener.close()).await.expect(mode);
    }
    for (mode, kind, mention) in [
        ("close-state", ErrorKind::PluginPanicked, "panicked"),
        ("close-words", ErrorKind::Other, "told to lie"),
    ] {
        let listener = in_time(server(mode).listen()).await.expect(mode);
        assert_said(&in_time(listener.close()).await.expect_err(mode), kind, mention);
    }
    assert_tcp_works(&registry).await;
}

#[tokio::test]
async fn plugins_that_cannot_be_set_up() {
    let (registry, _folder) = world();
    for (scheme, kind, mention) in [
        ("absent", ErrorKind::Internal, "neither an instance nor an error"),
        ("talkative", ErrorKind::Other, "told to lie"),
        ("stillborn", ErrorKind::PluginPanicked, "panicked while it was set up"),
    ] {
        // What failed is tried again, and fails again.
        for _ in 0..2 {
            let error = registry.client(format!("{scheme}:")).expect_err(scheme);
            assert_said(&error, kind, mention);
            assert!(
                error.message().contains(&format!("endpoints-fixture-{scheme} cannot be set up")),
                "{error}"
            );
        }
    }
    // Others in the same file can be used.
    connected(&registry, "sound").await.expect("a stream");
    assert_tcp_works(&registry).await;
}

#[tokio::test]
async fn a_plugin_that_panics_when_it_is_let_go() {
    let (registry, folder) = world();
    assert_said(&registry.client("mortal:").expect_err("it has no client"), ErrorKind::Unsupported, "client");
    drop(registry);
    let builder = Registry::builder().default_plugin_path(false).plugin_path(folder.path());
    let registry = builder.build().expect("a registry");
    registry.client("mortal:").expect_err("it is as it was");
    assert_tcp_works(&registry).await;
}

#[tokio::test]
async fn manifests_that_contradict_the_code() {
    let (registry, _folder) = world();
    let client = |text: &str| registry.client(text).expect_err(text);
    // A parameter that the manifest lacks, a scheme and a side that the code lacks.
    assert_said(&client("contrary:"), ErrorKind::Internal, "forgotten");
    assert_said(&client("contrary2:"), ErrorKind::Unsupported, "there is no contrary2 here");
    let error = registry.server("contrary:").expect_err("there is no such side");
    assert_said(&error, ErrorKind::Unsupported, "server");
    // And a parameter that the code does not look at is what it is declared as.
    assert_said(&client("contrary:known=1"), ErrorKind::Internal, "forgotten");
    assert_tcp_works(&registry).await;
}
