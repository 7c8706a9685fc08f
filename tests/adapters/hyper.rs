//! hyper's servers and clients.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use endpoints::adapters::hyper_util::Connector;
use endpoints::{Connection, ErrorKind, Registry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tower::ServiceExt;

use crate::harness::{PATIENCE, Peer, free_port, need, program};
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

/// With `half_close`, as the example has it: without, no answer comes, over whatever endpoint.
#[test]
fn a_client_that_has_ended_its_side_is_answered() {
    let place = Place::new();
    let request = b"POST /there HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello";
    let (input, mut client) = std::io::pipe().expect("a pipe");
    client.write_all(request).expect("room in the pipe");
    drop(client);
    let mut command = example("hyper_server");
    command.arg("stdio:").stdin(Stdio::from(input));
    let mut process = Peer::start(&mut command, place.path());
    assert_eq!(process.line("HTTP/1.1 "), "200 OK");
    assert!(process.ended().success(), "{}", process.log());
    let server = Server::start(&place, "hyper_server", &["tcp:0:interface=127.0.0.1"]);
    for _ in 0..20 {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).expect("a connection");
        stream.write_all(request).expect("sending");
        stream.shutdown(Shutdown::Write).expect("the end of a side");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("hello"), "{answer:?}");
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

/// The server's side of SOCKS5 (RFC 1928), for a client without a login; the target's side afterwards.
async fn tunnel(mut connection: Connection) -> Connection {
    connection.read_exact(&mut [0; 3]).await.expect("the methods");
    connection.write_all(&[5, 0]).await.expect("sending");
    let mut request = [0; 5];
    connection.read_exact(&mut request).await.expect("the request");
    let [5, 1, 0, 3, length] = request else { panic!("{request:?}") };
    connection.read_exact(&mut vec![0; usize::from(length) + 2]).await.expect("its target");
    connection.write_all(&[5, 0, 0, 1, 192, 0, 2, 7, 0, 80]).await.expect("sending");
    connection
}

#[tokio::test]
async fn https_is_not_spoken_in_the_clear_beyond_a_proxy_that_is_reached_by_tls() {
    need!("openssl");
    let place = Place::with_certificates();
    let registry = Registry::builder().default_plugin_path(false).plugin_path(plugins(&place)).build();
    let registry = registry.expect("a registry");
    let server = format!("tls:{}:0:interface=127.0.0.1:alpn=h2", place.quoted("pki/server.pem"));
    let listener = registry.server(server).expect("a description").listen().await.expect("a listener");
    let port = listener.addresses()[0].port().expect("a port");
    let roots = place.quoted("pki/trust");
    let proxy = format!(r"tls:localhost:{port}:trustRoots={roots}:alpn=h2:endpoint=tcp\:127.0.0.1\:{port}");
    let quoted = endpoints::quote_str(&proxy);
    let over_socks = format!("socks5:target:80:proxy={quoted}");
    for (description, uri, is_spoken) in [
        (over_socks.clone(), "https://target/", false),
        // A header for the target, or for the proxy: the bytes that follow are in the clear either way.
        (
            format!("haproxy:version=1:endpoint={}", endpoints::quote_str(&over_socks)),
            "https://target/",
            false,
        ),
        (over_socks, "http://target/", true),
    ] {
        let client = registry.client(&description).expect("a description");
        let connector = Connector::new(client);
        let connecting = connector.oneshot(uri.parse().expect("a URI"));
        let accepting =
            async { tunnel(listener.accept().await.expect("accepted").await.expect("TLS")).await };
        let both = async { tokio::join!(connecting, accepting) };
        let (connected, mut target) = timeout(PATIENCE, both).await.expect("in time");
        match connected {
            Ok(io) => {
                assert!(is_spoken, "{description} for {uri}");
                let mut near = io.into_inner();
                near.write_all(b"GET").await.expect("sending");
                near.shutdown().await.expect("the end");
            }
            Err(error) => {
                assert!(!is_spoken, "{description} for {uri}: {error}");
                assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
                assert!(error.to_string().contains("TLS with the target itself"), "{error}");
            }
        }
        let mut seen = Vec::new();
        let end = timeout(PATIENCE, target.read_to_end(&mut seen)).await.expect("in time");
        // A connection that is refused is dropped, without the last words of TLS.
        assert!(end.is_ok() == is_spoken, "{end:?}");
        let header = if description.starts_with("haproxy") { "PROXY UNKNOWN\r\n" } else { "" };
        let request = if is_spoken { "GET" } else { "" };
        assert_eq!(String::from_utf8_lossy(&seen), format!("{header}{request}"), "{description} for {uri}");
    }
}

#[tokio::test]
async fn a_header_around_tls_is_not_in_the_way_of_https() {
    need!("openssl");
    let place = Place::with_certificates();
    let registry = Registry::builder().default_plugin_path(false).build().expect("a registry");
    let server = format!("haproxy:tls:{}:0:interface=127.0.0.1", place.quoted("pki/server.pem"));
    let listener = registry.server(server).expect("a description").listen().await.expect("a listener");
    let port = listener.addresses()[0].port().expect("a port");
    let tls = format!("tls:localhost:{port}:trustRoots={}", place.quoted("pki/trust"));
    for description in [
        format!(r"haproxy:{tls}:endpoint=tcp\:127.0.0.1\:{port}"),
        format!(r"{tls}:endpoint=haproxy\:tcp\:127.0.0.1\:{port}"),
    ] {
        let connector = Connector::new(registry.client(&description).expect("a description"));
        let connecting = connector.oneshot("https://localhost/".parse().expect("a URI"));
        let accepting = async { listener.accept().await.expect("accepted").await.expect("a connection") };
        let both = async { tokio::join!(connecting, accepting) };
        let (connected, accepted) = timeout(PATIENCE, both).await.expect("in time");
        connected.unwrap_or_else(|error| panic!("{description}: {error}"));
        assert!(accepted.info().layers().first().and_then(endpoints::Layer::tls).is_some());
    }
}
