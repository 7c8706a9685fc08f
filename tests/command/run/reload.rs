//! What changes when the file is read anew.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use super::{ECHO, Folder, Running};
use crate::harness::{LIMIT, Service, built, endpoints, read_all};

#[test]
fn only_what_changed_is_changed() {
    let all = format!(
        "{ECHO}
[[service]]
name = \"gone\"
listen = \"unix:@/gone\"
echo = true

[[service]]
name = \"other\"
listen = \"unix:@/other\"
exec = [\"echo\", \"before\"]

[[service]]
name = \"moved\"
listen = \"unix:@/moved\"
echo = true
"
    );
    let folder = Folder::new(&all);
    let running = folder.run();
    for _ in 0..4 {
        running.event("listening");
    }
    assert_eq!(running.reload(), json!({ "event": "reloaded" }), "nothing has changed");
    let mut open = UnixStream::connect(folder.0.path().join("echo")).expect("it listens");
    open.write_all(b"a").expect("it reads");
    open.read_exact(&mut [0]).expect("it answers");
    let inode = |name: &str| {
        std::os::unix::fs::MetadataExt::ino(&fs::metadata(folder.0.path().join(name)).expect(name))
    };
    let before = (inode("echo"), inode("other"));
    let changed = all
        .replace("before", "after")
        .replace("/moved", "/is-here")
        .replace("name = \"gone\"\nlisten = \"unix:@/gone\"", "name = \"new\"\nlisten = \"unix:@/new\"");
    folder.write(&format!("# A line more\n{changed}"));
    let mut reloaded = running.reload();
    assert_eq!(
        reloaded.take(),
        json!({ "event": "reloaded", "started": ["new"], "restarted": ["moved"], "changed": ["other"], "stopped": ["gone"] })
    );
    assert_eq!((inode("echo"), inode("other")), before, "those sockets are the same");
    open.write_all(b"b").expect("it goes on");
    open.read_exact(&mut [0]).expect("it answers still");
    assert_eq!(folder.ask("other", ""), "after\n");
    assert_eq!(folder.ask("is-here", "x"), "x");
    assert_eq!(folder.ask("new", "x"), "x");
    assert!(!folder.0.path().join("gone").exists() && !folder.0.path().join("moved").exists());
    drop(open);
    running.0.stop();
}

#[test]
fn connections_of_a_service_that_is_stopped_may_end() {
    let folder = Folder::new(&format!("{ECHO}{}", ECHO.replace("echo\"", "left\"")));
    let running = folder.run();
    for _ in 0..2 {
        running.event("listening");
    }
    let mut open = UnixStream::connect(folder.0.path().join("left")).expect("it listens");
    open.write_all(b"a").expect("it reads");
    open.read_exact(&mut [0]).expect("it answers");
    folder.write(ECHO);
    assert_eq!(running.reload()["stopped"], json!(["left"]));
    open.write_all(b"b").expect("it goes on");
    open.read_exact(&mut [0]).expect("it answers still");
    open.shutdown(Shutdown::Write).expect("half");
    assert_eq!(open.read(&mut [0]).expect("the end"), 0);
    let stopped = running.event("stopped");
    assert_eq!(stopped["service"], "left");
    running.0.stop();
}

#[test]
fn numbers_of_connections_go_on_when_a_service_is_started_anew() {
    let folder = Folder::new(ECHO);
    let running = folder.run();
    running.event("listening");
    let open = || {
        let mut open = UnixStream::connect(folder.0.path().join("echo")).expect("it listens");
        open.write_all(b"a").expect("it reads");
        open.read_exact(&mut [0]).expect("it answers");
        open
    };
    let mut connections = vec![open(), open()];
    for id in 1..=2 {
        assert_eq!(running.event("accepted")["id"], id);
    }
    for (id, limit) in [(3, "max-connections = 5\n"), (4, "max-connections = 6\n")] {
        folder.write(&format!("{ECHO}{limit}"));
        assert_eq!(running.reload()["restarted"], json!(["echo"]));
        connections.push(open());
        assert_eq!(running.event("accepted")["id"], id);
    }
    // Also where there was none of that name for a while.
    folder.write(&ECHO.replace("echo\"", "other\""));
    assert_eq!(running.reload()["stopped"], json!(["echo"]));
    folder.write(ECHO);
    assert_eq!(running.reload()["started"], json!(["echo"]));
    connections.push(open());
    assert_eq!(running.event("accepted")["id"], 5);
    let mut closed: Vec<u64> = Vec::new();
    for connection in connections {
        drop(connection);
        closed.push(running.event("closed")["id"].as_u64().expect("a number"));
    }
    assert_eq!(closed, [1, 2, 3, 4, 5]);
    running.0.stop();
}

#[test]
fn numbers_of_connections_go_on_where_the_log_leaves_some_out() {
    let folder = Folder::new(ECHO);
    let command = endpoints(["run", folder.file().to_str().expect("UTF-8")]).spawn();
    let running = Service::spawned(command.expect("it starts"));
    let told = |part: &str| loop {
        let line = running.stderr_line();
        if line.contains(part) {
            break line;
        }
    };
    told("listening on");
    assert_eq!(folder.ask("echo", "x"), "x");
    folder.write(&ECHO.replace("echo = true", "exec = [\"false\"]\nmax-connections = 5"));
    running.signal(Signal::HUP);
    told("restarted echo");
    assert_eq!(folder.ask("echo", ""), "");
    let failed = told("exit status: 1");
    assert!(failed.contains(" id=2 "), "{failed}");
    running.stop();
}

#[test]
fn numbers_of_attempts_go_on_when_a_service_is_started_anew() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("a port").port();
    let uplink = format!("[[service]]\nname = \"uplink\"\nconnect = \"tcp:127.0.0.1:{port}\"\necho = true\n");
    let folder = Folder::new(&uplink);
    let running = folder.run();
    assert_eq!(running.event("connected")["id"], 1);
    for id in 2..=3 {
        folder.write(&format!("{uplink}reset-after = {id}\n"));
        running.0.signal(Signal::HUP);
        assert_eq!(running.event("connected")["id"], id);
    }
    running.0.stop();
}

#[test]
fn a_port_is_taken_over_from_one_service_by_another() {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("a port").port();
    let service = |name: &str, more: &str| {
        format!(
            "[[service]]\nname = \"{name}\"\nlisten = \"tcp:{port}:interface=127.0.0.1\"\necho = true\n{more}"
        )
    };
    let folder = Folder::new(&service("one", ""));
    let running = folder.run();
    running.event("listening");
    // Open connections hold nothing up.
    let mut open = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    open.write_all(b"a").expect("it reads");
    open.read_exact(&mut [0]).expect("it answers");
    folder.write(&service("two", ""));
    let reloaded = running.reload();
    assert_eq!((&reloaded["stopped"], &reloaded["started"]), (&json!(["one"]), &json!(["two"])));
    folder.write(&service("two", "max-connections = 5\n"));
    assert_eq!(running.reload()["restarted"], json!(["two"]));
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.write_all(b"again").expect("it reads");
    stream.shutdown(Shutdown::Write).expect("half");
    assert_eq!(read_all(&stream), "again");
    drop(open);
    running.0.stop();
}

#[test]
fn a_mistake_changes_nothing() {
    let folder = Folder::new(ECHO);
    let running = folder.run();
    running.event("listening");
    let mistakes = [
        ("[[service]]\nname = \"echo\"\n", "say where its connections come from"),
        (
            "[[service]]\nname = \"x\"\nlisten = \"tpc:1\"\necho = true\n",
            "service \"x\": listen: no plugin provides",
        ),
        ("[[service", "services.toml:1:"),
    ];
    for (text, part) in mistakes {
        folder.write(text);
        running.0.signal(Signal::HUP);
        let error = running.event("error");
        let message = error["error"]["message"].as_str().expect("a message");
        assert!(message.contains(part), "{message}");
        assert_eq!(folder.ask("echo", "still here"), "still here");
    }
    fs::remove_file(folder.file()).expect("it is there");
    running.0.signal(Signal::HUP);
    assert_eq!(running.event("error")["error"]["kind"], "not-found");
    assert_eq!(folder.ask("echo", "still here"), "still here");
    running.0.stop();
}

#[test]
fn what_cannot_be_started_is_tried_again_at_the_next_reload() {
    let folder = Folder::new(ECHO);
    let running = folder.run();
    running.event("listening");
    let missing =
        format!("{ECHO}[[service]]\nname = \"late\"\nlisten = \"unix:@/folder/late\"\necho = true\n");
    folder.write(&missing);
    running.0.signal(Signal::HUP);
    let error = running.event("error");
    assert_eq!((&error["service"], &error["error"]["kind"]), (&json!("late"), &json!("not-found")));
    assert_eq!(running.event("reloaded")["failed"], json!(["late"]));
    fs::create_dir(folder.0.path().join("folder")).expect("a folder");
    assert_eq!(running.reload()["started"], json!(["late"]));
    assert_eq!(folder.ask("folder/late", "x"), "x");
    running.0.stop();
}

#[test]
fn what_failed_and_was_told_is_over() {
    let slow = ECHO.replace("echo\"", "left\"") + "drain-timeout = \"50ms\"\n";
    let folder = Folder::new(&format!("{ECHO}{slow}"));
    let running = folder.run();
    for _ in 0..2 {
        running.event("listening");
    }
    let mut open = UnixStream::connect(folder.0.path().join("left")).expect("it listens");
    open.write_all(b"a").expect("it reads");
    open.read_exact(&mut [0]).expect("it answers");
    folder.write(ECHO);
    running.0.signal(Signal::HUP);
    let error = running.event("error");
    assert_eq!((&error["service"], &error["error"]["kind"]), (&json!("left"), &json!("timed-out")));
    assert_eq!(open.read(&mut [0]).expect("the end"), 0);
    running.0.stop();
}

#[test]
fn programs_that_come_with_a_reload_have_the_limit_of_descriptors_that_was_there() {
    let folder = Folder::new(ECHO);
    let command = endpoints(["run", "--json", folder.file().to_str().expect("UTF-8")]);
    let mut shell = std::process::Command::new("/bin/sh");
    shell
        .args(["-c", "ulimit -Sn 200; exec \"$0\" \"$@\""])
        .arg(command.get_program())
        .args(command.get_args());
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = Running(Service::spawned(shell.spawn().expect("it starts")));
    running.event("listening");
    let limits = fs::read_to_string(format!("/proc/{}/limits", running.0.child.id())).expect("it is there");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("the limit");
    assert!(!files.contains(" 200 "), "it has raised its own: {files}");
    let programs = "
[[service]]
name = \"limit\"
listen = \"unix:@/limit\"
exec = [\"sh\", \"-c\", \"ulimit -Sn; echo $0 $1\", \"a b\", \"\"]

[[service]]
name = \"none\"
listen = \"unix:@/none\"
exec = [\"/nonexistent/program\"]
";
    folder.write(&format!("{ECHO}{programs}"));
    assert_eq!(running.reload()["started"], json!(["limit", "none"]));
    assert_eq!(folder.ask("limit", ""), "200\na b\n");
    assert_eq!(folder.ask("none", ""), "");
    let error = running.event("error");
    assert_eq!((&error["service"], &error["error"]["kind"]), (&json!("none"), &json!("other")));
    running.0.stop();
}

/// Of a program that is killed as its time to drain is over, nothing is left that waits to be waited for.
#[test]
fn a_program_that_is_cut_leaves_no_zombie() {
    let program =
        "[[service]]\nname = \"p\"\nlisten = \"unix:@/p\"\nexec = [\"sleep\", \"1000\"]\ndrain-timeout = 0\n";
    let folder = Folder::new(&format!("{ECHO}{program}"));
    let running = folder.run();
    for _ in 0..2 {
        running.event("listening");
    }
    let _open = UnixStream::connect(folder.0.path().join("p")).expect("it listens");
    running.event("connected");
    folder.write(ECHO);
    running.reload();
    let begun = std::time::Instant::now();
    // Each thread has children of its own.
    let threads = format!("/proc/{}/task", running.0.child.id());
    let left = || {
        let threads = fs::read_dir(&threads).expect("it runs").flatten();
        threads
            .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
            .collect::<String>()
    };
    while !left().is_empty() {
        assert!(begun.elapsed() < LIMIT, "{}", left());
        std::thread::sleep(Duration::from_millis(20));
    }
    running.0.stop();
}

/// A socket that was handed down is taken once: under another name it would be lost.
#[test]
fn a_socket_that_was_handed_down_stays_with_its_service() {
    let service =
        |name: &str, work: &str| format!("[[service]]\nname = \"{name}\"\nlisten = \"fd:3\"\n{work}\n");
    let folder = Folder::new(&service("one", "echo = true"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let command = endpoints(["run", "--json", folder.file().to_str().expect("UTF-8")]);
    let mut shell = std::process::Command::new("/bin/sh");
    shell
        .args(["-c", "exec \"$0\" \"$@\" 3<&0 </dev/null"])
        .arg(command.get_program())
        .args(command.get_args());
    shell.stdin(std::os::fd::OwnedFd::from(listener)).stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = Running(Service::spawned(shell.spawn().expect("it starts")));
    running.event("listening");
    for refused in [service("uno", "echo = true"), service("one", "echo = true\nmax-connections = 5")] {
        folder.write(&refused);
        running.0.signal(Signal::HUP);
        let error = running.event("error");
        let message = error["error"]["message"].as_str().expect("a message");
        assert!(message.contains("can be taken once"), "{message}");
    }
    let mut stream = TcpStream::connect(address).expect("it listens still");
    stream.write_all(b"a").expect("it reads");
    stream.read_exact(&mut [0]).expect("it answers");
    drop(stream);
    // What went is not there again.
    folder.write(ECHO);
    assert_eq!(running.reload()["stopped"], json!(["one"]));
    folder.write(&format!("{ECHO}{}", service("one", "echo = true")));
    running.0.signal(Signal::HUP);
    let error = running.event("error");
    assert!(error["error"]["message"].as_str().is_some_and(|message| message.contains("can be taken once")));
    running.0.stop();
}

/// Also a file that is none: nothing waits for whoever might write into it.
#[test]
fn a_file_that_cannot_be_read_in_time_is_refused() {
    let folder = Folder::new(ECHO);
    let running = folder.run();
    running.event("listening");
    fs::remove_file(folder.file()).expect("it is there");
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.file(), rustix::fs::Mode::RUSR).expect("a pipe");
    running.0.signal(Signal::HUP);
    let error = running.event("error");
    assert_eq!(error["error"]["kind"], "timed-out", "{error}");
    fs::remove_file(folder.file()).expect("it is there");
    folder.write(ECHO);
    assert_eq!(running.reload(), json!({ "event": "reloaded" }));
    running.0.stop();
}

#[test]
fn standard_streams_are_there_from_the_start_or_not_at_all() {
    let folder = Folder::new(ECHO);
    let running = folder.run();
    running.event("listening");
    folder.write(&format!("{ECHO}[[service]]\nname = \"late\"\nlisten = \"stdio:\"\necho = true\n"));
    running.0.signal(Signal::HUP);
    let error = running.event("error");
    assert!(
        error["error"]["message"].as_str().is_some_and(|message| message.contains("start it anew")),
        "{error}"
    );
    assert_eq!(folder.ask("echo", "as before"), "as before");
    running.0.stop();
}

#[test]
fn a_signal_while_the_file_is_read_anew_ends_it() {
    let folder = Folder::new(ECHO);
    let plugins = TempDir::new().expect("a folder");
    let file = "libendpoints_fixture_faulty.so";
    fs::copy(built(file), plugins.path().join(file)).expect("a copy");
    let mut command = endpoints(["run", "--json", folder.file().to_str().expect("UTF-8")]);
    command.arg("--plugin-path").arg(plugins.path());
    let mut running = Running(Service::spawned(command.spawn().expect("it starts")));
    running.event("listening");
    let hangs = "[[service]]\nname = \"late\"\nlisten = \"faulty:hang-listen\"\necho = true\n";
    folder.write(&format!("{ECHO}{hangs}"));
    running.0.signal(Signal::HUP);
    // It has begun: the one that is no longer there is told to drain, and the new one hangs.
    folder.write(hangs);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(folder.ask("echo", "still"), "still");
    running.0.signal(Signal::TERM);
    assert_eq!(running.0.wait(), Some(0));
}

#[test]
fn a_signal_to_reload_before_it_has_begun_is_heard_when_it_has() {
    let folder = Folder::new("");
    let pipe = |text: &str| {
        let mut pipe = fs::File::options().write(true).open(folder.file()).expect("it is read");
        pipe.write_all(text.as_bytes()).expect("it is read");
        pipe
    };
    fs::remove_file(folder.file()).expect("it is there");
    let made = std::process::Command::new("mkfifo").arg(folder.file()).status().expect("mkfifo");
    assert!(made.success());
    let running = folder.run();
    // It has opened it once this is open.
    let text = ECHO.replace('@', folder.path());
    let writing = pipe(&text);
    for _ in 0..50 {
        running.0.signal(Signal::HUP);
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(writing);
    running.event("listening");
    drop(pipe(&format!("{text}max-connections = 5\n")));
    assert_eq!(running.event("reloaded")["restarted"], json!(["echo"]));
    running.0.stop();
}

#[test]
fn a_signal_to_reload_ends_it_at_no_time_of_its_start() {
    let folder = Folder::new(ECHO);
    for _ in 0..10 {
        let running = folder.run();
        // Before the process is the command's own it can hear nothing: the bit of the signal tells.
        let status = format!("/proc/{}/status", running.0.child.id());
        let hears = || {
            let status = fs::read_to_string(&status).expect("it is there");
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("the signals");
            u64::from_str_radix(caught.trim(), 16).expect("a set") & 1 != 0
        };
        let begun = std::time::Instant::now();
        while !hears() {
            assert!(begun.elapsed() < LIMIT, "it never hears the signal");
        }
        for _ in 0..100 {
            running.0.signal(Signal::HUP);
        }
        running.event("listening");
        assert_eq!(running.event("reloaded"), json!({ "event": "reloaded" }));
        running.0.stop();
    }
}

#[test]
fn a_pipe_that_nobody_writes_to_holds_no_signal_up() {
    let folder = Folder::new(ECHO);
    let mut running = folder.run();
    running.event("listening");
    fs::remove_file(folder.file()).expect("it is there");
    let made = std::process::Command::new("mkfifo").arg(folder.file()).status().expect("mkfifo");
    assert!(made.success());
    running.0.signal(Signal::HUP);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(folder.ask("echo", "still"), "still");
    running.0.signal(Signal::TERM);
    assert_eq!(running.0.wait(), Some(0));
}
