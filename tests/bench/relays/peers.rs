//! The relays that are measured.

use std::fs;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// Where a relay listens and connects to, each in a number of ways.
pub(crate) struct Place {
    pub(crate) folder: PathBuf,
    /// The first of its ports: plain, then behind PROXY headers.
    pub(crate) port: u16,
    /// The port of what it relays to.
    pub(crate) backend: u16,
}

impl Place {
    pub(crate) fn unix(&self) -> PathBuf {
        self.folder.join("front")
    }

    fn unix_backend(&self) -> PathBuf {
        self.folder.parent().expect("a folder of its own").join("backend")
    }
}

/// A relay that runs, with all its processes in a group.
pub(crate) struct Relay {
    pub(crate) name: &'static str,
    pub(crate) place: Place,
    processes: Vec<Child>,
    pub(crate) takes_proxy: bool,
    /// It loses what still comes from one side when the other has ended, and so is none to compare with.
    pub(crate) cuts: bool,
}

/// The processor that relays run on; the other one is whose who loads them.
pub(crate) const RELAY_PROCESSOR: &str = "1";

fn is_there(program: &Path) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).exists()))
}

fn pinned(program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", RELAY_PROCESSOR]).arg(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command
}

/// Starts all that are installed.
pub(crate) fn start(endpoints: &Path, beside: Option<&Path>, folder: &Path, backend: u16) -> Vec<Relay> {
    let mut port = 20_000;
    let mut relays = Vec::new();
    let mut all = vec![("endpoints", endpoints, ours as Begin)];
    all.extend(beside.map(|beside| ("endpoints, beside", beside, ours as Begin)));
    all.extend([
        ("HAProxy", Path::new("haproxy"), haproxy as Begin),
        ("HAProxy, splice", Path::new("haproxy"), haproxy_splice),
        ("nginx", Path::new("nginx"), nginx),
        ("nginx, cutting", Path::new("nginx"), nginx_cutting),
        ("socat", Path::new("socat"), socat),
    ]);
    for (name, program, begin) in all {
        if !program.is_absolute() && !is_there(program) {
            println!("{name} is not installed");
            continue;
        }
        let place = Place { folder: folder.join(format!("{port}")), port, backend };
        port += 10;
        fs::create_dir(&place.folder).expect("a folder");
        let processes = begin(program, &place);
        let cuts = name == "nginx, cutting";
        let relay = Relay { name, place, processes, takes_proxy: name != "socat", cuts };
        relay.wait();
        relays.push(relay);
    }
    relays
}

/// Ours on all processors, with so many workers.
pub(crate) fn spread(endpoints: &Path, folder: &Path, backend: u16, workers: u16) -> Relay {
    let place =
        Place { folder: folder.join(format!("spread{workers}")), port: 21_000 + 10 * workers, backend };
    fs::create_dir(&place.folder).expect("a folder");
    let forward = |server: String, client: String| {
        let mut command = Command::new(endpoints);
        command.args(["forward", "--workers", &workers.to_string(), &server, &client]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        command.spawn().expect("it starts")
    };
    let processes = vec![
        forward(format!("tcp:{}:interface=127.0.0.1", place.port), format!("tcp:127.0.0.1:{backend}")),
        forward(
            format!("unix:{}", place.unix().display()),
            format!("unix:{}", place.unix_backend().display()),
        ),
    ];
    let relay = Relay { name: "endpoints", place, processes, takes_proxy: false, cuts: false };
    relay.wait();
    relay
}

type Begin = fn(&Path, &Place) -> Vec<Child>;

fn ours(program: &Path, place: &Place) -> Vec<Child> {
    let tcp = format!("tcp:127.0.0.1:{}", place.backend);
    let unix = |path: &Path| format!("unix:{}", path.display());
    let forward = |server: String, client: &str| {
        let mut command = pinned(program);
        command.args(["forward", "--workers", "1", &server, client]);
        command.spawn().expect("it starts")
    };
    vec![
        forward(format!("tcp:{}:interface=127.0.0.1", place.port), &tcp),
        forward(format!("haproxy:tcp:{}:interface=127.0.0.1", place.port + 1), &tcp),
        forward(unix(&place.unix()), &unix(&place.unix_backend())),
    ]
}

fn haproxy(program: &Path, place: &Place) -> Vec<Child> {
    haproxy_with(program, place, "")
}

fn haproxy_splice(program: &Path, place: &Place) -> Vec<Child> {
    haproxy_with(program, place, "  option splice-auto\n  option splice-request\n  option splice-response\n")
}

fn haproxy_with(program: &Path, place: &Place, options: &str) -> Vec<Child> {
    let Place { port, backend, .. } = place;
    let proxied = port + 1;
    let (front, behind) = (place.unix(), place.unix_backend());
    let configuration = format!(
        "global\n  maxconn 4000\n  nbthread 1\ndefaults\n  mode tcp\n{options}  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
         listen plain\n  bind 127.0.0.1:{port}\n  server one 127.0.0.1:{backend}\n\
         listen proxied\n  bind 127.0.0.1:{proxied} accept-proxy\n  server one 127.0.0.1:{backend}\n\
         listen unix\n  bind {front}\n  server one {behind}\n",
        front = front.display(),
        behind = behind.display(),
    );
    let file = place.folder.join("configuration");
    fs::write(&file, configuration).expect("a file");
    let mut command = pinned(program);
    command.arg("-db").arg("-f").arg(file);
    vec![command.spawn().expect("it starts")]
}

/// Passing half-closes on, as the others do.
fn nginx(program: &Path, place: &Place) -> Vec<Child> {
    nginx_with(program, place, "proxy_half_close on;")
}

/// As it is without more: the end of one direction is the end of both.
fn nginx_cutting(program: &Path, place: &Place) -> Vec<Child> {
    nginx_with(program, place, "")
}

fn nginx_with(program: &Path, place: &Place, options: &str) -> Vec<Child> {
    let Place { port, backend, .. } = place;
    let proxied = port + 1;
    let (at, front, behind) = (place.folder.display(), place.unix(), place.unix_backend());
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    let module = if Path::new(module).exists() { format!("load_module {module};") } else { String::new() };
    let configuration = format!(
        "{module} daemon off; user root root; worker_processes 1; worker_rlimit_nofile 20000; pid {at}/pid; error_log {at}/log;\n\
         events {{ worker_connections 9000; }}\n\
         stream {{\n  proxy_timeout 1h; {options}\n\
           server {{ listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{backend}; }}\n\
           server {{ listen 127.0.0.1:{proxied} proxy_protocol; proxy_pass 127.0.0.1:{backend}; }}\n\
           server {{ listen unix:{front}; proxy_pass unix:{behind}; }}\n}}\n",
        front = front.display(),
        behind = behind.display(),
    );
    let file = place.folder.join("configuration");
    fs::write(&file, configuration).expect("a file");
    let mut command = pinned(program);
    command.arg("-p").arg(&place.folder).arg("-c").arg(file);
    vec![command.spawn().expect("it starts")]
}

fn socat(program: &Path, place: &Place) -> Vec<Child> {
    let run = |from: String, to: String| {
        let mut command = pinned(program);
        command.args(["-b", "65536", &from, &to]);
        command.spawn().expect("it starts")
    };
    let (front, behind) = (place.unix(), place.unix_backend());
    vec![
        run(
            format!("TCP-LISTEN:{},bind=127.0.0.1,reuseaddr,fork,backlog=1024", place.port),
            format!("TCP:127.0.0.1:{}", place.backend),
        ),
        run(format!("UNIX-LISTEN:{},fork", front.display()), format!("UNIX-CONNECT:{}", behind.display())),
    ]
}

impl Relay {
    /// Waits until it listens.
    fn wait(&self) {
        let begun = Instant::now();
        let listens = || {
            TcpStream::connect(("127.0.0.1", self.place.port)).is_ok()
                && UnixStream::connect(self.place.unix()).is_ok()
        };
        while !listens() {
            assert!(begun.elapsed() < Duration::from_secs(10), "{} does not listen", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The processes of all its groups.
    fn processes(&self) -> Vec<u32> {
        let groups: Vec<u32> = self.processes.iter().map(Child::id).collect();
        let all = fs::read_dir("/proc").expect("/proc").flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|id| group_of(*id).is_some_and(|group| groups.contains(&group)))
            .collect()
    }

    /// CPU time so far of each thread, in nanoseconds.
    pub(crate) fn threads(&self) -> Vec<u64> {
        let tasks_of = |id: u32| fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
        let tasks = self.processes().into_iter().flat_map(tasks_of);
        tasks
            .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
            .filter_map(|stat| stat.split_whitespace().next()?.parse().ok())
            .collect()
    }

    /// CPU time so far, of what runs and of children that have ended.
    pub(crate) fn cpu(&self) -> Duration {
        let running = self.threads().into_iter().sum();
        let ended: u64 = self.processes.iter().filter_map(|child| ticks_of_children(child.id())).sum();
        // A tick is 10 ms.
        Duration::from_nanos(running) + Duration::from_millis(ended * 10)
    }

    /// What it holds of memory that is its own, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let own = |id: u32| {
            let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).ok()?;
            let sum = rollup
                .lines()
                .filter(|line| line.starts_with("Private_"))
                .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
                .sum::<u64>();
            Some(sum * 1024)
        };
        self.processes().into_iter().filter_map(own).sum()
    }
}

/// The fields of `/proc/PID/stat` from the state on; see proc(5).
fn stat(id: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

fn group_of(id: u32) -> Option<u32> {
    stat(id)?.get(2)?.parse().ok()
}

fn ticks_of_children(id: u32) -> Option<u64> {
    let stat = stat(id)?;
    let field = |place: usize| stat.get(place)?.parse::<u64>().ok();
    Some(field(13)? + field(14)?)
}

impl Drop for Relay {
    fn drop(&mut self) {
        for process in &mut self.processes {
            if let Some(group) = i32::try_from(process.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = process.wait();
        }
    }
}
