//! Standard streams and descriptors from the programs that hand them down: systemd-socket-activate, as inetd and with
//! `Accept=yes`; socat, through sockets, pipes and a terminal.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::data::{MEGABYTE, noise};
use crate::harness::{Peer, built, free_port, need, program, run};
use crate::ours::Plugins;

/// The command with its plugins.
fn endpoints(plugins: Plugins, files: &Path) -> Vec<String> {
    let mut words = vec![built("endpoints").display().to_string(), "--no-default-plugin-path".into()];
    words.extend(["--plugin-path".into(), files.display().to_string()]);
    if plugins == Plugins::Loaded {
        words.push("--no-built-in".into());
    }
    words
}

/// Sends `bytes` and gives what comes back.
fn there_and_back(port: u16, bytes: &[u8]) -> Vec<u8> {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (&stream).write_all(bytes).expect("write");
            stream.shutdown(Shutdown::Write).expect("shutdown");
        });
        let mut back = Vec::new();
        (&stream).read_to_end(&mut back).expect("read");
        back
    })
}

#[test]
fn connections_of_systemd() {
    need!("systemd-socket-activate");
    for plugins in Plugins::BOTH {
        let (folder, files) = (tempfile::tempdir().expect("a folder"), plugins.folder());
        for (options, server) in [
            // The connection is standard input and output, as inetd has it.
            (&["--inetd", "--accept"][..], "stdio:"),
            (&["--inetd", "--accept"], "fd:0"),
            // As for a unit with Accept=yes.
            (&["--accept"], "fd:3"),
        ] {
            let port = free_port();
            let mut activate = Command::new(program("systemd-socket-activate"));
            activate.args(["-l", &format!("127.0.0.1:{port}")]).args(options);
            activate.args(endpoints(plugins, files.path())).args(["forward", server, "exec:cat"]);
            let mut peer = Peer::start(activate.stdin(Stdio::null()), folder.path());
            peer.line("Listening on ");
            let bytes = noise(MEGABYTE, 9);
            for _ in 0..2 {
                assert!(there_and_back(port, &bytes) == bytes, "{server}");
            }
        }
        // Accepting is left to us.
        let port = free_port();
        let mut activate = Command::new(program("systemd-socket-activate"));
        activate.args(["-l", &format!("127.0.0.1:{port}")]).args(endpoints(plugins, files.path()));
        let mut peer = Peer::start(activate.args(["listen", "--echo", "fd:3"]), folder.path());
        peer.line("Listening on ");
        assert_eq!(there_and_back(port, b"hello"), b"hello");
        assert_eq!(peer.line("listening on "), format!("tcp:host=127.0.0.1:port={port}"));
    }
}

#[test]
fn a_program_of_socat() {
    need!("socat");
    for plugins in Plugins::BOTH {
        let (folder, files) = (tempfile::tempdir().expect("a folder"), plugins.folder());
        let bytes = noise(MEGABYTE, 9);
        fs::write(folder.path().join("bytes"), &bytes).expect("a file");
        let script = folder.path().join("relay");
        let words = endpoints(plugins, files.path()).join(" ");
        fs::write(&script, format!("#!/bin/sh\nexec {words} forward stdio: exec:cat\n")).expect("a script");
        let chmod = Command::new("chmod").arg("755").arg(&script).status().expect("chmod(1)");
        assert!(chmod.success());
        // With pipes, socat 1.7 waits for so long in any case, whatever the program does.
        for (how, patience) in [("", "60"), (",pipes", "5")] {
            let mut socat = Command::new(program("socat"));
            socat.args(["-t", patience, "-", &format!("EXEC:{}{how}", script.display())]);
            let back = run(&mut socat, Some(&folder.path().join("bytes"))).expect("socat");
            assert!(back == bytes, "{how}");
        }
        // A terminal, which the program shares with nobody but opens once more.
        let mut socat = Command::new(program("socat"));
        socat.args(["-t", "60", "-", &format!("EXEC:{},pty,setsid,ctty,rawer", script.display())]);
        let mut socat = socat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("socat");
        let mut stdin = socat.stdin.take().expect("a pipe");
        let mut stdout = socat.stdout.take().expect("a pipe");
        for round in 0..3 {
            let line = format!("line {round}\n");
            stdin.write_all(line.as_bytes()).expect("write");
            let mut back = vec![0; line.len()];
            stdout.read_exact(&mut back).expect("read");
            assert_eq!(back, line.as_bytes());
        }
        drop(stdin);
        socat.kill().expect("kill");
        socat.wait().expect("its end");
    }
}

#[test]
fn exec_of_socat() {
    need!("socat");
    for plugins in Plugins::BOTH {
        let (folder, files) = (tempfile::tempdir().expect("a folder"), plugins.folder());
        let mut echo = Command::new(program("socat"));
        echo.args(["TCP4-LISTEN:0,bind=127.0.0.1,fork", "PIPE"]).stdin(Stdio::null());
        let mut echo = Peer::start(&mut echo, folder.path());
        let port = echo.port();
        let bytes = noise(MEGABYTE, 9);
        fs::write(folder.path().join("bytes"), &bytes).expect("a file");
        let socat = program("socat");
        let words = endpoints(plugins, files.path());
        let description = format!(r"exec:{} -t 60 - TCP4\:127.0.0.1\:{port}:grace=30", socat.display());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(["connect", &description]);
        let back = run(&mut command, Some(&folder.path().join("bytes"))).expect("the command");
        assert!(back == bytes);
    }
}
