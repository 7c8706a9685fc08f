//! Sockets handed down by the real `systemd-socket-activate`.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::harness::{Peer, built, free_port, need, program};
use crate::ours::Plugins;

/// Starts the command when somebody connects to one of `listen`.
fn activate(
    folder: &Path,
    listen: &[&str],
    names: Option<&str>,
    plugins: (Plugins, &Path),
    command: &[&str],
) -> Peer {
    let mut activate = Command::new(program("systemd-socket-activate"));
    for address in listen {
        activate.args(["-l", address]);
    }
    if let Some(names) = names {
        activate.arg(format!("--fdname={names}"));
    }
    activate.arg(built("endpoints")).args(["--no-default-plugin-path", "--plugin-path"]).arg(plugins.1);
    if plugins.0 == Plugins::Loaded {
        activate.arg("--no-built-in");
    }
    activate.args(command).stdin(Stdio::null());
    let mut peer = Peer::start(&mut activate, folder);
    for _ in listen {
        peer.line("Listening on ");
    }
    peer
}

trait Stream: Read + Write {
    fn end(&self);
}

impl Stream for TcpStream {
    fn end(&self) {
        self.shutdown(Shutdown::Write).expect("shutdown");
    }
}

impl Stream for UnixStream {
    fn end(&self) {
        self.shutdown(Shutdown::Write).expect("shutdown");
    }
}

/// Says something and gives what comes back.
fn say(mut stream: impl Stream) -> String {
    stream.write_all(b"hello").expect("write");
    stream.end();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn sockets_of_each_family() {
    need!("systemd-socket-activate");
    for plugins in Plugins::BOTH {
        let (folder, files) = (folder(), plugins.folder());
        let with = (plugins, files.path());
        for (address, domain) in [("127.0.0.1", "INET"), ("[::1]", "INET6")] {
            let port = free_port();
            let address = format!("{address}:{port}");
            let description = format!("systemd:{domain}:0");
            let mut peer =
                activate(folder.path(), &[&address], None, with, &["listen", "--echo", &description]);
            for _ in 0..2 {
                assert_eq!(say(TcpStream::connect(&address).expect("connect")), "hello");
            }
            peer.line("listening on tcp:host=");
        }
        let socket = folder.path().join("socket");
        let path = socket.display().to_string();
        let mut peer = activate(folder.path(), &[&path], None, with, &["listen", "--echo", "systemd:UNIX:0"]);
        assert_eq!(say(UnixStream::connect(&socket).expect("connect")), "hello");
        assert_eq!(peer.line("listening on "), format!("unix:path={path}"));
        peer.signal(rustix::process::Signal::TERM);
        assert!(peer.ended().success());
        // The file is not ours.
        assert!(fs::symlink_metadata(&socket).is_ok());
    }
}

#[test]
fn sockets_by_name_and_their_mistakes() {
    need!("systemd-socket-activate");
    for plugins in Plugins::BOTH {
        by_name_and_mistakes(plugins);
    }
}

fn by_name_and_mistakes(plugins: Plugins) {
    let (folder, files) = (folder(), plugins.folder());
    let with = (plugins, files.path());
    let ports = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
    let listen = [ports[0].as_str(), &ports[1]];
    let command = ["forward", "systemd:INET:name=admin", "systemd:INET:0"];
    let mut wrong = activate(folder.path(), &listen, Some("web:admin"), with, &command);
    let _client = TcpStream::connect(&ports[0]).expect("connect");
    assert!(wrong.line("error: ").contains("systemd has no client side"));
    drop(wrong);

    let command = ["listen", "--echo", "systemd:INET:name=admin"];
    let echo = activate(folder.path(), &listen, Some("web:admin"), with, &command);
    assert_eq!(say(TcpStream::connect(&ports[1]).expect("connect")), "hello");
    drop(echo);

    // Once is enough.
    let command = ["forward", "systemd:INET:0", "tcp:127.0.0.1:9", "--stats", "systemd:INET:name=web"];
    let mut twice = activate(folder.path(), &listen, Some("web:admin"), with, &command);
    let _client = TcpStream::connect(&ports[0]).expect("connect");
    let error = twice.line("error: ");
    assert!(error.contains("the descriptor 3 down to this process, or it is in use already"), "{error}");

    for (description, mention) in [
        ("systemd:INET:name=api", r#"2 are inherited: 0 ("web"), 1 ("admin")"#),
        ("systemd:INET:2", r#"2 are inherited: 0 ("web"), 1 ("admin")"#),
        ("systemd:INET6:0", "it is INET, and domain says INET6"),
        ("systemd:UNIX:0", "it is INET, and domain says UNIX"),
    ] {
        let ports = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
        let listen = [ports[0].as_str(), &ports[1]];
        let command = ["listen", "--echo", description];
        let mut peer = activate(folder.path(), &listen, Some("web:admin"), with, &command);
        let _client = TcpStream::connect(&ports[0]).expect("connect");
        let error = peer.line("error: ");
        assert!(error.contains(mention), "{description}: {error}");
    }
}

#[test]
fn sockets_that_are_no_listening_streams() {
    need!("systemd-socket-activate");
    for plugins in Plugins::BOTH {
        let (folder, files) = (folder(), plugins.folder());
        for (option, mention) in [("-d", "it is no stream socket"), ("--accept", "it does not listen")] {
            let address = format!("127.0.0.1:{}", free_port());
            let mut activate = Command::new(program("systemd-socket-activate"));
            activate.args([option, "-l", &address]).arg(built("endpoints"));
            activate.args(["--no-default-plugin-path", "--plugin-path"]).arg(files.path());
            if plugins == Plugins::Loaded {
                activate.arg("--no-built-in");
            }
            activate.args(["listen", "--echo", "systemd:INET:0"]).stdin(Stdio::null());
            let mut peer = Peer::start(&mut activate, folder.path());
            peer.line("Listening on ");
            let _stream = TcpStream::connect(&address);
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
            let _ = socket.send_to(b"x", &address);
            let error = peer.line("error: ");
            assert!(error.contains(mention), "{option}: {error}");
        }
    }
}
