//! tonic's servers and channels, with gRPC for Python (which is gRPC's C core) at the other end.

use std::process::Command;

use crate::harness::{Peer, need, program, run};
use crate::programs::{Place, Server, example, microsocks, plugins};

/// The Python that has gRPC, which is the one with Twisted.
fn python(arguments: &[&str]) -> Command {
    let mut command = Command::new(program("twisted"));
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/adapters/echo_in_python.py")).args(arguments);
    command
}

fn called(command: &mut Command) -> String {
    String::from_utf8(run(command, None).expect("an answer")).expect("UTF-8")
}

#[test]
fn a_server_answers() {
    need!("twisted", "openssl");
    let place = Place::with_certificates();
    let tcp = Server::start(&place, "tonic", &["serve", "tcp:0:interface=127.0.0.1"]);
    let address = format!("127.0.0.1:{}", tcp.port());
    assert_eq!(called(&mut python(&["call", &address, "hello"])), "hello, over tcp\n");

    let _unix = Server::start(&place, "tonic", &["serve", &format!("unix:{}", place.quoted("socket"))]);
    let address = format!("unix:{}/socket", place.path().display());
    assert_eq!(called(&mut python(&["call", &address, "hello"])), "hello, over unix\n");

    let description = format!("tls:{}:0:interface=127.0.0.1:alpn=h2", place.quoted("pki/server.pem"));
    let tls = Server::start(&place, "tonic", &["serve", &description]);
    let roots = place.path().join("pki/ca.crt");
    let address = format!("localhost:{}", tls.port());
    let arguments = ["call", &address, "hello", roots.to_str().expect("UTF-8")];
    assert_eq!(called(&mut python(&arguments)), "hello, over tls\n");
}

#[test]
fn a_channel_calls() {
    need!("twisted", "microsocks");
    let place = Place::new();
    let mut tcp = Peer::start(&mut python(&["serve", "127.0.0.1:0"]), place.path());
    let port = tcp.line("listening on ");
    let socket = format!("unix:{}/socket", place.path().display());
    let mut unix = Peer::start(&mut python(&["serve", &socket]), place.path());
    unix.line("listening on ");
    let (_proxy, proxy_port) = microsocks(&place);
    let folder = plugins(&place);
    for description in [
        format!("tcp:127.0.0.1:{port}"),
        format!("unix:{}", place.quoted("socket")),
        format!(r"socks5:127.0.0.1:{port}:proxy=tcp\:127.0.0.1\:{proxy_port}"),
    ] {
        let mut command = example("tonic");
        command.env("ENDPOINTS_PLUGIN_PATH", &folder).args(["call", &description, "hello"]);
        assert_eq!(called(&mut command), "hello, by Python\n", "{description}");
    }
}
