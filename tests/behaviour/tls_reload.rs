//! Certificates that are renewed under a listener that is in use.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{World, both_forms, pki, port};
use crate::tls::{copy, quoted, server, shown, until_shown};

both_forms!(
    handshakes_under_way_outlive_reloads,
    a_folder_shows_what_it_had_until_a_renewal_is_whole,
    a_folder_may_be_as_certbot_leaves_it,
    a_damaged_key_is_not_shown,
);

fn raw_client(files: &Path, version: &'static SupportedProtocolVersion) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(files.join("ca.crt")).expect("a certificate")).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    ClientConnection::new(Arc::new(config), name).expect("a client")
}

async fn handshakes_under_way_outlive_reloads(world: &World) {
    let Some(files) = pki().map(|folder| folder.join("pki")) else { return };
    for version in [&TLS12, &TLS13] {
        let folder = tempfile::tempdir().expect("a folder");
        let site = folder.path().join("site.pem");
        copy(&files.join("server.pem"), &site);
        let listener = world.listen(&server(folder.path(), "site.pem", "")).await;
        let mut tls = raw_client(&files, version);
        let mut hello = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut hello).expect("a hello");
        }
        let mut tcp = TcpStream::connect(("127.0.0.1", port(&listener))).await.expect("connect");
        let (half, other) = hello.split_at(hello.len() / 2);
        tcp.write_all(half).await.expect("write");
        let incoming = listener.accept().await.expect("accept");
        let accepting = tokio::spawn(async move { incoming.await });
        // One that is bad, and one that is good and for this name too.
        copy(&files.join("garbage.pem"), &site);
        for _ in 0..12 {
            shown(world, &listener, &files, "127.0.0.1").await.expect("the old certificate");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        copy(&files.join("dnsonly.pem"), &site);
        let mut tries = 0;
        while shown(world, &listener, &files, "127.0.0.1").await.is_ok() {
            tries += 1;
            assert!(tries < 40, "the new certificate is never shown");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(!accepting.is_finished());
        tcp.write_all(other).await.expect("write");
        while tls.is_handshaking() {
            let mut bytes = [0; 4096];
            let count = tcp.read(&mut bytes).await.expect("read");
            assert_ne!(count, 0, "the server gave up");
            let mut bytes = &bytes[..count];
            while !bytes.is_empty() {
                tls.read_tls(&mut bytes).expect("memory");
                tls.process_new_packets().expect("a good handshake");
            }
            let mut answer = Vec::new();
            while tls.wants_write() {
                tls.write_tls(&mut answer).expect("memory");
            }
            tcp.write_all(&answer).await.expect("write");
        }
        let mut accepted = accepting.await.expect("no panic").expect("a handshake");
        tls.writer().write_all(b"hello").expect("memory");
        let mut record = Vec::new();
        tls.write_tls(&mut record).expect("memory");
        tcp.write_all(&record).await.expect("write");
        let mut heard = [0; 5];
        accepted.read_exact(&mut heard).await.expect("read");
        assert_eq!(&heard, b"hello");
    }
}

async fn a_folder_shows_what_it_had_until_a_renewal_is_whole(world: &World) {
    let Some(files) = pki().map(|folder| folder.join("pki")) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let put = |from: &str, to: &str| copy(&files.join(from), &folder.path().join(to));
    put("sni-a.crt", "c.pem");
    put("sni-a.key", "k.pem");
    put("sni/w.pem", "z.pem");
    let listener = world.listen(&format!("tls:{}:0:interface=127.0.0.1", quoted(folder.path()))).await;
    put("sni-b.key", "k.pem");
    for _ in 0..12 {
        for host in ["a.test", "x.c.test"] {
            shown(world, &listener, &files, host).await.expect("the old certificate");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    put("garbage.pem", "z.pem");
    put("sni-b.crt", "c.pem");
    until_shown(world, &listener, &files, "b.test").await;
    shown(world, &listener, &files, "x.c.test").await.expect("what its bad file had");
    fs::remove_file(folder.path().join("z.pem")).expect("remove");
    let mut tries = 0;
    while shown(world, &listener, &files, "x.c.test").await.is_ok() {
        tries += 1;
        assert!(tries < 40, "a certificate whose file is gone is still shown");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Four links into an archive, which a renewal leads to new files one after another.
async fn a_folder_may_be_as_certbot_leaves_it(world: &World) {
    let Some(files) = pki().map(|folder| folder.join("pki")) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let live = folder.path().join("live");
    fs::create_dir(&live).expect("a folder");
    let renew = |number: u32, name: &str| {
        let read = |name: &str| fs::read_to_string(files.join(name)).expect("a file");
        let (certificate, above) = (read(&format!("{name}.crt")), read("inter.crt"));
        for (kind, text) in [
            ("cert", certificate.clone()),
            ("chain", above.clone()),
            ("fullchain", certificate + &above),
            ("privkey", read(&format!("{name}.key"))),
        ] {
            let (file, link) = (format!("{kind}{number}.pem"), live.join(format!("{kind}.pem")));
            fs::write(folder.path().join(&file), text).expect("write");
            let _ = fs::remove_file(&link);
            symlink(Path::new("..").join(file), link).expect("a link");
        }
    };
    renew(1, "chainleaf");
    let listener = world.listen(&format!("tls:{}:0:interface=127.0.0.1", quoted(&live))).await;
    shown(world, &listener, &files, "localhost").await.expect("a whole chain");
    renew(2, "sni-a");
    until_shown(world, &listener, &files, "a.test").await;
    shown(world, &listener, &files, "localhost").await.expect_err("it is renewed");
}

async fn a_damaged_key_is_not_shown(world: &World) {
    let Some(files) = pki().map(|folder| folder.join("pki")) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let text = fs::read_to_string(files.join("server.pem")).expect("a file");
    fs::write(folder.path().join("one-line.pem"), text.replace('\n', "")).expect("write");
    let error = world.registry.server(server(folder.path(), "one-line.pem", "")).expect_err("no PEM");
    let message = error.to_string();
    assert!(message.contains("line of its own"), "{message}");
    for window in text.as_bytes().windows(8).skip_while(|window| *window != b"KEY-----") {
        let decimals: Vec<_> = window.iter().map(u8::to_string).collect();
        assert!(!message.contains(&decimals.join(", ")), "{message}");
    }
}
