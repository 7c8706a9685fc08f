//! Standard streams and other inherited descriptors as endpoints. They belong to a process, so each case has one of its
//! own; each runs with the built-in plugin and with the one from its file.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{Shutdown, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use rustix::fs::OFlags;
use tempfile::TempDir;

use crate::harness::{Run, Service, built, endpoints, finish, run, tcp, wait};

/// The command's arguments to have the plugins from files.
fn forms(folder: &TempDir) -> [Vec<String>; 2] {
    for name in ["haproxy", "stdio", "systemd", "tcp", "unix"] {
        let name = format!("libendpoints_plugin_{name}.so");
        let file = folder.path().join(&name);
        fs::copy(built(&name), &file).expect("a copy");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("its mode");
    }
    let files = ["--no-built-in".into(), "--plugin-path".into(), folder.path().display().to_string()];
    [Vec::new(), files.to_vec()]
}

/// Runs a body in both forms; it gets a command with these arguments more.
fn in_both_forms(body: impl Fn(&dyn Fn(&[&str]) -> Command, &Path)) {
    let folder = TempDir::new().expect("a folder");
    for form in forms(&folder) {
        let work = TempDir::new().expect("a folder");
        body(
            &|arguments| endpoints(form.iter().map(String::as_str).chain(arguments.iter().copied())),
            work.path(),
        );
    }
}

/// Runs it with a file as standard input.
fn with_input(mut command: Command, input: &[u8], folder: &Path) -> Run {
    let path = folder.join("input");
    fs::write(&path, input).expect("a file");
    finish(command.stdin(fs::File::open(path).expect("the file")).spawn().expect("the command starts"))
}

/// The command with other descriptors than the standard ones, as a shell hands them down.
fn through_shell(redirections: &str, command: &Command, folder: &Path) -> Command {
    through_shell_after("", redirections, command, folder)
}

/// The same after a command of the shell, or with assignments to variables.
fn through_shell_after(before: &str, redirections: &str, command: &Command, folder: &Path) -> Command {
    let mut shell = Command::new("/bin/bash");
    shell.args(["-c", &format!(r#"{before} exec "$0" "$@" {redirections}"#)]);
    shell.arg(command.get_program()).args(command.get_args()).current_dir(folder);
    shell.env_clear().env("PATH", "/usr/bin:/bin").env("XDG_DATA_HOME", "/nonexistent");
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    shell
}

#[test]
fn standard_streams_are_one_connection() {
    in_both_forms(|command, folder| {
        // From a file, from a pipe, and from nothing.
        let run = with_input(command(&["listen", "stdio:", "--echo"]), b"to and fro", folder);
        assert_eq!((run.status, run.text().as_str()), (Some(0), "to and fro"), "{run:?}");
        assert_eq!(run.stderr, "", "there is no way to reach it");
        let mut child =
            command(&["forward", "STDIO:", "exec:sort"]).stdin(Stdio::piped()).spawn().expect("it");
        let mut stdin = child.stdin.take().expect("a pipe");
        let mut stdout = child.stdout.take().expect("a pipe");
        stdin.write_all(b"b\na\n").expect("write");
        drop(stdin);
        let mut all = String::new();
        stdout.read_to_string(&mut all).expect("read");
        assert_eq!(all, "a\nb\n");
        assert_eq!(wait(&mut child), Some(0));
        let run = finish(command(&["listen", "stdio", "--exec", "echo", "hello"]).spawn().expect("it"));
        assert_eq!((run.status, run.text().as_str()), (Some(0), "hello\n"), "{run:?}");
    });
}

#[test]
fn much_goes_through_pipes_and_files() {
    in_both_forms(|command, folder| {
        let bytes: Vec<u8> = (0..4_000_000_u32).map(|place| (place / 251 + place) as u8).collect();
        let run = with_input(command(&["forward", "stdio:", "exec:cat"]), &bytes, folder);
        assert_eq!(run.status, Some(0), "{}", run.stderr);
        assert!(run.stdout == bytes, "what goes in comes out");
        // Out to a file, after what is there already.
        let path = folder.join("output");
        fs::write(&path, "before ").expect("a file");
        let output = fs::File::options().append(true).open(&path).expect("the file");
        let mut child = command(&["forward", "stdio:", "exec:cat"]);
        let mut child = child.stdin(Stdio::piped()).stdout(output).spawn().expect("the command starts");
        child.stdin.take().expect("a pipe").write_all(b"after").expect("write");
        assert_eq!(wait(&mut child), Some(0));
        assert_eq!(fs::read_to_string(&path).expect("the file"), "before after");
    });
}

#[test]
fn flags_that_others_share_stay_as_they_are() {
    in_both_forms(|command, _| {
        let (input, mut feed) = std::io::pipe().expect("a pipe");
        let (mut result, output) = std::io::pipe().expect("a pipe");
        let (near, far) = UnixStream::pair().expect("a pair");
        let shared: [OwnedFd; 2] =
            [input.try_clone().expect("a copy").into(), output.try_clone().expect("a copy").into()];
        let mut child = command(&["listen", "stdio:", "--echo"]);
        let mut child = child.stdin(input).stdout(output).spawn().expect("the command starts");
        feed.write_all(b"x").expect("write");
        let mut byte = [0];
        result.read_exact(&mut byte).expect("read");
        let flags = shared.each_ref().map(|fd| rustix::fs::fcntl_getfl(fd).expect("its flags"));
        assert!(flags.iter().all(|flags| !flags.contains(OFlags::NONBLOCK)), "{flags:?}");
        drop(feed);
        assert_eq!(wait(&mut child), Some(0));

        // As inetd has it: both are one socket, whose end is told though others have it open too.
        let shared: OwnedFd = far.try_clone().expect("a copy").into();
        let mut child = command(&["listen", "stdio:", "--echo"]);
        child.stdin(OwnedFd::from(far.try_clone().expect("a copy"))).stdout(OwnedFd::from(far));
        let mut child = child.spawn().expect("the command starts");
        (&near).write_all(b"hello").expect("write");
        near.shutdown(Shutdown::Write).expect("shutdown");
        let mut all = String::new();
        (&near).read_to_string(&mut all).expect("read");
        assert_eq!(all, "hello");
        assert!(!rustix::fs::fcntl_getfl(&shared).expect("its flags").contains(OFlags::NONBLOCK));
        assert_eq!(wait(&mut child), Some(0));
    });
}

#[test]
fn standard_streams_are_not_joined_to_themselves() {
    for arguments in [
        &["listen", "stdio:"][..],
        &["listen", "fd:read=0:write=1"],
        &["listen", "haproxy:stdio:"],
        &["connect", "fd:0"],
        &["connect", "haproxy:endpoint=fd\\:0"],
    ] {
        let run = run(arguments);
        assert_eq!(run.status, Some(2), "{arguments:?}: {run:?}");
        assert!(run.stderr.contains("standard input and output"), "{arguments:?}: {run:?}");
    }
    // Nor used twice.
    in_both_forms(|command, folder| {
        let run = with_input(command(&["forward", "stdio:", "fd:0"]), b"", folder);
        assert_eq!(run.status, Some(1), "{run:?}");
        assert!(run.stderr.contains("standard input is in use already"), "{run:?}");
    });
}

#[test]
fn events_leave_standard_output_alone() {
    in_both_forms(|command, folder| {
        let run = with_input(command(&["--json", "forward", "stdio:", "exec:rev"]), b"abc\n", folder);
        assert_eq!((run.status, run.text().as_str()), (Some(0), "cba\n"), "{run:?}");
        let events: Vec<serde_json::Value> =
            run.stderr.lines().map(|line| serde_json::from_str(line).expect("an event")).collect();
        let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().expect("a name")).collect();
        assert_eq!(names, ["accepted", "connected", "closed", "stopped"]);
        assert_eq!(events[0]["peer"], serde_json::Value::Null);
    });
}

#[test]
fn one_connection_that_fails_is_told_by_the_status() {
    in_both_forms(|command, folder| {
        for (client, reason) in [("tcp:127.0.0.1:1", "refused"), ("exec:false", "exit status: 1")] {
            let run = with_input(command(&["forward", "stdio:", client]), b"", folder);
            assert_eq!(run.status, Some(1), "{run:?}");
            assert!(run.stderr.contains(reason), "{run:?}");
        }
    });
}

#[test]
fn descriptors_of_a_shell() {
    in_both_forms(|command, folder| {
        fs::write(folder.join("in"), "abc\n").expect("a file");
        let relay = command(&["forward", "fd:read=7:write=8", "exec:rev"]);
        let run = finish(through_shell("7<in 8>out", &relay, folder).spawn().expect("a shell"));
        assert_eq!(run.status, Some(0), "{run:?}");
        assert_eq!(fs::read_to_string(folder.join("out")).expect("what came"), "cba\n");

        // A connection of the shell's.
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("an address").port();
        let echo = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            let mut all = Vec::new();
            stream.read_to_end(&mut all).expect("read");
            stream.write_all(&all).expect("write");
        });
        let relay = command(&["connect", "fd:9"]);
        let mut shell = through_shell(&format!("9<>/dev/tcp/127.0.0.1/{port}"), &relay, folder);
        shell.stdin(fs::File::open(folder.join("in")).expect("the file"));
        let run = finish(shell.spawn().expect("a shell"));
        assert_eq!((run.status, run.text().as_str()), (Some(0), "abc\n"), "{run:?}");
        echo.join().expect("the peer");
    });
}

#[test]
fn a_listening_socket_that_is_handed_down() {
    in_both_forms(|command, _| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("an address").port();
        let mut child = command(&["listen", "--echo", "fd:0"]);
        let mut child = child.stdin(OwnedFd::from(listener)).spawn().expect("the command starts");
        for _ in 0..2 {
            let mut stream = tcp(port);
            stream.write_all(b"hello").expect("write");
            stream.shutdown(Shutdown::Write).expect("shutdown");
            let mut all = String::new();
            stream.read_to_string(&mut all).expect("read");
            assert_eq!(all, "hello");
        }
        let process = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(process, rustix::process::Signal::TERM).expect("kill");
        assert_eq!(wait(&mut child), Some(0));
        let mut told = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut told).expect("text");
        assert!(told.starts_with(&format!("listening on tcp:host=127.0.0.1:port={port}\n")), "{told}");
    });
}

#[test]
fn what_is_handed_down_is_reached_as_it_says() {
    in_both_forms(|command, folder| {
        let path = folder.join("socket");
        for (description, environment) in [
            ("fd:3", ""),
            ("systemd:%:0", "LISTEN_PID=$$ LISTEN_FDS=1"),
            ("haproxy:systemd:%:0", "LISTEN_PID=$$ LISTEN_FDS=1"),
        ] {
            for domain in ["INET", "INET6", "UNIX"] {
                let listener: OwnedFd = match domain {
                    "INET" => TcpListener::bind("127.0.0.1:0").expect("bind").into(),
                    "INET6" => match TcpListener::bind("[::1]:0") {
                        Ok(listener) => listener.into(),
                        // There is no IPv6 here.
                        Err(_) => continue,
                    },
                    _ => {
                        let _ = fs::remove_file(&path);
                        UnixListener::bind(&path).expect("bind").into()
                    }
                };
                let listen = command(&["listen", "--echo", &description.replace('%', domain)]);
                let mut shell = through_shell_after(environment, "3<&0 </dev/null", &listen, folder);
                let service = Service::started(shell.stdin(listener).spawn().expect("a shell"));
                let connect = command(&["connect", &service.description]);
                let run = with_input(connect, b"there and back", folder);
                assert_eq!((run.status, run.text().as_str()), (Some(0), "there and back"), "{run:?}");
                service.stop();
            }
        }
    });
}

#[test]
fn descriptors_that_cannot_be_used() {
    in_both_forms(|command, folder| {
        fs::write(folder.join("in"), "").expect("a file");
        for (description, redirections, reason) in [
            ("fd:77", "", "the descriptor 77 is not open"),
            ("fd:7", "7<in", "it is open for reading only; write fd:read=…:write=…"),
            ("fd:7", "7>>in", "it is open for writing only"),
            (
                "fd:read=8:write=7",
                "7<in 8<in",
                "the descriptor 7 cannot be used: it is open for reading only",
            ),
            ("fd:read=7:write=8", "7>>in 8>>in", "it is open for writing only"),
            ("fd:7", "7<.", "it is a directory"),
            ("fd:7", "7<>/dev/udp/127.0.0.1/9", "it is no stream socket"),
            ("fd:2", "", "2 is standard error"),
            ("fd:read=7", "7<in", "without write"),
            ("fd:", "", "number"),
            ("fd:7:read=8:write=9", "7<in", "read"),
        ] {
            for role in ["forward", "connect"] {
                let arguments = match role {
                    "forward" => vec!["forward", description, "exec:cat"],
                    _ => vec!["connect", description],
                };
                let child = through_shell(redirections, &command(&arguments), folder).spawn();
                let run = finish(child.expect("a shell"));
                let status = if reason.ends_with("not open") { Some(1) } else { Some(2) };
                assert_eq!(run.status, status, "{description} {redirections}: {run:?}");
                assert!(run.stderr.contains(reason), "{description} {redirections}: {run:?}");
            }
        }
        // What the process opened itself is nobody's to name.
        let run = finish(command(&["connect", "fd:4"]).spawn().expect("the command starts"));
        assert_eq!(run.status, Some(1), "{run:?}");
        assert!(
            run.stderr.contains("nobody handed the descriptor 4 down") || run.stderr.contains("not open"),
            "{run:?}"
        );
    });
}

#[test]
fn a_file_is_written_where_its_offset_is() {
    in_both_forms(|command, folder| {
        let mut file = fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(folder.join("both"))
            .expect("a file");
        file.write_all(b"0123456789").expect("write");
        file.seek(SeekFrom::Start(4)).expect("seek");
        let mut child = command(&["forward", "stdio:", "exec:cat"]);
        child.stdin(Stdio::piped()).stdout(file.try_clone().expect("a copy"));
        let mut child = child.spawn().expect("the command starts");
        child.stdin.take().expect("a pipe").write_all(b"xyz").expect("write");
        assert_eq!(wait(&mut child), Some(0));
        assert_eq!(fs::read_to_string(folder.join("both")).expect("the file"), "0123xyz789");
    });
}

#[test]
fn a_status_that_nobody_can_know_is_no_success() {
    in_both_forms(|command, folder| {
        let relay = command(&["forward", "stdio:", "exec:sleep 0.3"]);
        let mut shell = through_shell_after("trap '' CHLD;", "", &relay, folder);
        let run = finish(shell.spawn().expect("a shell"));
        assert_eq!(run.status, Some(1), "{run:?}");
        assert!(run.stderr.contains("whether it succeeded is unknown"), "{run:?}");
    });
}

#[test]
fn programs_get_nothing_that_was_handed_down_for_this_process() {
    in_both_forms(|command, folder| {
        fs::write(folder.join("handed-down"), "").expect("a file");
        let program = "echo begun; env; ls -l /proc/self/fd";
        let exec = format!("exec:sh -c '{program}'");
        for arguments in
            [&["forward", "stdio:", exec.as_str()][..], &["listen", "stdio:", "--exec", "sh", "-c", program]]
        {
            let relay = command(arguments);
            let environment = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=a";
            let mut shell = through_shell_after(environment, "3<handed-down", &relay, folder);
            let run = finish(shell.spawn().expect("a shell"));
            assert_eq!(run.status, Some(0), "{run:?}");
            let told = run.text();
            assert!(told.starts_with("begun"), "{run:?}");
            assert!(!told.contains("LISTEN_") && !told.contains("handed-down"), "{told}");
        }
    });
}

#[test]
fn a_reset_ends_the_program_of_a_connection_and_what_that_has_started() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("an address").port();
    let mut child =
        endpoints(["listen", "fd:0", "--exec", "sh", "-c", "sleep 1000 & echo $$ $!; wait; true"]);
    let mut child = child.stdin(OwnedFd::from(listener)).spawn().expect("the command starts");
    let mut stream = tcp(port);
    let mut line = String::new();
    while !line.ends_with('\n') {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("read");
        line.push(char::from(byte[0]));
    }
    rustix::net::sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).expect("an option");
    drop(stream);
    let begun = std::time::Instant::now();
    for number in line.split_whitespace() {
        let runs =
            || fs::read_to_string(format!("/proc/{number}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        while runs() {
            assert!(begun.elapsed().as_secs() < 10, "process {number} goes on");
            thread::sleep(std::time::Duration::from_millis(10));
        }
    }
    let process = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(process, rustix::process::Signal::TERM).expect("kill");
    wait(&mut child);
}
