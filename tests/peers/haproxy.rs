//! The PROXY protocol with the real HAProxy and nginx, before and behind the relay.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use endpoints::{Connection, Listener, ProxyTlv, fact};
use endpoints_tests::make_certificates;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Peer, built, free_port, need, program, run};
use crate::ours::Plugins;

/// Certificates and room for files.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    make_certificates(&folder.path().join("pki")).expect("certificates");
    folder
}

/// An HAProxy that listens on a free port of `bind`, which `more` may follow, and connects to `server`.
fn haproxy(folder: &Path, bind: &str, server: &str) -> (Peer, u16) {
    loop {
        let port = free_port();
        let configuration = format!(
            "defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 30s\n  timeout server 30s\n\
             listen relay\n  bind 127.0.0.1:{port} {bind}\n  unique-id-format id-of-%ci\n  server s {server}\n"
        );
        let file = folder.join(format!("haproxy.{port}.cfg"));
        fs::write(&file, configuration).expect("a configuration");
        let mut command = Command::new(program("haproxy"));
        command.arg("-db").arg("-f").arg(&file).current_dir(folder).stdin(Stdio::null());
        let mut process = Peer::start(&mut command, folder);
        match process.try_port() {
            Some(found) => return (process, found),
            None => assert!(process.log().contains("cannot bind"), "haproxy:\n{}", process.log()),
        }
    }
}

/// An nginx with this within `http` or `stream`; `PORT` in it is a free port.
fn nginx(folder: &Path, configuration: &str) -> (Peer, u16) {
    let at = folder.display();
    let user = if rustix::process::geteuid().is_root() { "user root root;" } else { "" };
    loop {
        let port = free_port();
        let number = free_port();
        let configuration = format!(
            "load_module /usr/lib/nginx/modules/ngx_stream_module.so;
            {user} daemon off; worker_processes 1; pid {at}/pid.{number}; error_log stderr;
            events {{ }}
            {}",
            configuration.replace("PORT", &port.to_string()).replace(
                "http {",
                &format!(
                    "http {{ access_log off; client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi; uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;"
                )
            )
        );
        let file = folder.join(format!("nginx.{number}.conf"));
        fs::write(&file, configuration).expect("a configuration");
        let mut command = Command::new(program("nginx"));
        command.arg("-p").arg(folder).args(["-e", "stderr", "-c"]).arg(&file).stdin(Stdio::null());
        let mut process = Peer::start(&mut command, folder);
        if process.try_port().is_some() {
            return (process, port);
        }
        assert!(process.log().contains("Address already in use"), "nginx:\n{}", process.log());
    }
}

/// Connects to a port, and gives both ends: the plain socket here, and what the listener makes of it.
async fn through(port: u16, listener: &Listener) -> (tokio::net::TcpStream, Connection) {
    let mut client = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("connect");
    // Some relays connect only when there is something to pass on.
    client.write_all(b"hello").await.expect("write");
    let mut accepted = listener.accept().await.expect("accept").await.expect("a header");
    let mut hello = [0; 5];
    accepted.read_exact(&mut hello).await.expect("read");
    assert_eq!(&hello, b"hello");
    (client, accepted)
}

#[test]
fn behind_haproxy() {
    need!("haproxy", "openssl");
    for plugins in Plugins::BOTH {
        let (folder, plugin_folder) = (folder(), plugins.folder());
        let registry = plugins.registry(plugin_folder.path());
        for (options, version) in [
            ("send-proxy", "1"),
            ("send-proxy-v2", "2"),
            ("send-proxy-v2 proxy-v2-options crc32c,unique-id", "2"),
        ] {
            let server = registry.server("haproxy:tcp:0:interface=127.0.0.1:backlog=9").expect("a server");
            let runtime = crate::ours::runtime();
            let listener = runtime.block_on(server.listen()).expect("listen");
            let to = format!("127.0.0.1:{} {options}", listener.addresses()[0].port().expect("a port"));
            let (_haproxy, port) = haproxy(folder.path(), "", &to);
            runtime.block_on(async {
                let (client, accepted) = through(port, &listener).await;
                let info = accepted.info();
                let local = client.local_addr().expect("an address").to_string();
                assert_eq!(info.peer_addr().expect("a peer").to_string(), local);
                assert_eq!(info.local_addr().expect("an address").to_string(), format!("127.0.0.1:{port}"));
                assert_eq!(info.fact(fact::PROXY_VERSION), Some(version.as_bytes()));
                if options.contains("unique-id") {
                    let tlvs: Vec<_> = info.proxy_tlvs().collect();
                    assert!(tlvs.contains(&ProxyTlv::UniqueId(b"id-of-127.0.0.1")), "{tlvs:?}");
                    let is_checksum = |tlv: &ProxyTlv<'_>| matches!(tlv, ProxyTlv::Other { kind: 3, .. });
                    assert!(tlvs.iter().any(is_checksum), "{tlvs:?}");
                }
            });
        }
    }
}

#[test]
fn behind_haproxy_that_ends_tls() {
    need!("haproxy", "openssl");
    for plugins in Plugins::BOTH {
        let (folder, plugin_folder) = (folder(), plugins.folder());
        let registry = plugins.registry(plugin_folder.path());
        let runtime = crate::ours::runtime();
        let server = registry.server("haproxy:tcp:0:interface=127.0.0.1").expect("a server");
        let listener = runtime.block_on(server.listen()).expect("listen");
        let to = format!(
            "127.0.0.1:{} send-proxy-v2 proxy-v2-options ssl,cert-cn,cert-key,cert-sig,ssl-cipher,authority,crc32c",
            listener.addresses()[0].port().expect("a port")
        );
        let bind = "ssl crt pki/server.pem ca-file pki/ca.crt verify required alpn h2,http/1.1";
        let (_haproxy, port) = haproxy(folder.path(), bind, &to);
        let file = |name: &str| folder.path().join("pki").join(name).display().to_string();
        let client = registry
            .client(format!(
                r"tls:localhost:443:alpn=h2:trustRoots={}:certificate={}:endpoint=tcp\:127.0.0.1\:{port}",
                file("trust"),
                file("client.pem")
            ))
            .expect("a client");
        runtime.block_on(async {
            let mut connection = client.connect().await.expect("connect");
            connection.write_all(b"x").await.expect("write");
            let info = listener.accept().await.expect("accept").await.expect("a header").info();
            let tlvs: Vec<_> = info.proxy_tlvs().collect();
            assert!(tlvs.contains(&ProxyTlv::Alpn(b"h2")), "{tlvs:?}");
            assert!(tlvs.contains(&ProxyTlv::Authority("localhost")), "{tlvs:?}");
            let ssl = tlvs.iter().find_map(|tlv| match tlv {
                ProxyTlv::Ssl(ssl) => Some(ssl),
                _ => None,
            });
            let ssl = ssl.expect("SSL");
            assert!(ssl.is_tls && ssl.client_cert_conn && ssl.client_cert_sess && ssl.verified, "{ssl:?}");
            assert_eq!((ssl.version, ssl.common_name), (Some("TLSv1.3"), Some("client one")));
            // Of HAProxy's own certificate, which has a key on P-256.
            assert!(ssl.cipher.is_some() && ssl.sig_alg.is_some() && ssl.key_alg == Some("EC256"), "{ssl:?}");
        });
    }
}

#[test]
fn behind_nginx() {
    need!("nginx", "openssl");
    for plugins in Plugins::BOTH {
        let (folder, plugin_folder) = (folder(), plugins.folder());
        let registry = plugins.registry(plugin_folder.path());
        let runtime = crate::ours::runtime();
        let server = registry.server("haproxy:tcp:0:interface=127.0.0.1").expect("a server");
        let listener = runtime.block_on(server.listen()).expect("listen");
        let to = listener.addresses()[0].port().expect("a port");
        let configuration = format!(
            "stream {{ server {{ listen 127.0.0.1:PORT; proxy_pass 127.0.0.1:{to}; proxy_protocol on; }} }}"
        );
        let (_nginx, port) = nginx(folder.path(), &configuration);
        runtime.block_on(async {
            let (client, accepted) = through(port, &listener).await;
            let info = accepted.info();
            let local = client.local_addr().expect("an address").to_string();
            assert_eq!(info.peer_addr().expect("a peer").to_string(), local);
            assert_eq!(info.fact(fact::PROXY_VERSION), Some(&b"1"[..]));
        });
    }
}

/// What nginx says of who asks.
const WHO: &str = "server { listen 127.0.0.1:PORT proxy_protocol; location / { return 200 '$proxy_protocol_addr:$proxy_protocol_port'; } }";

/// Starts the command's relay, with the plugins of this form, and gives its port.
fn forward(plugins: Plugins, folder: &Path, server: &str, client: &str) -> (Peer, u16) {
    // Plugins are loaded before it listens, so that the files need not stay.
    let files = plugins.folder();
    let mut command = Command::new(built("endpoints"));
    command.arg("--no-default-plugin-path").stdin(Stdio::null());
    if plugins == Plugins::Loaded {
        command.args(["--no-built-in", "--plugin-path"]).arg(files.path());
    }
    command.args(["forward", server, client]);
    let mut relay = Peer::start(&mut command, folder);
    relay.line("listening on ");
    let port = relay.port();
    (relay, port)
}

fn curl(arguments: &[&str]) -> String {
    let mut command = Command::new(program("curl"));
    command.args(["-sS", "--max-time", "20"]).args(arguments);
    String::from_utf8(run(&mut command, None).expect("curl")).expect("text")
}

#[test]
fn in_front_of_nginx() {
    need!("nginx", "curl", "openssl");
    let folder = folder();
    let (_nginx, back) = nginx(folder.path(), &format!("http {{ {WHO} }}"));
    for (plugins, version) in Plugins::BOTH.into_iter().flat_map(|plugins| [(plugins, "1"), (plugins, "2")]) {
        let client = format!(r"haproxy:version={version}:endpoint=tcp\:127.0.0.1\:{back}");
        let (_relay, port) = forward(plugins, folder.path(), "tcp:0:interface=127.0.0.1", &client);
        let said = curl(&["--interface", "127.0.0.9", &format!("http://127.0.0.1:{port}/")]);
        assert!(said.starts_with("127.0.0.9:"), "{plugins:?} {version}: {said}");
    }
}

#[test]
fn in_front_of_haproxy() {
    need!("nginx", "haproxy", "curl", "openssl");
    let folder = folder();
    let (_nginx, back) = nginx(folder.path(), &format!("http {{ {WHO} }}"));
    // HAProxy believes our header, and sends one of its own to nginx.
    let (_haproxy, middle) = haproxy(folder.path(), "accept-proxy", &format!("127.0.0.1:{back} send-proxy"));
    for (plugins, version) in Plugins::BOTH.into_iter().flat_map(|plugins| [(plugins, "1"), (plugins, "2")]) {
        let client = format!(r"haproxy:version={version}:endpoint=tcp\:127.0.0.1\:{middle}");
        let (_relay, port) = forward(plugins, folder.path(), "tcp:0:interface=127.0.0.1", &client);
        let said = curl(&["--interface", "127.0.0.8", &format!("http://127.0.0.1:{port}/")]);
        assert!(said.starts_with("127.0.0.8:"), "{plugins:?} {version}: {said}");
    }
}

/// HAProxy sends its header to our `haproxy:tls:`, which ends TLS and tells nginx; with HTTP/1.1 and HTTP/2, for each of
/// which nginx has a port.
#[test]
fn between_haproxy_and_nginx() {
    need!("nginx", "haproxy", "curl", "openssl");
    let folder = folder();
    let (_one, http1) = nginx(folder.path(), &format!("http {{ {WHO} }}"));
    let (_two, http2) = nginx(
        folder.path(),
        &format!("http {{ {} }}", WHO.replace("proxy_protocol;", "http2 proxy_protocol;")),
    );
    let certificate = folder.path().join("pki/server.pem").display().to_string();
    for (alpn, back, version) in [("http/1.1", http1, "1.1"), ("h2", http2, "2")] {
        let forms = Plugins::BOTH.into_iter();
        for (plugins, sends) in
            forms.flat_map(|plugins| [(plugins, "send-proxy"), (plugins, "send-proxy-v2")])
        {
            let server = format!("haproxy:tls:{certificate}:0:interface=127.0.0.1:alpn={alpn}");
            let client = format!("haproxy:tcp:127.0.0.1:{back}");
            let (_relay, middle) = forward(plugins, folder.path(), &server, &client);
            let (_haproxy, front) = haproxy(folder.path(), "", &format!("127.0.0.1:{middle} {sends}"));
            let flag = if version == "2" { "--http2" } else { "--http1.1" };
            let said = curl(&[
                flag,
                "--interface",
                "127.0.0.7",
                "--cacert",
                &folder.path().join("pki/ca.crt").display().to_string(),
                "--resolve",
                &format!("localhost:{front}:127.0.0.1"),
                "-w",
                " over %{http_version}",
                &format!("https://localhost:{front}/"),
            ]);
            assert!(said.starts_with("127.0.0.7:") && said.ends_with(&format!(" over {version}")), "{said}");
        }
    }
}
