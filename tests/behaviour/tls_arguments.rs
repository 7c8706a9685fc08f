//! What TLS says of the files and suites that it is given.

use std::fs;

use endpoints::{ErrorKind, Explanation};

use crate::support::{World, assert_kind, both_forms, pki};
use crate::tls::{client, quoted, server};
use crate::tls_identities::refused;

both_forms!(
    certificates_are_no_dh_parameters,
    suites_must_go_with_the_key,
    what_stands_for_ssl_shows_the_same,
    servers_name_the_argument_for_unknown_authorities,
    the_first_to_expire_is_told,
);

fn facts(explanation: &Explanation, name: &str) -> Vec<String> {
    let facts = explanation.facts.iter().filter(|(known, _)| known == name);
    facts.map(|(_, value)| value.clone()).collect()
}

async fn certificates_are_no_dh_parameters(world: &World) {
    let Some(files) = pki().map(|folder| folder.join("pki")) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let with = |path: &std::path::Path| {
        let site = quoted(&files.join("server.pem"));
        world.registry.server(format!("ssl:0:{site}:dhParameters={}", quoted(path)))
    };
    with(&files.join("dh2048.pem")).expect("good ones");
    let renamed = folder.path().join("renamed.pem");
    let good = fs::read_to_string(files.join("dh2048.pem")).expect("a file");
    fs::write(&renamed, good.replace("DH PARAMETERS", "EC PARAMETERS")).expect("write");
    let disguised = folder.path().join("disguised.pem");
    let certificate = fs::read_to_string(files.join("server.crt")).expect("a file");
    fs::write(&disguised, certificate.replace("CERTIFICATE", "DH PARAMETERS")).expect("write");
    for path in [files.join("server.crt"), renamed, disguised] {
        let error = with(&path).expect_err("no parameters");
        assert_kind(&error, ErrorKind::InvalidArgument);
        assert_eq!(error.argument(), Some("dhParameters"));
        assert!(error.message().contains("Diffie-Hellman parameters"), "{error}");
    }
}

async fn suites_must_go_with_the_key(world: &World) {
    const RSA: &str = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
    const ECDSA: &str = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
    let Some(files) = pki().map(|folder| folder.join("pki")) else { return };
    let make = |name: &str, more: &str| world.registry.server(server(&files, name, more));
    for (name, bad, good) in [("server.pem", RSA, ECDSA), ("server-rsa.pem", ECDSA, RSA)] {
        let error = make(name, &format!(":ciphers={bad}")).expect_err("no suite for the key");
        assert_eq!(error.argument(), Some("ciphers"), "{error}");
        assert!(error.message().contains(name), "{error}");
        for ciphers in [good, &format!("{bad},{good}"), &format!("{bad},TLS_AES_128_GCM_SHA256")] {
            make(name, &format!(":ciphers={ciphers}")).expect("a suite for the key");
        }
    }
    let sites = quoted(&files.join("sni"));
    let error = world.registry.server(format!("tls:{sites}:0:ciphers={RSA}")).expect_err("a folder");
    assert_eq!(error.argument(), Some("ciphers"), "{error}");
    // TLS 1.3 is not spoken here, so its suites do not help.
    let site = quoted(&files.join("server.pem"));
    let only = format!("ssl:0:{site}:sslmethod=TLSv1_2_METHOD:ciphers=TLS_AES_128_GCM_SHA256");
    let error = world.registry.server(only.as_str()).expect_err("no suite for the version");
    assert_eq!(error.argument(), Some("ciphers"), "{error}");
    world.registry.server(format!("{only},{RSA}")).expect_err("no suite for version and key");
    world.registry.server(format!("{only},{ECDSA}")).expect("a suite for both");
    // A client's key signs with any suite.
    let identity = quoted(&files.join("client.pem"));
    world.registry.client(format!("tls:localhost:1:certificate={identity}:ciphers={RSA}")).expect("a client");
}

/// The descriptions are those of the unit tests in `advice.rs`.
async fn what_stands_for_ssl_shows_the_same(world: &World) {
    let Some(files) = pki().map(|folder| folder.join("pki")) else { return };
    let site = quoted(&files.join("server.pem"));
    let explain = |description: String| world.registry.server(description).expect("a server").explain();
    let old = explain(format!("ssl:8443:{site}"));
    let new = explain(format!("tls:certificate={site}:port=8443:interface=0.0.0.0"));
    assert_eq!(facts(&old, "expires"), facts(&new, "expires"));
    let shown = &facts(&old, "shows")[0];
    assert!(facts(&new, "serves").iter().all(|name| name.ends_with(&format!("={shown}"))), "{new:?}");
    let inner = |explanation: &Explanation| {
        let arguments = explanation.inner[0].1.arguments.iter();
        arguments.map(|argument| (argument.name.clone(), argument.value.clone())).collect::<Vec<_>>()
    };
    assert_eq!(inner(&old), inner(&new));
}

async fn servers_name_the_argument_for_unknown_authorities(world: &World) {
    let Some(files) = pki().map(|folder| folder.join("pki")) else { return };
    let ca = quoted(&files.join("ca.crt"));
    let listener = world.listen(&server(&files, "server.pem", &format!(":clientCA={ca}"))).await;
    let identity = format!(":certificate={}", quoted(&files.join("otherclient.pem")));
    let error = refused(world, &listener, &client(&files, "localhost", &listener, &identity)).await;
    assert!(error.message().contains("clientCA"), "{error}");
    assert!(!error.message().contains("trustRoots"), "{error}");
}

async fn the_first_to_expire_is_told(world: &World) {
    let Some(files) = pki().map(|folder| folder.join("pki")) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    fs::copy(files.join("sni/a.pem"), folder.path().join("a.pem")).expect("a copy");
    let description = format!("tls:{}:0", quoted(folder.path()));
    let expires =
        || facts(&world.registry.server(description.as_str()).expect("a server").explain(), "expires");
    assert_eq!(expires(), ["2120-01-01T00:00:00Z"]);
    fs::copy(files.join("expired.pem"), folder.path().join("b.pem")).expect("a copy");
    assert_eq!(expires(), ["2021-01-01T00:00:00Z"]);
}
