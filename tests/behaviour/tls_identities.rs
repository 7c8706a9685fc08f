//! Who is who in TLS: what servers and clients have to prove, and by which certificate.

use endpoints::{ErrorKind, Listener, fact as name};
use tokio::io::AsyncReadExt;

use crate::support::{World, assert_kind, both_forms, exchange, pki};
use crate::tls::{client, failures, pair, quoted, server};

both_forms!(
    servers_must_prove_who_they_are,
    names_have_their_certificates,
    clients_may_have_to_prove_who_they_are,
);

async fn servers_must_prove_who_they_are(world: &World) {
    let Some(files) = pki().map(|folder| folder.join("pki")) else { return };
    for (certificate, host, mention) in [
        ("wronghost.pem", "localhost", "wrong.example"),
        ("expired.pem", "localhost", "expired"),
        ("notyet.pem", "localhost", "not valid yet"),
        ("cnonly.pem", "localhost", "localhost"),
        ("otherleaf.pem", "localhost", "UnknownIssuer"),
        ("selfsigned.pem", "localhost", "trustRoots"),
        ("dnsonly.pem", "127.0.0.1", "127.0.0.1"),
        ("iponly.pem", "localhost", "localhost"),
    ] {
        let listener = world.listen(&server(&files, certificate, "")).await;
        let (client, server) = failures(world, &listener, &client(&files, host, &listener, "")).await;
        assert_kind(&client, ErrorKind::HandshakeFailed);
        assert!(client.message().contains(mention), "{certificate}: {client}");
        assert!(!client.is_retryable(), "{client}");
        assert_kind(&server, ErrorKind::AuthenticationFailed);
    }
    // As newcomers make them: one certificate for everything.
    let key = format!(":privateKey={}", quoted(&files.join("ca.key")));
    let listener = world.listen(&server(&files, "ca.crt", &key)).await;
    let (error, _) = failures(world, &listener, &client(&files, "localhost", &listener, "")).await;
    assert!(error.message().contains("basicConstraints=CA:FALSE"), "{error}");
    for (certificate, host) in [
        ("server.pem", "localhost"),
        ("server.pem", "127.0.0.1"),
        ("server-rsa.pem", "LOCALHOST"),
        ("dnsonly.pem", "localhost"),
        ("iponly.pem", "127.0.0.1"),
        ("wildcard.pem", "any.example.test"),
        ("idna.pem", "bücher.example"),
        ("fullchain.pem", "localhost"),
    ] {
        let listener = world.listen(&server(&files, certificate, "")).await;
        let (mut client, mut accepted) = pair(world, &listener, &client(&files, host, &listener, "")).await;
        exchange(&mut client, &mut accepted).await;
    }
}

async fn names_have_their_certificates(world: &World) {
    let Some(files) = pki().map(|folder| folder.join("pki")) else { return };
    let listener = world.listen(&format!("tls:{}:0:interface=127.0.0.1", quoted(&files.join("sni")))).await;
    for host in ["a.test", "www.a.test", "B.test", "x.c.test"] {
        let (mut client, mut accepted) = pair(world, &listener, &client(&files, host, &listener, "")).await;
        exchange(&mut client, &mut accepted).await;
    }
    // Whoever asks for another gets the first, and refuses it.
    for host in ["c.test", "y.x.c.test", "127.0.0.1"] {
        let (error, _) = failures(world, &listener, &client(&files, host, &listener, "")).await;
        assert!(error.message().contains("a.test"), "{host}: {error}");
    }
}

async fn clients_may_have_to_prove_who_they_are(world: &World) {
    let Some(files) = pki().map(|folder| folder.join("pki")) else { return };
    let ca = quoted(&files.join("ca.crt"));
    let with = |name: &str| format!(":certificate={}", quoted(&files.join(name)));
    for mode in ["", ":clientAuth=required", ":clientAuth=optional"] {
        let listener = world.listen(&server(&files, "server.pem", &format!(":clientCA={ca}{mode}"))).await;
        let good = client(&files, "localhost", &listener, &with("client.pem"));
        let (mut client_side, mut accepted) = pair(world, &listener, &good).await;
        exchange(&mut client_side, &mut accepted).await;
        assert!(accepted.info().fact(name::TLS_PEER_CERTIFICATE).is_some());

        let bad = client(&files, "localhost", &listener, &with("otherclient.pem"));
        assert_kind(&refused(world, &listener, &bad).await, ErrorKind::HandshakeFailed);
        let none = client(&files, "localhost", &listener, "");
        if mode == ":clientAuth=optional" {
            let (mut client_side, mut accepted) = pair(world, &listener, &none).await;
            exchange(&mut client_side, &mut accepted).await;
            assert_eq!(accepted.info().fact(name::TLS_PEER_CERTIFICATE), None);
        } else {
            assert_kind(&refused(world, &listener, &none).await, ErrorKind::HandshakeFailed);
        }
    }
    let error = world.registry.server(server(&files, "server.pem", ":clientAuth=optional"));
    assert_eq!(error.expect_err("no clientCA").argument(), Some("clientCA"));
}

/// What the server says of a client that it refuses, which may learn of it later.
pub(crate) async fn refused(world: &World, listener: &Listener, client: &str) -> endpoints::Error {
    let client = world.registry.client(client).expect(client);
    let connecting = async {
        match client.connect().await {
            Ok(mut connection) => {
                let error = connection.read(&mut [0]).await.expect_err("an alert");
                assert_ne!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{error}");
            }
            Err(error) => assert_kind(&error, ErrorKind::AuthenticationFailed),
        }
    };
    let accepting = async { listener.accept().await.expect("accept").await.expect_err("refused") };
    tokio::join!(connecting, accepting).1
}
