//! hyper's servers and clients.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{Peer, free_port, need, program};
use crate::programs::{Place, Server, curl, example, microsocks, plugins};

#[test]
fn a_server_echoes_in_both_versions() {
    need!("curl");
    let place = Place::new();
    let server = Server::start(&place, "hyper_server", &["tcp:0:interface=127.0.0.1"]);
    let url = format!("http://127.0.0.1:{}/there", server.port());
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        assert_eq!(curl(&[version, "--data", "hello", &url]).expect("an answer"), "hello");
    }
    let log = server.process.log();
    let line = log.lines().find(|line| line.contains("/there")).expect("a line about the request");
    for field in ["network.transport=\"tcp\"", "network.peer.address=127.0.0.1", "endpoints.layers=\"tcp\""] {
        assert!(line.contains(field), "no {field} in {line}");
    }
    server.interrupt();
}

/// An nginx that serves one file, over TCP, over a Unix socket, and over TLS with HTTP/2.
struct Nginx {
    _process: Peer,
    port: u16,
    tls_port: u16,
}

impl Nginx {
    fn start(place: &Place) -> Self {
        let at = place.path().display();
        fs::create_dir_all(place.path().join("files")).expect("a folder");
        fs::write(place.path().join("files/hello"), "hello from nginx\n").expect("a file");
        let user = if rustix::process::geteuid().is_root() { "user root root;" } else { "" };
        loop {
            let (port, tls_port) = (free_port(), free_port());
            let configuration = format!(
                "{user} daemon off; worker_processes 1; pid {at}/pid; error_log stderr;
                events {{ worker_connections 1024; }}
                http {{
                    access_log off;
                    client_body_temp_path {at}/body;
                    proxy_temp_path {at}/proxy;
                    fastcgi_temp_path {at}/fastcgi;
                    uwsgi_temp_path {at}/uwsgi;
                    scgi_temp_path {at}/scgi;
                    server {{
                        listen 127.0.0.1:{port};
                        listen unix:{at}/socket;
                        listen 127.0.0.1:{tls_port} ssl http2;
                        ssl_certificate {at}/pki/server.crt;
                        ssl_certificate_key {at}/pki/server.key;
                        root {at}/files;
                    }}
                }}"
            );
            fs::write(place.path().join("nginx.conf"), configuration).expect("a configuration");
            let mut process = Self::run(place.path());
            if process.try_port().is_some() {
                process.wait_for_socket(&place.path().join("socket"));
                return Self { _process: process, port, tls_port };
            }
            // Somebody else was faster.
            assert!(process.log().contains("Address already in use"), "nginx:\n{}", process.log());
        }
    }

    fn run(folder: &Path) -> Peer {
        let mut command = Command::new(program("nginx"));
        command.arg("-p").arg(folder).args(["-e", "stderr", "-c", "nginx.conf"]);
        Peer::start(command.stdin(Stdio::null()), folder)
    }
}

/// The output and the errors of a client, and whether it succeeded.
fn fetched(client: &mut Command) -> (String, String, bool) {
    let output = client.output().expect("the client runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.success())
}

#[test]
fn a_client_reaches_nginx_by_each_way() {
    need!("nginx", "openssl", "microsocks");
    let place = Place::with_certificates();
    let nginx = Nginx::start(&place);
    let (_proxy, proxy_port) = microsocks(&place);
    let folder = plugins(&place);
    let (port, tls_port) = (nginx.port, nginx.tls_port);
    let roots = place.quoted("pki/trust");
    let ways = [
        (format!("tcp:127.0.0.1:{port}"), "http", "HTTP/1.1 200 OK over tcp"),
        (format!("unix:{}", place.quoted("socket")), "http", "HTTP/1.1 200 OK over unix"),
        (
            format!(r"socks5:127.0.0.1:{port}:proxy=tcp\:127.0.0.1\:{proxy_port}"),
            "http",
            "HTTP/1.1 200 OK over socks5, tcp",
        ),
        (
            format!(
                r"tls:localhost:{tls_port}:trustRoots={roots}:alpn=h2,http/1.1:endpoint=tcp\:127.0.0.1\:{tls_port}"
            ),
            "https",
            "HTTP/2.0 200 OK over tls, tcp",
        ),
    ];
    for (description, scheme, told) in ways {
        // Two requests, over one connection.
        let url = format!("{scheme}://localhost/hello");
        let mut command = example("hyper_client");
        command.env("ENDPOINTS_PLUGIN_PATH", &folder).args(["to", &description, &url, &url]);
        let (output, errors, success) = fetched(&mut command);
        assert!(success, "{description}: {errors}");
        assert_eq!(output, "hello from nginx\n".repeat(2), "{description}");
        assert_eq!(errors.lines().collect::<Vec<_>>(), [told, told], "{description}");
    }
    // Where the URI says, through the proxy.
    let mut command = example("hyper_client");
    let (proxy, url) = (format!("tcp:127.0.0.1:{proxy_port}"), format!("http://127.0.0.1:{port}/hello"));
    command.env("ENDPOINTS_PLUGIN_PATH", &folder).args(["through", &proxy, &url]);
    let (output, errors, _) = fetched(&mut command);
    assert_eq!(output, "hello from nginx\n", "{errors}");
    assert_eq!(errors, "HTTP/1.1 200 OK over socks5, tcp\n");
    // https is not spoken in the clear.
    let mut command = example("hyper_client");
    let (output, errors, success) =
        fetched(command.args(["to", &format!("tcp:127.0.0.1:{port}"), "https://localhost/hello"]));
    assert!(!success && output.is_empty(), "{output}");
    assert!(errors.contains("wants TLS"), "{errors}");
}
