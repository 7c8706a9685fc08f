//! TLS with other people's implementations: openssl, curl, nginx (OpenSSL), Twisted (pyOpenSSL).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use endpoints::{Connection, ErrorKind, Listener, Registry, fact};
use endpoints_tests::make_certificates;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::data::{MEGABYTE, hash, noise, noise_file};
use crate::harness::{PATIENCE, Peer, free_port, need, program, run};
use crate::ours::{EchoServer, Plugins, runtime, wait};

/// Certificates, and registries of both forms.
struct Setting {
    folder: TempDir,
    _plugins: TempDir,
    registry: Registry,
}

impl Setting {
    fn new(plugins: Plugins) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        make_certificates(&folder.path().join("pki")).expect("certificates");
        let plugin_folder = plugins.folder();
        let registry = plugins.registry(plugin_folder.path());
        Self { folder, _plugins: plugin_folder, registry }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("pki").join(name)
    }

    fn quoted(&self, name: &str) -> String {
        endpoints::quote_str(self.file(name).to_str().expect("UTF-8")).into_owned()
    }

    fn server(&self) -> String {
        format!("tls:{}:0:interface=127.0.0.1", self.quoted("server.pem"))
    }

    /// One that verifies clients.
    fn verifying(&self) -> String {
        format!("{}:clientCA={}", self.server(), self.quoted("ca.crt"))
    }

    fn client(&self, port: u16, more: &str) -> String {
        format!(
            r"tls:localhost:443:trustRoots={}:endpoint=tcp\:127.0.0.1\:{port}{more}",
            self.quoted("trust")
        )
    }
}

/// A server of ours that tells each client what it knows of its TLS, and ends.
struct Telling {
    port: u16,
    _runtime: Runtime,
}

impl Telling {
    fn start(registry: &Registry, description: &str) -> Self {
        let runtime = runtime();
        let listener =
            runtime.block_on(registry.server(description).expect(description).listen()).expect("listen");
        let port = listener.addresses()[0].port().expect("a port");
        runtime.spawn(serve(listener));
        Self { port, _runtime: runtime }
    }
}

async fn serve(listener: Listener) {
    while let Ok(incoming) = listener.accept().await {
        tokio::spawn(async move {
            let Ok(mut connection) = incoming.await else { return };
            let _ = connection.write_all(told(&connection).as_bytes()).await;
            let _ = connection.shutdown().await;
            // Whoever has something to say may say it.
            let _ = tokio::io::copy(&mut connection, &mut tokio::io::sink()).await;
        });
    }
}

fn told(connection: &Connection) -> String {
    let info = connection.info();
    let text = |name| info.fact(name).map_or("-".into(), String::from_utf8_lossy).into_owned();
    format!(
        "told: {} {} {} {} {}\n",
        text(fact::TLS_VERSION),
        text(fact::TLS_SNI),
        text(fact::TLS_ALPN),
        text(fact::TLS_RESUMED),
        if info.fact(fact::TLS_PEER_CERTIFICATE).is_some() { "certificate" } else { "-" }
    )
}

/// What `openssl s_client` prints when it connects there.
fn s_client(setting: &Setting, port: u16, more: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program("openssl"));
    command.args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-verify_return_error", "-ign_eof"]);
    command.arg("-CAfile").arg(setting.file("ca.crt")).args(more).current_dir(setting.folder.path());
    run(&mut command, None).map(|output| String::from_utf8_lossy(&output).into_owned())
}

#[test]
fn openssl_as_a_client() {
    need!("openssl");
    for plugins in Plugins::BOTH {
        let setting = Setting::new(plugins);
        let server = format!("tls:{}:0:interface=127.0.0.1:alpn=h2,http/1.1", setting.quoted("sni"));
        let server = Telling::start(&setting.registry, &server);
        for (version, name, told) in [
            ("-tls1_3", "a.test", "told: TLSv1.3 a.test h2 0 -"),
            ("-tls1_2", "b.test", "told: TLSv1.2 b.test h2 0 -"),
            ("-tls1_3", "x.c.test", "told: TLSv1.3 x.c.test h2 0 -"),
        ] {
            let more = [version, "-servername", name, "-verify_hostname", name, "-alpn", "http/1.1,h2"];
            let said = s_client(&setting, server.port, &more).expect("openssl");
            assert!(said.contains(told) && said.contains("Verify return code: 0 (ok)"), "{said}");
        }
        let wrong = ["-servername", "other.test", "-verify_hostname", "other.test"];
        assert!(s_client(&setting, server.port, &wrong).is_err());
        // Without encryption worth the name.
        assert!(s_client(&setting, server.port, &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]).is_err());
    }
}

#[test]
fn openssl_resumes_sessions() {
    need!("openssl");
    for plugins in Plugins::BOTH {
        let setting = Setting::new(plugins);
        let server = Telling::start(&setting.registry, &setting.server());
        for version in ["-tls1_3", "-tls1_2"] {
            let first = s_client(&setting, server.port, &[version, "-sess_out", "session"]).expect("openssl");
            assert!(first.contains("told: TLSv1.") && !first.contains("Reused"), "{first}");
            let again = s_client(&setting, server.port, &[version, "-sess_in", "session"]).expect("openssl");
            assert!(again.contains("Reused"), "{again}");
            assert!(again.contains(" - - 1 -\n"), "{again}");
        }
    }
}

#[test]
fn tickets_are_good_at_their_listener_alone() {
    need!("openssl");
    let setting = Setting::new(Plugins::BOTH[0]);
    let (server, verifying) = (setting.server(), setting.verifying());
    let [first, second, verifying] =
        [&server, &server, &verifying].map(|server| Telling::start(&setting.registry, server));
    for version in ["-tls1_3", "-tls1_2"] {
        s_client(&setting, first.port, &[version, "-sess_out", "session"]).expect("openssl");
        let with = [version, "-sess_in", "session"];
        let same = s_client(&setting, first.port, &with).expect("openssl");
        assert!(same.contains("Reused"), "{same}");
        let other = s_client(&setting, second.port, &with).expect("openssl");
        assert!(other.contains(" - - 0 -\n") && !other.contains("Reused"), "{other}");
        let refused = s_client(&setting, verifying.port, &with);
        assert!(!refused.as_ref().is_ok_and(|said| said.contains("told:")), "{refused:?}");
    }
}

#[test]
fn sessions_with_a_clients_certificate_are_short() {
    need!("openssl");
    let setting = Setting::new(Plugins::BOTH[0]);
    for (server, seconds, numbered) in
        [(setting.server(), 12 * 60 * 60, true), (setting.verifying(), 5 * 60, false)]
    {
        let server = Telling::start(&setting.registry, &server);
        let shown = ["-cert", "pki/client.crt", "-key", "pki/client.key"];
        for version in ["-tls1_3", "-tls1_2"] {
            let first = [&[version, "-sess_out", "session"], &shown[..]].concat();
            s_client(&setting, server.port, &first).expect("openssl");
            let mut told = Command::new(program("openssl"));
            told.args(["sess_id", "-noout", "-text", "-in", "session"]).current_dir(setting.folder.path());
            let told = run(&mut told, None).map(|told| String::from_utf8_lossy(&told).into_owned());
            let hint = format!("TLS session ticket lifetime hint: {seconds} (seconds)");
            assert!(told.as_ref().is_ok_and(|told| told.contains(&hint)), "{version}: {told:?}");
            let again = [&[version, "-sess_in", "session"], &shown[..]].concat();
            let again = s_client(&setting, server.port, &again).expect("openssl");
            assert!(again.contains("Reused"), "{version}: {again}");
        }
        // Without tickets a server may know the session by its number, for as long as it likes.
        let without = ["-tls1_2", "-no_ticket"];
        let first = [&without[..], &["-sess_out", "session"], &shown].concat();
        s_client(&setting, server.port, &first).expect("openssl");
        let again = [&without[..], &["-sess_in", "session"], &shown].concat();
        let again = s_client(&setting, server.port, &again).expect("openssl");
        assert_eq!(again.contains("Reused"), numbered, "{again}");
    }
}

#[test]
fn openssl_shows_a_certificate() {
    need!("openssl");
    for plugins in Plugins::BOTH {
        let setting = Setting::new(plugins);
        let server = Telling::start(&setting.registry, &setting.verifying());
        let good = s_client(&setting, server.port, &["-cert", "pki/client.crt", "-key", "pki/client.key"]);
        assert!(good.as_ref().is_ok_and(|said| said.contains("certificate\n")), "{good:?}");
        for refused in [&[][..], &["-cert", "pki/otherclient.crt", "-key", "pki/otherclient.key"]] {
            let said = s_client(&setting, server.port, refused);
            assert!(!said.as_ref().is_ok_and(|said| said.contains("told:")), "{said:?}");
        }
    }
}

/// Asks for `/` and gives the whole answer.
async fn get(mut connection: Connection) -> String {
    connection.write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n").await.expect("a request");
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, connection.read_to_end(&mut answer)).await.expect("an answer in time");
    // Some servers end without a word of TLS.
    if let Err(error) = read {
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{error}");
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn openssl_as_a_server() {
    need!("openssl");
    for plugins in Plugins::BOTH {
        let setting = Setting::new(plugins);
        for version in ["-tls1_3", "-tls1_2"] {
            let port = free_port();
            let mut command = Command::new(program("openssl"));
            command
                .args(["s_server", "-www", version, "-accept", &format!("127.0.0.1:{port}"), "-Verify", "2"])
                .args([
                    "-cert",
                    "pki/server.crt",
                    "-key",
                    "pki/server.key",
                    "-CAfile",
                    "pki/ca.crt",
                    "-alpn",
                    "h2",
                ])
                .args(["-verify_return_error"])
                .current_dir(setting.folder.path());
            let mut peer = Peer::start(command.stdin(Stdio::null()), setting.folder.path());
            assert_eq!(peer.port(), port);
            let with = format!(":alpn=h2:certificate={}", setting.quoted("client.pem"));
            let client = setting.registry.client(setting.client(port, &with)).expect("a client");
            wait(async {
                let connection = client.connect().await.expect("connect");
                let expected = version.replace("-tls1_", "TLSv1.");
                assert_eq!(connection.info().fact(fact::TLS_VERSION), Some(expected.as_bytes()));
                assert_eq!(connection.info().fact(fact::TLS_ALPN), Some(&b"h2"[..]));
                let page = get(connection).await;
                assert!(page.contains("client one") || page.contains("Client certificate"), "{page}");
            });
            let without = setting.registry.client(setting.client(port, "")).expect("a client");
            wait(async {
                // In TLS 1.3 the refusal comes after the client's handshake.
                match without.connect().await {
                    // In TLS 1.2 OpenSSL says no more than that it failed.
                    Err(error) => assert_eq!(error.kind(), ErrorKind::HandshakeFailed, "{error}"),
                    Ok(mut connection) => drop(connection.read(&mut [0]).await.expect_err("refused")),
                }
            });
        }
    }
}

#[test]
fn curl_as_a_client() {
    need!("curl", "openssl");
    for plugins in Plugins::BOTH {
        let setting = Setting::new(plugins);
        let server = Telling::start(&setting.registry, &setting.server());
        let mut command = Command::new(program("curl"));
        command
            .args(["-sS", "--http0.9", "--max-time", "20", "--cacert"])
            .arg(setting.file("ca.crt"))
            .arg(format!("https://localhost:{}/", server.port))
            .args(["--resolve", &format!("localhost:{}:127.0.0.1", server.port)]);
        let said = run(&mut command, None).expect("curl");
        assert!(String::from_utf8_lossy(&said).starts_with("told: TLSv1.3 localhost"), "{said:?}");
    }
}

#[test]
fn nginx_as_a_server() {
    need!("nginx", "openssl");
    for plugins in Plugins::BOTH {
        let setting = Setting::new(plugins);
        let (mut nginx, port) = nginx(&setting);
        let client = setting.client(port, ":alpn=http/1.1");
        let client = setting.registry.client(client).expect("a client");
        wait(async {
            for resumed in [b"0", b"1"] {
                let connection = client.connect().await.expect("connect");
                assert_eq!(connection.info().fact(fact::TLS_RESUMED), Some(&resumed[..]));
                assert!(get(connection).await.ends_with("by nginx"));
            }
        });
        nginx.kill();
    }
}

fn nginx(setting: &Setting) -> (Peer, u16) {
    let at = setting.folder.path().display();
    let user = if rustix::process::geteuid().is_root() { "user root root;" } else { "" };
    loop {
        let port = free_port();
        let configuration = format!(
            "{user} daemon off; worker_processes 1; pid {at}/pid; error_log stderr;
            events {{ }}
            http {{
                access_log off;
                client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
                uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
                server {{
                    listen 127.0.0.1:{port} ssl;
                    ssl_certificate {at}/pki/server.crt; ssl_certificate_key {at}/pki/server.key;
                    ssl_session_cache shared:s:1m;
                    location / {{ return 200 'by nginx'; }}
                }}
            }}"
        );
        fs::write(setting.folder.path().join("nginx.conf"), configuration).expect("a configuration");
        let mut command = Command::new(program("nginx"));
        command.arg("-p").arg(setting.folder.path()).args(["-e", "stderr", "-c", "nginx.conf"]);
        let mut process = Peer::start(command.stdin(Stdio::null()), setting.folder.path());
        if process.try_port().is_some() {
            return (process, port);
        }
        assert!(process.log().contains("Address already in use"), "nginx:\n{}", process.log());
    }
}

fn twisted(arguments: &[&str], folder: &Path) -> Peer {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/twisted_tls.py");
    Peer::start(Command::new(program("twisted")).arg(script).args(arguments).current_dir(folder), folder)
}

const LENGTH: usize = 3 * MEGABYTE;

#[test]
fn twisted_as_a_client() {
    need!("twisted", "openssl");
    for plugins in Plugins::BOTH {
        let setting = Setting::new(plugins);
        let file = noise_file(setting.folder.path(), "file", LENGTH, 9);
        let expected = format!("received {LENGTH} {}", hash(&file));
        let path = file.display().to_string();
        let server = format!("tls:{}:0:interface=127.0.0.1", setting.quoted("server.pem"));
        let server = EchoServer::start(&setting.registry, &server).expect("listen");
        // Our own description of how it is reached, and the older one.
        let reached = format!("{}:trustRoots=pki/trust", server.reachable[0]);
        let port = reached.rsplit(r"port\=").next().and_then(|rest| rest.split(':').next()).expect("a port");
        let older = format!("ssl:host=127.0.0.1:port={port}:caCertsDir=pki/trust:hostname=localhost");
        for description in [reached.as_str(), &older] {
            let mut peer = twisted(&["client", description, &path], setting.folder.path());
            peer.ended();
            assert_eq!(peer.line(""), expected, "{description}");
        }
        server.stop();
    }
}

#[test]
fn twisted_as_a_server() {
    need!("twisted", "openssl");
    for plugins in Plugins::BOTH {
        let setting = Setting::new(plugins);
        for (description, client) in [
            ("ssl:0:privateKey=pki/server.pem:interface=127.0.0.1", "tls"),
            ("ssl:0:privateKey=pki/chainleaf.pem:extraCertChain=pki/chain.pem:interface=127.0.0.1", "ssl"),
            ("tls:pki/server.pem:0:interface=\\:\\:", "tls"),
        ] {
            let mut peer = twisted(&["server", description], setting.folder.path());
            assert_eq!(peer.line(""), "listening", "{description}");
            let port = peer.port();
            let client = if client == "tls" {
                setting.client(port, "")
            } else {
                format!("ssl:127.0.0.1:{port}:hostname=localhost:caCertsDir={}", setting.quoted("trust"))
            };
            let client = setting.registry.client(&client).expect("a client");
            let sent = noise(LENGTH, 5);
            let received = wait(async {
                let (mut read, mut write) = tokio::io::split(client.connect().await.expect("connect"));
                let mut received = vec![0; sent.len()];
                let (got, put) = tokio::join!(read.read_exact(&mut received), write.write_all(&sent));
                put.expect("sending");
                got.expect("receiving");
                received
            });
            assert!(received == sent, "{description}");
        }
    }
}
