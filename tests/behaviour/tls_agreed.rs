//! What both sides of TLS come to: protocols, suites, sessions, and the socket beneath.

use std::fs;

use endpoints::{ErrorKind, fact as name};

use crate::support::{World, assert_kind, both_forms, exchange, pki, port};
use crate::tls::{client, failures, pair, quoted, server};

both_forms!(
    protocols_are_agreed_on,
    suites_can_be_chosen,
    sessions_are_resumed,
    small_pieces_are_sent_at_once,
);

async fn protocols_are_agreed_on(world: &World) {
    let Some(files) = pki().map(|folder| folder.join("pki")) else { return };
    let listener = world.listen(&server(&files, "server.pem", ":alpn=h2,http/1.1")).await;
    for (offered, agreed) in
        [(":alpn=http/1.1,h2", Some("h2")), (":alpn=http/1.1", Some("http/1.1")), ("", None)]
    {
        let (client, accepted) =
            pair(world, &listener, &client(&files, "localhost", &listener, offered)).await;
        for connection in [client, accepted] {
            assert_eq!(connection.info().fact(name::TLS_ALPN), agreed.map(str::as_bytes), "{offered}");
        }
    }
    let (client, _) = failures(world, &listener, &client(&files, "localhost", &listener, ":alpn=x")).await;
    assert_kind(&client, ErrorKind::HandshakeFailed);
}

async fn suites_can_be_chosen(world: &World) {
    const SUITES: [&str; 3] =
        ["TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"];
    let Some(files) = pki().map(|folder| folder.join("pki")) else { return };
    for suite in SUITES {
        let listener = world.listen(&server(&files, "server.pem", &format!(":ciphers={suite}"))).await;
        let (client, _accepted) = pair(world, &listener, &client(&files, "localhost", &listener, "")).await;
        assert_eq!(client.info().fact(name::TLS_CIPHER), Some(suite.as_bytes()));
        let version = if suite.contains("ECDHE") { "TLSv1.2" } else { "TLSv1.3" };
        assert_eq!(client.info().fact(name::TLS_VERSION), Some(version.as_bytes()));
    }
    // The server's order counts, its own one too.
    let listener = world.listen(&server(&files, "server.pem", "")).await;
    let wants = format!(":ciphers={},TLS_AES_128_GCM_SHA256", SUITES[0]);
    let wants = client(&files, "localhost", &listener, &wants);
    let (client_side, _accepted) = pair(world, &listener, &wants).await;
    assert_eq!(client_side.info().fact(name::TLS_CIPHER), Some(&b"TLS_AES_128_GCM_SHA256"[..]));
    let listener =
        world.listen(&server(&files, "server.pem", &format!(":ciphers={},{}", SUITES[1], SUITES[0]))).await;
    let wants = client(&files, "localhost", &listener, &format!(":ciphers={},{}", SUITES[0], SUITES[1]));
    let (client, _accepted) = pair(world, &listener, &wants).await;
    assert_eq!(client.info().fact(name::TLS_CIPHER), Some(SUITES[1].as_bytes()));
    let error = world.registry.server(server(&files, "server.pem", ":ciphers=RC4-MD5")).expect_err("unknown");
    assert_eq!(error.argument(), Some("ciphers"));
    assert!(error.message().contains("TLS_AES_128_GCM_SHA256"), "{error}");
}

async fn sessions_are_resumed(world: &World) {
    let Some(files) = pki().map(|folder| folder.join("pki")) else { return };
    for more in ["", ":ciphers=TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"] {
        let listener = world.listen(&server(&files, "server.pem", more)).await;
        let endpoint = world.registry.client(client(&files, "localhost", &listener, "")).expect("a client");
        for resumed in [b"0", b"1"] {
            let accepting = async { listener.accept().await.expect("accept").await.expect("a handshake") };
            let (client, mut accepted) = tokio::join!(endpoint.connect(), accepting);
            let mut client = client.expect("connect");
            // Tickets come with the first bytes.
            exchange(&mut client, &mut accepted).await;
            assert_eq!(accepted.info().fact(name::TLS_RESUMED), Some(&resumed[..]), "{more}");
            assert_eq!(client.info().fact(name::TLS_RESUMED), Some(&resumed[..]), "{more}");
        }
    }
}

async fn small_pieces_are_sent_at_once(world: &World) {
    let Some(files) = pki().map(|folder| folder.join("pki")) else { return };
    let listener = world.listen(&server(&files, "server.pem", "")).await;
    let port = port(&listener);
    let alone = format!("tls:127.0.0.1:{port}:trustRoots={}", quoted(&files.join("trust")));
    let (client, accepted) = pair(world, &listener, &alone).await;
    let mut found = 0;
    let itself = rustix::process::getpid();
    let itself = rustix::process::pidfd_open(itself, rustix::process::PidfdFlags::empty()).expect("a pidfd");
    let none = rustix::process::PidfdGetfdFlags::empty();
    for entry in fs::read_dir("/proc/self/fd").expect("/proc") {
        let number =
            entry.expect("an entry").file_name().to_str().expect("a number").parse().expect("a number");
        let Ok(socket) = rustix::process::pidfd_getfd(&itself, number, none) else { continue };
        let Ok(Some(peer)) = rustix::net::getpeername(&socket) else { continue };
        let Ok(peer) = std::net::SocketAddr::try_from(peer) else { continue };
        let peer = Some(endpoints::Address::Ip(peer));
        if [client.info().peer_addr(), accepted.info().peer_addr()].contains(&peer) {
            assert!(rustix::net::sockopt::tcp_nodelay(&socket).expect("TCP_NODELAY"), "to {peer:?}");
            found += 1;
        }
    }
    assert_eq!(found, 2, "both sockets are seen");
}
