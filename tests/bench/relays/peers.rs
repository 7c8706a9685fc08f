//! The relays that are measured, as they relay bytes as they are; with TLS in front of them in `tls`.

pub(crate) mod tls;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::relay::{Place, Relay};
use crate::{Bench, raw};

/// Starts a relay by its program.
pub(crate) type Begin = fn(&Path, &Place) -> Vec<Child>;

/// Starts all that are installed, those that relay with splice or with other settings too.
pub(crate) fn start(bench: &Bench) -> Vec<Relay> {
    let mut all = ours_of(bench);
    all.extend([
        ("HAProxy", Path::new("haproxy"), haproxy as Begin),
        ("HAProxy, splice", Path::new("haproxy"), haproxy_splice),
        ("HAProxy, 256 KiB", Path::new("haproxy"), haproxy_large_pipes),
        ("nginx", Path::new("nginx"), nginx),
        ("nginx, cutting", Path::new("nginx"), nginx_cutting),
        ("socat", Path::new("socat"), socat),
        (raw::NAME, &bench.itself, raw::plain),
        (raw::LARGE, &bench.itself, raw::plain_large),
    ]);
    start_each(bench, &all, 1, true)
}

/// Those that serve many connections at a time, without splice, with so many workers.
pub(crate) fn start_few(bench: &Bench, workers: u16) -> Vec<Relay> {
    let mut all = ours_of(bench);
    all.extend([("HAProxy", Path::new("haproxy"), haproxy as Begin), ("nginx", Path::new("nginx"), nginx)]);
    if workers > 1 {
        all.push(("nginx, reuseport", Path::new("nginx"), nginx_shared));
    }
    start_each(bench, &all, workers, true)
}

/// Ours alone, on both processors.
pub(crate) fn spread(bench: &Bench, workers: u16) -> Relay {
    let place = Place { processors: "0,1", ..bench.place(workers) };
    let processes = ours(&bench.endpoints, &place);
    Relay::new("endpoints", place, processes, true)
}

fn ours_of(bench: &Bench) -> Vec<(&'static str, &Path, Begin)> {
    let mut all = vec![("endpoints", bench.endpoints.as_path(), ours as Begin)];
    all.extend(bench.beside.as_deref().map(|beside| ("endpoints, beside", beside, ours as Begin)));
    all
}

fn start_each(bench: &Bench, all: &[(&'static str, &Path, Begin)], workers: u16, unix: bool) -> Vec<Relay> {
    let mut relays = Vec::new();
    for (name, program, begin) in all {
        if !program.is_absolute() && !is_there(program) {
            println!("{name} is not installed");
            continue;
        }
        let place = bench.place(workers);
        let processes = begin(program, &place);
        relays.push(Relay::new(name, place, processes, unix));
    }
    relays
}

fn is_there(program: &Path) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).exists()))
}

/// A relay's command, on its processors.
pub(crate) fn command(program: &Path, place: &Place) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", place.processors]).arg(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command
}

fn ours(program: &Path, place: &Place) -> Vec<Child> {
    let tcp = format!("tcp:127.0.0.1:{}", place.backend);
    let unix = |path: &Path| format!("unix:{}", path.display());
    let forward = |server: String, client: &str| {
        let mut command = command(program, place);
        command.args(["forward", "--workers", &place.workers.to_string(), &server, client]);
        command.spawn().expect("it starts")
    };
    // As long as nginx waits for a header, so that slow clients are there as long.
    let inner = format!("tcp:{}:interface=127.0.0.1", place.port + 1);
    let proxied = format!("haproxy:timeout=30:endpoint={}", endpoints::quote_str(&inner));
    vec![
        forward(format!("tcp:{}:interface=127.0.0.1", place.port), &tcp),
        forward(proxied, &tcp),
        forward(unix(&place.unix()), &unix(&place.unix_backend())),
    ]
}

/// Buffers as large as socat has here. Bulk takes less with them than with those of 16 KiB that HAProxy has by itself, and connections
/// take no more.
const HAPROXY_BUFFERS: &str = "tune.bufsize 65536";

/// Four times what nginx has by itself, for the same reason.
const NGINX_BUFFERS: &str = "proxy_buffer_size 64k;";

fn haproxy(program: &Path, place: &Place) -> Vec<Child> {
    haproxy_with(program, place, "", "")
}

const SPLICE: &str = "  option splice-auto\n  option splice-request\n  option splice-response\n";

/// With pipes as large as the system makes them, 64 KiB.
fn haproxy_splice(program: &Path, place: &Place) -> Vec<Child> {
    haproxy_with(program, place, "", SPLICE)
}

/// With pipes as large as ours.
fn haproxy_large_pipes(program: &Path, place: &Place) -> Vec<Child> {
    haproxy_with(program, place, "tune.pipesize 262144", SPLICE)
}

fn haproxy_with(program: &Path, place: &Place, pipes: &str, options: &str) -> Vec<Child> {
    let Place { port, backend, workers, .. } = place;
    let proxied = port + 1;
    let (front, behind) = (place.unix(), place.unix_backend());
    // It has to have the descriptors for so many, with splice those of pipes too.
    let most = if options.is_empty() { 9_900 } else { 4_000 };
    let configuration = format!(
        "global\n  maxconn {most}\n  nbthread {workers}\n  {HAPROXY_BUFFERS}\n  {pipes}\ndefaults\n  maxconn {most}\n  mode tcp\n{options}  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
         listen plain\n  bind 127.0.0.1:{port}\n  server one 127.0.0.1:{backend}\n\
         listen proxied\n  bind 127.0.0.1:{proxied} accept-proxy\n  server one 127.0.0.1:{backend}\n\
         listen unix\n  bind {front}\n  server one {behind}\n",
        front = front.display(),
        behind = behind.display(),
    );
    run(program, place, &["-db", "-f"], &configuration)
}

/// Passing half-closes on, as the others do.
fn nginx(program: &Path, place: &Place) -> Vec<Child> {
    nginx_with(program, place, "", "proxy_half_close on;")
}

/// With a socket for each worker, among which the kernel shares connections: else one worker takes most of those that stay.
fn nginx_shared(program: &Path, place: &Place) -> Vec<Child> {
    nginx_with(program, place, "reuseport", "proxy_half_close on;")
}

/// As it is without more: the end of one direction is the end of both.
fn nginx_cutting(program: &Path, place: &Place) -> Vec<Child> {
    nginx_with(program, place, "", "")
}

fn nginx_with(program: &Path, place: &Place, listening: &str, options: &str) -> Vec<Child> {
    let Place { port, backend, .. } = place;
    let proxied = port + 1;
    let (front, behind) = (place.unix(), place.unix_backend());
    let head = nginx_head(place);
    let configuration = format!(
        "{head}stream {{\n  proxy_timeout 1h; {NGINX_BUFFERS} {options}\n\
           server {{ listen 127.0.0.1:{port} {listening}; proxy_pass 127.0.0.1:{backend}; }}\n\
           server {{ listen 127.0.0.1:{proxied} proxy_protocol; proxy_pass 127.0.0.1:{backend}; }}\n\
           server {{ listen unix:{front}; proxy_pass unix:{behind}; }}\n}}\n",
        front = front.display(),
        behind = behind.display(),
    );
    run(program, place, &["-c"], &configuration)
}

/// What stands before all that nginx serves.
fn nginx_head(place: &Place) -> String {
    let (at, workers) = (place.folder.display(), place.workers);
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    let module = if Path::new(module).exists() { format!("load_module {module};") } else { String::new() };
    format!(
        "{module} daemon off; user root root; worker_processes {workers}; worker_rlimit_nofile 20000; pid {at}/pid; error_log {at}/log;\n\
         events {{ worker_connections 19900; }}\n"
    )
}

/// Starts a program with its configuration, whose place follows the arguments.
fn run(program: &Path, place: &Place, arguments: &[&str], configuration: &str) -> Vec<Child> {
    let file = place.folder.join("configuration");
    fs::write(&file, configuration).expect("a file");
    let mut command = command(program, place);
    vec![command.args(arguments).arg(file).spawn().expect("it starts")]
}

fn socat(program: &Path, place: &Place) -> Vec<Child> {
    let run = |from: String, to: String| {
        let mut command = command(program, place);
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
