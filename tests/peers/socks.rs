//! microsocks as the SOCKS5 proxy.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use endpoints::{ClientEndpoint, Description, Error, ErrorKind, Layer, Registry};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::data::{MEGABYTE, noise};
use crate::harness::{Peer, free_port, need, program};
use crate::ours::{Plugins, wait};

/// How many bytes go each way.
const LENGTH: usize = 10 * MEGABYTE;

const LOGIN: (&str, &str) = ("al:ice", "s=cr\\et");

/// A proxy, a server behind it, and the means to connect to it.
struct Proxied {
    proxy: Peer,
    proxy_port: u16,
    target: u16,
    registry: Registry,
    _folders: [TempDir; 2],
}

impl Proxied {
    fn start(plugins: Plugins, login: Option<(&str, &str)>) -> Self {
        let (plugin_folder, folder) = (plugins.folder(), tempfile::tempdir().expect("a folder"));
        let mut command = Command::new(program("microsocks"));
        command.args(["-i", "127.0.0.1", "-p", "0"]);
        if let Some((user, password)) = login {
            command.args(["-u", user, "-P", password]);
        }
        let mut proxy = Peer::start(&mut command, folder.path());
        let proxy_port = proxy.port();
        let registry = plugins.registry(plugin_folder.path());
        Self { proxy, proxy_port, target: storehouse(), registry, _folders: [plugin_folder, folder] }
    }

    fn client(&self, host: &str, port: u16, login: Option<(&str, &str)>) -> ClientEndpoint {
        let inner =
            Description::builder("tcp").positional("127.0.0.1").positional(self.proxy_port.to_string());
        let mut outer = Description::builder("socks5")
            .positional(host)
            .positional(port.to_string())
            .positional(inner.build().into_text());
        if let Some((user, password)) = login {
            outer = outer.keyword("username", user).keyword("password", password);
        }
        self.registry.client(outer.build().into_text()).expect("a description")
    }

    /// Connects to the server behind the proxy, and has it send bytes back.
    fn connects(&self, host: &str, login: Option<(&str, &str)>) {
        let client = self.client(host, self.target, login);
        wait(async {
            let mut connection = client.connect().await.expect("a connection through the proxy");
            assert!(connection.is_socket(), "the plugin stays between after the handshake");
            let info = connection.info();
            assert_eq!(info.peer_addr().expect("an address").to_string(), format!("{host}:{}", self.target));
            assert_eq!(info.layers().iter().map(Layer::scheme).collect::<Vec<_>>(), ["socks5", "tcp"]);
            let sent = noise(LENGTH, 3);
            connection.write_all(&sent).await.expect("sending");
            let mut received = vec![0; LENGTH];
            connection.read_exact(&mut received).await.expect("receiving");
            assert!(received == sent, "other bytes came back");
        });
    }

    /// Why it cannot connect.
    fn refused(&self, host: &str, port: u16, login: Option<(&str, &str)>) -> Error {
        let client = self.client(host, port, login);
        wait(async { client.connect().await }).expect_err("no connection")
    }
}

/// A server on all addresses of loopback that takes [`LENGTH`] bytes and sends them back; its port. Its threads end with
/// the process.
///
/// One direction after the other, and no half-closing: microsocks blocks when both directions are full, and ends the
/// connection when one direction ends.
fn storehouse() -> u16 {
    let listener =
        TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).or_else(|_| TcpListener::bind("127.0.0.1:0"));
    let listener = listener.expect("a listener");
    let port = listener.local_addr().expect("its address").port();
    let serve = |mut stream: TcpStream| {
        let mut bytes = vec![0; LENGTH];
        stream.read_exact(&mut bytes)?;
        stream.write_all(&bytes)
    };
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            thread::spawn(move || serve(stream));
        }
    });
    port
}

#[test]
fn without_credentials() {
    need!("microsocks");
    for plugins in Plugins::BOTH {
        let proxied = Proxied::start(plugins, None);
        proxied.connects("127.0.0.1", None);
        // The proxy resolves the name.
        proxied.connects("localhost", None);
        // Given, and not asked for.
        proxied.connects("127.0.0.1", Some(LOGIN));
    }
}

#[test]
fn with_credentials() {
    need!("microsocks");
    for plugins in Plugins::BOTH {
        let proxied = Proxied::start(plugins, Some(LOGIN));
        proxied.connects("127.0.0.1", Some(LOGIN));
    }
}

#[test]
fn credentials_that_are_wrong_or_missing() {
    need!("microsocks");
    let proxied = Proxied::start(Plugins::BuiltIn, Some(LOGIN));
    for login in [Some(("al:ice", "guess")), Some(("bob", LOGIN.1)), None] {
        let error = proxied.refused("127.0.0.1", proxied.target, login);
        assert_eq!(error.kind(), ErrorKind::AuthenticationFailed, "{error}");
        assert!(!error.is_retryable(), "{error}");
        assert!(!error.to_string().contains("guess") && !error.to_string().contains(LOGIN.1), "{error}");
    }
    // The proxy is none the worse.
    proxied.connects("127.0.0.1", Some(LOGIN));
}

#[test]
fn a_target_that_refuses() {
    need!("microsocks");
    let proxied = Proxied::start(Plugins::BuiltIn, None);
    let port = free_port();
    let error = proxied.refused("127.0.0.1", port, None);
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    assert!(error.is_retryable() && error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
}

#[test]
fn a_proxy_that_is_gone() {
    need!("microsocks");
    let mut proxied = Proxied::start(Plugins::BuiltIn, None);
    proxied.proxy.kill();
    let error = proxied.refused("127.0.0.1", proxied.target, None);
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    assert!(error.to_string().contains("proxy"), "{error}");
}
