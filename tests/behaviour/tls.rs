//! TLS, between this project's own two sides; `tests/peers` has other people's.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use endpoints::{Connection, ErrorKind, Listener, fact as name};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{World, assert_kind, both_forms, exchange, pki, port, reachable, rest, say};

both_forms!(
    bytes_and_facts_go_both_ways,
    it_is_reached_as_it_says,
    each_side_ends_by_itself,
    silence_ends_in_time,
    what_is_no_tls_is_told,
    a_cut_is_no_end,
    certificates_are_read_anew,
    bad_certificates_do_not_replace_good_ones,
    ssl_is_tls,
    layers_nest,
);

/// Ends the test, having said so, where there are no certificates.
macro_rules! certificates {
    () => {
        match pki() {
            Some(folder) => folder.join("pki"),
            None => return,
        }
    };
}

/// A path as an argument.
pub(crate) fn quoted(path: &Path) -> String {
    endpoints::quote_str(path.to_str().expect("UTF-8")).into_owned()
}

pub(crate) fn server(files: &Path, name: &str, more: &str) -> String {
    format!("tls:certificate={}:port=0:interface=127.0.0.1{more}", quoted(&files.join(name)))
}

/// A client that trusts the root of the test.
pub(crate) fn client(files: &Path, host: &str, listener: &Listener, more: &str) -> String {
    client_to(files, host, tcp_port(listener), more)
}

/// The same to a port.
pub(crate) fn client_to(files: &Path, host: &str, port: u16, more: &str) -> String {
    let trust = quoted(&files.join("trust"));
    let inner = endpoints::quote_str(&format!("tcp:127.0.0.1:{port}")).into_owned();
    format!("tls:{host}:443:trustRoots={trust}:endpoint={inner}{more}")
}

fn tcp_port(listener: &Listener) -> u16 {
    port(listener)
}

pub(crate) async fn pair(world: &World, listener: &Listener, client: &str) -> (Connection, Connection) {
    let accepting = async { listener.accept().await.expect("accept").await.expect("a handshake") };
    tokio::join!(world.connect(client), accepting)
}

/// What both sides say of a handshake that fails.
pub(crate) async fn failures(
    world: &World,
    listener: &Listener,
    client: &str,
) -> (endpoints::Error, endpoints::Error) {
    let accepting = async { listener.accept().await.expect("accept").await };
    let client = world.registry.client(client).expect(client);
    let connecting = async {
        match client.connect().await {
            Err(error) => error,
            // In TLS 1.3 a client learns only afterwards that it was refused.
            Ok(mut connection) => {
                let mut byte = [0];
                let error = connection.read(&mut byte).await.expect_err("no end in peace");
                let inner = error.get_ref().map(ToString::to_string).unwrap_or_default();
                panic!("connected, then: {error} {inner}");
            }
        }
    };
    let (client, server) = tokio::join!(connecting, accepting);
    (client, server.expect_err("no handshake"))
}

async fn bytes_and_facts_go_both_ways(world: &World) {
    let files = certificates!();
    let listener = world.listen(&server(&files, "server.pem", "")).await;
    let (mut client, mut accepted) =
        pair(world, &listener, &client(&files, "localhost", &listener, "")).await;
    exchange(&mut client, &mut accepted).await;
    let big = vec![7; 1 << 20];
    tokio::join!(say(&mut client, &mut accepted, &big), async {});
    for connection in [&client, &accepted] {
        let info = connection.info();
        assert_eq!(info.layers().iter().map(endpoints::Layer::scheme).collect::<Vec<_>>(), ["tls", "tcp"]);
        let fact = |name| info.fact(name).map(|value| String::from_utf8_lossy(value).into_owned());
        assert_eq!(fact(name::TLS_VERSION).as_deref(), Some("TLSv1.3"));
        assert!(fact(name::TLS_CIPHER).expect("a suite").starts_with("TLS_"));
        assert_eq!(fact(name::TLS_GROUP).as_deref(), Some("X25519MLKEM768"));
        assert_eq!(fact(name::TLS_RESUMED).as_deref(), Some("0"));
        assert!(info.peer_addr().is_some() && info.local_addr().is_some());
        assert!(!connection.is_socket());
    }
    assert_eq!(accepted.info().fact(name::TLS_SNI), Some(&b"localhost"[..]));
    assert!(client.info().fact(name::TLS_PEER_CERTIFICATE).is_some_and(|der| der.starts_with(&[0x30])));
    assert_eq!(accepted.info().fact(name::TLS_PEER_CERTIFICATE), None);
}

async fn it_is_reached_as_it_says(world: &World) {
    let files = certificates!();
    let trust = quoted(&files.join("trust"));
    let folder = tempfile::tempdir().expect("a folder");
    let socket = endpoints::quote_str(&format!("unix:{}", quoted(&folder.path().join("s")))).into_owned();
    for description in [
        server(&files, "server.pem", ""),
        server(&files, "iponly.pem", ""),
        server(&files, "wildcard.pem", ""),
        format!("tls:{}:0", quoted(&files.join("sni"))),
        format!("ssl:0:{}:interface=127.0.0.1", quoted(&files.join("server.pem"))),
        format!("tls:certificate={}:endpoint={socket}", quoted(&files.join("server-rsa.pem"))),
    ] {
        let listener = world.listen(&description).await;
        // What a server cannot know: whom the client trusts.
        let client = format!("{}:trustRoots={trust}", reachable(&listener));
        let (mut client, mut accepted) = pair(world, &listener, &client).await;
        exchange(&mut client, &mut accepted).await;
    }
}

async fn each_side_ends_by_itself(world: &World) {
    let files = certificates!();
    let listener = world.listen(&server(&files, "server.pem", "")).await;
    let (mut client, mut accepted) =
        pair(world, &listener, &client(&files, "localhost", &listener, "")).await;
    client.write_all(b"question").await.expect("write");
    client.shutdown().await.expect("shutdown");
    assert_eq!(rest(&mut accepted).await, b"question");
    // The other direction is still open.
    accepted.write_all(b"answer").await.expect("write");
    accepted.shutdown().await.expect("shutdown");
    assert_eq!(rest(&mut client).await, b"answer");
}

async fn silence_ends_in_time(world: &World) {
    let files = certificates!();
    // A server that says nothing.
    let silent = world.listen("tcp:0:interface=127.0.0.1").await;
    let error = world.connect_error(&client(&files, "localhost", &silent, ":timeout=100ms")).await;
    assert_kind(&error, ErrorKind::TimedOut);
    assert!(error.message().contains("handshake"), "{error}");
    assert!(error.is_retryable());
    // Clients that say nothing, and one that does, behind them.
    let listener = world.listen(&server(&files, "server.pem", ":timeout=100ms")).await;
    let plain = format!("tcp:127.0.0.1:{}", tcp_port(&listener));
    let mut silent = Vec::new();
    let mut handshakes = Vec::new();
    for _ in 0..50 {
        silent.push(world.connect(&plain).await);
        let incoming = listener.accept().await.expect("accept");
        handshakes.push(tokio::spawn(async move { incoming.await }));
    }
    let (mut client, mut accepted) =
        pair(world, &listener, &client(&files, "localhost", &listener, "")).await;
    exchange(&mut client, &mut accepted).await;
    for handshake in handshakes {
        assert_kind(&handshake.await.expect("no panic").expect_err("nothing came"), ErrorKind::TimedOut);
    }
}

async fn what_is_no_tls_is_told(world: &World) {
    let files = certificates!();
    let listener = world.listen(&server(&files, "server.pem", "")).await;
    let mut plain = world.connect(&format!("tcp:127.0.0.1:{}", tcp_port(&listener))).await;
    plain.write_all(b"GET / HTTP/1.0\r\n\r\n").await.expect("write");
    let error = listener.accept().await.expect("accept").await.expect_err("no TLS");
    assert_kind(&error, ErrorKind::HandshakeFailed);
    assert!(
        error.message().contains("does it speak TLS?") && error.message().contains("127.0.0.1:"),
        "{error}"
    );

    let listener = world.listen("tcp:0:interface=127.0.0.1").await;
    let answering = async {
        let mut plain = listener.accept().await.expect("accept").await.expect("no handshake");
        plain.write_all(b"220 mail.example ready\r\n").await.expect("write");
        rest(&mut plain).await
    };
    let description = client(&files, "localhost", &listener, "");
    let (error, _) = tokio::join!(world.connect_error(&description), answering);
    assert_kind(&error, ErrorKind::HandshakeFailed);
}

async fn a_cut_is_no_end(world: &World) {
    let files = certificates!();
    // Between the two, a relay that cuts both connections without a word of TLS.
    let listener = world.listen(&server(&files, "server.pem", "")).await;
    let middle = world.listen("tcp:0:interface=127.0.0.1").await;
    let to_server = format!("tcp:127.0.0.1:{}", tcp_port(&listener));
    let relaying = async {
        let mut near = middle.accept().await.expect("accept").await.expect("no handshake");
        let mut far = world.connect(&to_server).await;
        let copying = tokio::io::copy_bidirectional(&mut near, &mut far);
        let _ = tokio::time::timeout(Duration::from_millis(300), copying).await;
    };
    let description = client(&files, "localhost", &middle, "");
    let ends = async {
        let (mut client, mut accepted) = pair(world, &listener, &description).await;
        exchange(&mut client, &mut accepted).await;
        for connection in [&mut client, &mut accepted] {
            let error = connection.read(&mut [0]).await.expect_err("no end of TLS");
            assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{error}");
        }
    };
    tokio::join!(relaying, ends);
}

/// The common name that a server shows.
pub(crate) async fn shown(
    world: &World,
    listener: &Listener,
    files: &Path,
    host: &str,
) -> Result<(), String> {
    let client = world.registry.client(client(files, host, listener, "")).expect("a client");
    let accepting = async { listener.accept().await.expect("accept").await };
    let (client, _) = tokio::join!(client.connect(), accepting);
    client.map(drop).map_err(|error| error.message().to_owned())
}

/// Waits until the server shows a certificate for `host`.
pub(crate) async fn until_shown(world: &World, listener: &Listener, files: &Path, host: &str) {
    let mut last = Ok(());
    for _ in 0..40 {
        last = shown(world, listener, files, host).await;
        if last.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{host} was never shown: {last:?}");
}

pub(crate) fn copy(from: &Path, to: &Path) -> PathBuf {
    fs::copy(from, to).expect("a copy");
    to.to_owned()
}

async fn certificates_are_read_anew(world: &World) {
    let files = certificates!();
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    // Renamed over.
    copy(&files.join("sni/a.pem"), &at("site.pem"));
    let listener = world.listen(&server(folder.path(), "site.pem", "")).await;
    until_shown(world, &listener, &files, "a.test").await;
    let new = copy(&files.join("sni/b.pem"), &at("new"));
    fs::rename(new, at("site.pem")).expect("rename");
    until_shown(world, &listener, &files, "b.test").await;
    // Written over in place.
    copy(&files.join("sni/a.pem"), &at("site.pem"));
    until_shown(world, &listener, &files, "a.test").await;

    // A link that is led elsewhere, as certbot and Kubernetes do.
    fs::create_dir_all(at("1")).expect("a folder");
    fs::create_dir_all(at("2")).expect("a folder");
    copy(&files.join("sni/a.pem"), &at("1/c.pem"));
    copy(&files.join("sni/b.pem"), &at("2/c.pem"));
    std::os::unix::fs::symlink("1", at("live")).expect("a link");
    let listener = world.listen(&format!("tls:{}:0:interface=127.0.0.1", quoted(&at("live")))).await;
    until_shown(world, &listener, &files, "a.test").await;
    std::os::unix::fs::symlink("2", at("next")).expect("a link");
    fs::rename(at("next"), at("live")).expect("rename");
    until_shown(world, &listener, &files, "b.test").await;
    // A file that joins the others.
    copy(&files.join("sni/w.pem"), &at("2/w.pem"));
    until_shown(world, &listener, &files, "x.c.test").await;
    until_shown(world, &listener, &files, "b.test").await;
}

async fn bad_certificates_do_not_replace_good_ones(world: &World) {
    let files = certificates!();
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    copy(&files.join("sni-a.crt"), &at("site.crt"));
    copy(&files.join("sni-a.key"), &at("site.key"));
    let more = format!(":privateKey={}", quoted(&at("site.key")));
    let listener = world.listen(&server(folder.path(), "site.crt", &more)).await;
    until_shown(world, &listener, &files, "a.test").await;
    // In two steps, of which the first leaves a pair that does not fit.
    copy(&files.join("sni-b.key"), &at("site.key"));
    for _ in 0..12 {
        shown(world, &listener, &files, "a.test").await.expect("the old certificate");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    copy(&files.join("sni-b.crt"), &at("site.crt"));
    until_shown(world, &listener, &files, "b.test").await;
    for damage in ["garbage.pem", "empty.pem", "server.pem"] {
        copy(&files.join(damage), &at("site.crt"));
        for _ in 0..12 {
            shown(world, &listener, &files, "b.test").await.expect("the old certificate");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    fs::remove_file(at("site.crt")).expect("remove");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    shown(world, &listener, &files, "b.test").await.expect("the old certificate");
}

async fn ssl_is_tls(world: &World) {
    let files = certificates!();
    let file = |name: &str| quoted(&files.join(name));
    let listener = world
        .listen(&format!(
            "ssl:0:{}:{}:sslmethod=TLSv1_2_METHOD:extraCertChain={}:interface=127.0.0.1",
            file("chainleaf.key"),
            file("chainleaf.crt"),
            file("chain-crlf.pem")
        ))
        .await;
    let client =
        format!("ssl:127.0.0.1:{}:hostname=localhost:caCertsDir={}", tcp_port(&listener), file("trust"));
    let (mut near, mut accepted) = pair(world, &listener, &client).await;
    exchange(&mut near, &mut accepted).await;
    assert_eq!(near.info().fact(name::TLS_VERSION), Some(&b"TLSv1.2"[..]));
    // Without a hostname it is the host that must be proven, which Twisted leaves out.
    let listener = world.listen(&server(&files, "dnsonly.pem", "")).await;
    let client = format!("ssl:127.0.0.1:{}:caCertsDir={}", tcp_port(&listener), file("trust"));
    let (error, _) = failures(world, &listener, &client).await;
    assert!(error.message().contains("127.0.0.1"), "{error}");
}

async fn layers_nest(world: &World) {
    let files = certificates!();
    let inner = endpoints::quote_str(&server(&files, "server.pem", "")).into_owned();
    let outer = world
        .listen(&format!("tls:certificate={}:endpoint={inner}", quoted(&files.join("server-rsa.pem"))))
        .await;
    let trust = quoted(&files.join("trust"));
    let near =
        endpoints::quote_str(&format!("tls:127.0.0.1:{}:trustRoots={trust}", tcp_port(&outer))).into_owned();
    let (mut client, mut accepted) =
        pair(world, &outer, &format!("tls:localhost:443:trustRoots={trust}:endpoint={near}")).await;
    exchange(&mut client, &mut accepted).await;
    let info = accepted.info();
    assert_eq!(info.layers().iter().map(endpoints::Layer::scheme).collect::<Vec<_>>(), ["tls", "tls", "tcp"]);
}
