//! `run`: several services from a file.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{LIMIT, Service, built, endpoints, read_all, run, run_with, wait};

mod manager;
mod reload;

/// A file of services, and the sockets that they listen on.
struct Folder(TempDir);

impl Folder {
    fn new(text: &str) -> Self {
        let folder = Self(TempDir::new().expect("a folder"));
        folder.write(text);
        folder
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("services.toml")
    }

    /// Writes the file; `@` is the folder.
    fn write(&self, text: &str) {
        fs::write(self.file(), text.replace('@', self.path())).expect("it is written");
    }

    fn path(&self) -> &str {
        self.0.path().to_str().expect("UTF-8")
    }

    fn run(&self) -> Running {
        let mut child = endpoints(["run", "--json", self.file().to_str().expect("UTF-8")]);
        Running(Service::spawned(child.spawn().expect("it starts")))
    }

    /// What comes back from a Unix socket of the folder for `said`.
    fn ask(&self, socket: &str, said: &str) -> String {
        let mut stream = std::os::unix::net::UnixStream::connect(self.0.path().join(socket)).expect(socket);
        stream.write_all(said.as_bytes()).expect("it reads");
        stream.shutdown(Shutdown::Write).expect("half");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        answer
    }
}

struct Running(Service);

impl Running {
    fn any_event(&self) -> Value {
        serde_json::from_str(&self.0.stdout_line()).expect("JSON")
    }

    /// The next event of that name.
    fn event(&self, name: &str) -> Value {
        loop {
            let event = self.any_event();
            if event["event"] == name {
                return event;
            }
        }
    }

    fn reload(&self) -> Value {
        self.0.signal(Signal::HUP);
        self.event("reloaded")
    }
}

const ECHO: &str = "[[service]]\nname = \"echo\"\nlisten = \"unix:@/echo\"\necho = true\n";

#[test]
fn services_run_together() {
    let folder = Folder::new(&format!(
        "{ECHO}
[[service]]
name = \"relay\"
listen = \"unix:@/relay\"
forward = \"unix:@/echo\"

[[service]]
name = \"program\"
listen = \"unix:@/program\"
exec = [\"tr\", \"a-z\", \"A-Z\"]
"
    ));
    let running = folder.run();
    for service in ["echo", "relay", "program"] {
        let listening = running.event("listening");
        assert_eq!(listening["service"], service, "in the order of the file");
        assert_eq!(listening["description"], format!("unix:path={}/{service}", folder.path()));
    }
    assert_eq!(folder.ask("relay", "through both"), "through both");
    assert_eq!(folder.ask("program", "loud"), "LOUD");
    let mut closed: Vec<String> =
        (0..3).map(|_| running.event("closed")["service"].as_str().expect("a name").to_owned()).collect();
    closed.sort();
    assert_eq!(closed, ["echo", "program", "relay"]);
    running.0.stop();
    assert!(!folder.0.path().join("echo").exists(), "its socket is removed");
}

#[test]
fn a_connection_is_kept_up() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("a port").port();
    let folder = Folder::new(&format!(
        "[[service]]
name = \"uplink\"
connect = \"tcp:127.0.0.1:{port}\"
exec = [\"sh\", \"-c\", \"echo hello; read line; echo bye\"]
retry = {{ initial-delay = 0.01, jitter = 0 }}
"
    ));
    let mut running = folder.run();
    for attempt in 1..=2 {
        let (mut stream, _) = listener.accept().expect("it connects");
        let mut hello = [0; 6];
        stream.read_exact(&mut hello).expect("hello");
        let connected = running.event("connected");
        assert_eq!((&connected["service"], &connected["id"]), (&json!("uplink"), &json!(attempt)));
        stream.write_all(b"\n").expect("it reads");
        assert_eq!(read_all(&stream), "bye\n");
        drop(stream);
        running.event("closed");
    }
    let (stream, _) = listener.accept().expect("it connects");
    drop(listener);
    drop(stream);
    let error = loop {
        let error = running.event("error");
        if error["error"]["kind"] == "connection-refused" {
            break error;
        }
    };
    assert!(
        error["failures"].as_u64() > Some(0) && error["retry_in_seconds"].as_f64() > Some(0.0),
        "{error}"
    );
    running.0.signal(Signal::TERM);
    assert_eq!(running.0.wait(), Some(0));
}

#[test]
fn a_connection_that_is_kept_up_is_closed_when_it_is_stopped() {
    for work in ["echo = true", "exec = [\"cat\"]"] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("a port").port();
        let folder = Folder::new(&format!(
            "[[service]]\nname = \"uplink\"\nconnect = \"tcp:127.0.0.1:{port}\"\n{work}\n"
        ));
        let mut running = folder.run();
        let (mut stream, _) = listener.accept().expect("it connects");
        running.event("connected");
        stream.write_all(b"x").expect("it reads");
        stream.read_exact(&mut [0]).expect("it answers");
        running.0.signal(Signal::TERM);
        assert_eq!(running.0.wait(), Some(0), "{work}");
        assert_eq!(stream.read(&mut [0]).expect("the end"), 0);
    }
}

#[test]
fn a_connection_whose_program_has_ended_is_made_anew_though_its_peer_does_not_end() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("a port").port();
    let folder = Folder::new(&format!(
        "[[service]]
name = \"uplink\"
connect = \"tcp:127.0.0.1:{port}\"
exec = [\"head\", \"-c\", \"300000\", \"/dev/zero\"]
retry = {{ initial-delay = 0.01, jitter = 0 }}
"
    ));
    let running = folder.run();
    let (mut first, _) = listener.accept().expect("it connects");
    // It reads late, and goes on to send.
    std::thread::sleep(Duration::from_secs(1));
    first.write_all(b"still here").expect("it reads");
    assert_eq!(read_all(&first).len(), 300_000);
    let begun = std::time::Instant::now();
    let _second = listener.accept().expect("it connects");
    assert!(begun.elapsed() < Duration::from_secs(8), "after {:?}", begun.elapsed());
    assert_eq!(running.event("closed")["bytes_out"], 300_000);
}

#[test]
fn a_service_that_keeps_a_connection_up_tells_its_end() {
    for work in ["echo = true", "exec = [\"cat\"]", "forward = \"unix:@/echo\""] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("a port").port();
        let folder = Folder::new(&format!(
            "{ECHO}[[service]]\nname = \"uplink\"\nconnect = \"tcp:127.0.0.1:{port}\"\n{work}\n"
        ));
        let mut running = folder.run();
        let (mut stream, _) = listener.accept().expect("it connects");
        stream.write_all(b"x").expect("it reads");
        stream.read_exact(&mut [0]).expect("it answers");
        running.0.signal(Signal::TERM);
        running.event("draining");
        let mut told = Vec::new();
        while told.len() < 2 {
            let event = running.any_event();
            if event["service"] == "uplink" && event["event"] != "draining" {
                told.push(event);
            }
        }
        assert_eq!((&told[0]["event"], &told[0]["id"]), (&json!("closed"), &json!(1)), "{told:?}");
        assert_eq!((&told[0]["bytes_in"], &told[0]["bytes_out"]), (&json!(1), &json!(1)), "{told:?}");
        assert_eq!(told[1], json!({ "event": "stopped", "service": "uplink" }));
        assert_eq!(running.0.wait(), Some(0), "{work}");
    }
}

#[test]
fn a_service_that_has_no_connection_to_keep_up_tells_its_end() {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("a port").port();
    let folder = Folder::new(&format!(
        "[[service]]\nname = \"uplink\"\nconnect = \"tcp:127.0.0.1:{port}\"\necho = true\n"
    ));
    let mut running = folder.run();
    running.event("error");
    running.0.signal(Signal::TERM);
    for name in ["draining", "stopped"] {
        assert_eq!(running.any_event(), json!({ "event": name, "service": "uplink" }));
    }
    assert_eq!(running.0.wait(), Some(0));
}

#[test]
fn connections_have_one_number_each() {
    // Nobody listens there at first.
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("a port").port();
    let folder = Folder::new(&format!(
        "{ECHO}[[service]]\nname = \"uplink\"\nconnect = \"tcp:127.0.0.1:{port}\"\nforward = \"unix:@/echo\"
retry = {{ initial-delay = 0.01, max-delay = 0.01, jitter = 0 }}\n"
    ));
    let running = folder.run();
    running.event("error");
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port");
    let (stream, _) = listener.accept().expect("it connects");
    let mut numbers = Vec::new();
    for _ in 0..2 {
        numbers.push(loop {
            let connected = running.event("connected");
            if connected["service"] == "uplink" {
                break connected["id"].clone();
            }
        });
    }
    drop(stream);
    numbers.push(loop {
        let closed = running.event("closed");
        if closed["service"] == "uplink" {
            break closed["id"].clone();
        }
    });
    assert!(numbers[0].as_u64() > Some(1) && numbers.iter().all(|one| *one == numbers[0]), "{numbers:?}");
    running.0.stop();
}

#[test]
fn one_connection_on_standard_streams_that_fails_is_told_by_the_status() {
    for (work, status) in
        [("exec = [\"false\"]", 1), ("forward = \"tcp:127.0.0.1:1\"", 1), ("exec = [\"true\"]", 0)]
    {
        let folder = Folder::new(&format!("[[service]]\nname = \"one\"\nlisten = \"stdio:\"\n{work}\n"));
        let ran = run_with(["run", folder.file().to_str().expect("UTF-8")], b"x");
        assert_eq!(ran.status, Some(status), "{work}: {ran:?}");
    }
}

#[test]
fn where_one_cannot_start_none_stays() {
    let folder =
        Folder::new(&format!("{ECHO}[[service]]\nname = \"bad\"\nlisten = \"unix:@/no/bad\"\necho = true\n"));
    let ran = run(["run", folder.file().to_str().expect("UTF-8")]);
    assert_eq!(ran.status, Some(1));
    assert!(ran.stderr.contains("error: bad: "), "{}", ran.stderr);
    assert!(!folder.0.path().join("echo").exists());
}

#[test]
fn check_says_whether_all_is_well_and_opens_nothing() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("command/run/services.toml");
    let ran = run(["run", "--check", page.to_str().expect("UTF-8")]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert_eq!(ran.text(), format!("{}: all is well with web, uplink\n", page.display()));
    let json = run(["run", "--check", "--json", page.to_str().expect("UTF-8")]).json();
    assert_eq!(json, json!({ "services": ["web", "uplink"] }));
    let folder = Folder::new("[[service]]\nname = \"a\"\nlisten = \"tcp:80:bakclog=5\"\necho = true\n");
    let ran = run(["run", "--check", folder.file().to_str().expect("UTF-8")]);
    assert_eq!(ran.status, Some(2));
    assert!(
        ran.stderr.contains("services.toml:3:10: service \"a\": listen: \"bakclog\" is not an argument"),
        "{ran:?}"
    );
    assert!(
        ran.stderr.contains("\n         ^^^^^^^\n") && ran.stderr.contains("did you mean backlog?"),
        "{ran:?}"
    );
    folder.write("[[service]]\nname = \"a\"\nconnect = [\n  \"tcp:h:1\",\n  \"tpc:h:2\",\n]\necho = true\n");
    let ran = run(["run", "--check", folder.file().to_str().expect("UTF-8")]);
    assert!(ran.stderr.contains("services.toml:5:3: service \"a\": connect: no plugin provides"), "{ran:?}");
    let ran = run(["run", "/nonexistent.toml"]);
    assert_eq!(ran.status, Some(1));
    assert!(ran.stderr.contains("cannot read /nonexistent.toml"), "{ran:?}");
}

#[test]
fn commands_end_with_a_second_signal_and_do_not_speak_for_their_parent() {
    let folder = Folder::new(
        "[[service]]
name = \"program\"
listen = \"unix:@/program\"
exec = [\"sh\", \"-c\", \"env | grep -c -e NOTIFY -e WATCHDOG; echo $$; exec sleep 1000\"]
",
    );
    let notify = folder.0.path().join("notify");
    let _socket = UnixDatagram::bind(&notify).expect("a socket");
    let mut command = endpoints(["run", "--json", folder.file().to_str().expect("UTF-8")]);
    command.env("NOTIFY_SOCKET", &notify).env("WATCHDOG_USEC", "60000000");
    let mut running = Running(Service::spawned(command.spawn().expect("it starts")));
    running.event("listening");
    let stream =
        std::os::unix::net::UnixStream::connect(folder.0.path().join("program")).expect("it listens");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(&stream));
    assert_eq!(lines.next().expect("a line").expect("text"), "0");
    let child: i32 = lines.next().expect("a line").expect("text").parse().expect("a number");
    running.0.signal(Signal::TERM);
    running.event("draining");
    running.0.signal(Signal::TERM);
    assert_eq!(running.0.wait(), Some(128 + 15));
    let begun = std::time::Instant::now();
    // Until whoever inherits it has seen its end.
    while fs::read_to_string(format!("/proc/{child}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(begun.elapsed() < LIMIT, "the command goes on");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_file_without_an_end_is_not_read_to_it() {
    let ran = run(["run", "--check", "/dev/zero"]);
    assert_eq!(ran.status, Some(2));
    assert!(ran.stderr.contains("/dev/zero has more than 4 MiB: it is no file of services"), "{ran:?}");
}

#[test]
fn systemd_is_told() {
    let folder = Folder::new(ECHO);
    let path = folder.0.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(LIMIT)).expect("a limit");
    let mut command = endpoints(["run", folder.file().to_str().expect("UTF-8")]);
    command.env("NOTIFY_SOCKET", &path);
    let mut child = command.spawn().expect("it starts");
    let told = || {
        let mut buf = [0; 200];
        let count = socket.recv(&mut buf).expect("a message");
        String::from_utf8_lossy(&buf[..count]).trim().to_owned()
    };
    assert_eq!(told(), "READY=1");
    let signal = |child: &std::process::Child, signal| {
        kill_process(Pid::from_child(child), signal).expect("it can be signalled");
    };
    signal(&child, Signal::HUP);
    let reloading = told();
    let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&reloading);
    assert!(time.parse::<u64>().is_ok(), "{reloading}");
    assert_eq!(told(), "READY=1");
    signal(&child, Signal::TERM);
    assert_eq!(told(), "STOPPING=1");
    assert_eq!(wait(&mut child), Some(0));
}

#[test]
fn a_reload_that_is_refused_is_told_in_the_log_and_to_systemd() {
    let folder = Folder::new(ECHO);
    let path = folder.0.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(LIMIT)).expect("a limit");
    let mut command = endpoints(["run", folder.file().to_str().expect("UTF-8")]);
    command.env("NOTIFY_SOCKET", &path);
    let service = Service::spawned(command.spawn().expect("it starts"));
    let told = || {
        let mut buf = [0; 1000];
        let count = socket.recv(&mut buf).expect("a message");
        String::from_utf8_lossy(&buf[..count]).trim().to_owned()
    };
    assert_eq!(told(), "READY=1");
    folder.write("[[service]]\nname = \"a\"\nlisten = \"tcp:80:bakclog=5\"\necho = true\n");
    let checked = run(["run", "--check", folder.file().to_str().expect("UTF-8")]).stderr;
    let expected = checked.strip_prefix("error: ").expect("an error").trim_end();
    assert!(expected.contains("\n         ^^^^^^^\n"), "{expected}");
    service.signal(Signal::HUP);
    assert!(told().starts_with("RELOADING=1\n"));
    let refused = told();
    let (status, ready) = refused.split_once('\n').expect("two lines");
    let reason = status.strip_prefix("STATUS=the reload was refused: ").expect(status);
    let first = expected.lines().next().expect("a line");
    assert!(
        reason == first || reason.strip_suffix('…').is_some_and(|cut| first.starts_with(cut)),
        "{status}"
    );
    assert!(status.chars().count() <= "STATUS=".len() + 200, "{status}");
    assert_eq!(ready, "READY=1");
    assert!(service.stderr_line().starts_with("echo: listening on "));
    let line = service.stderr_line();
    let mut logged = line.split_once("nothing is changed: ").expect("it is said").1.to_owned();
    for _ in expected.lines().skip(1) {
        logged += &format!("\n{}", service.stderr_line());
    }
    // The log's fields follow.
    assert!(logged.starts_with(expected), "{logged}");
    folder.write(ECHO);
    service.signal(Signal::HUP);
    assert!(told().starts_with("RELOADING=1\n"));
    assert_eq!(told(), "STATUS=reloaded\nREADY=1", "the refusal is past");
    service.signal(Signal::HUP);
    assert!(told().starts_with("RELOADING=1\n"));
    assert_eq!(told(), "READY=1");
    service.stop();
}

#[test]
fn the_watchdog_is_served() {
    let folder = Folder::new(ECHO);
    let path = folder.0.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(LIMIT)).expect("a limit");
    // The process's own number is known to the shell that becomes it alone.
    let program = built("endpoints");
    let mut child = std::process::Command::new("sh")
        .args(["-c", "WATCHDOG_PID=$$ exec \"$0\" run \"$1\""])
        .args([program.as_os_str(), folder.file().as_os_str()])
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", Duration::from_millis(100).as_micros().to_string())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("it starts");
    let mut told = Vec::new();
    while told.iter().filter(|line| *line == "WATCHDOG=1").count() < 3 {
        let mut buf = [0; 200];
        let count = socket.recv(&mut buf).expect("a message");
        told.push(String::from_utf8_lossy(&buf[..count]).trim().to_owned());
    }
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it can be signalled");
    assert_eq!(wait(&mut child), Some(0));
}
