//! nginx behind the relay, curl before it, and a real SOCKS proxy between where there is one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use endpoints::Description;
use tempfile::TempDir;

use crate::data::{MEGABYTE, hash, noise_file};
use crate::harness::{Peer, free_port, need, program, run};
use crate::ours::Plugins;
use crate::relay::{By, Relay};

/// The file that is downloaded.
const LARGE: usize = 100 * MEGABYTE;
/// The file that is uploaded.
const UPLOAD: usize = 20 * MEGABYTE;
/// How many small files there are, each another one.
const SMALL: usize = 200;

/// An nginx that serves files over TCP and over a Unix socket, and takes uploads.
struct Nginx {
    process: Peer,
    folder: TempDir,
    port: u16,
    /// The hash of the large file.
    large: String,
}

impl Nginx {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (files, small) = (folder.path().join("files"), folder.path().join("files/small"));
        fs::create_dir_all(&small).expect("a folder for files");
        let large = hash(&noise_file(&files, "large", LARGE, 1));
        for number in 1..=SMALL {
            fs::write(small.join(number.to_string()), small_file(number)).expect("a small file");
        }
        loop {
            let port = free_port();
            let mut process = Self::run(folder.path(), port);
            if process.try_port().is_some() {
                process.wait_for_socket(&folder.path().join("socket"));
                return Self { process, folder, port, large };
            }
            // Somebody else was faster.
            assert!(process.log().contains("Address already in use"), "nginx:\n{}", process.log());
        }
    }

    fn run(folder: &Path, port: u16) -> Peer {
        let at = folder.display();
        // As root its workers would be another user, who has no right to the folder.
        let user = if rustix::process::geteuid().is_root() { "user root root;" } else { "" };
        let configuration = format!(
            "{user} daemon off; worker_processes 1; pid {at}/pid; error_log stderr;
            events {{ worker_connections 1024; }}
            http {{
                access_log off;
                client_max_body_size 1g;
                client_body_temp_path {at}/body;
                proxy_temp_path {at}/proxy;
                fastcgi_temp_path {at}/fastcgi;
                uwsgi_temp_path {at}/uwsgi;
                scgi_temp_path {at}/scgi;
                server {{
                    listen 127.0.0.1:{port};
                    listen unix:{at}/socket;
                    root {at}/files;
                    location /upload/ {{ dav_methods PUT; create_full_put_path on; }}
                }}
            }}"
        );
        fs::write(folder.join("nginx.conf"), configuration).expect("a configuration");
        let mut command = Command::new(program("nginx"));
        command.arg("-p").arg(folder).args(["-e", "stderr", "-c", "nginx.conf"]);
        Peer::start(command.stdin(Stdio::null()), folder)
    }

    /// Starts it again after it was killed.
    fn restart(&mut self) {
        let socket = self.folder.path().join("socket");
        fs::remove_file(&socket).expect("the socket that it left behind");
        self.process = Self::run(self.folder.path(), self.port);
        assert_eq!(self.process.port(), self.port);
        self.process.wait_for_socket(&socket);
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("files").join(name)
    }

    fn over_tcp(&self) -> String {
        format!("tcp:host=127.0.0.1:port={}", self.port)
    }

    fn over_unix(&self) -> String {
        format!("unix:path={}/socket", self.folder.path().display())
    }
}

fn small_file(number: usize) -> Vec<u8> {
    format!("{number} ").repeat(1000 + number).into_bytes()
}

/// A curl that uses a relay.
struct Curl {
    arguments: Vec<String>,
    base: String,
}

impl Curl {
    fn to(relay: &Relay) -> Self {
        let mut arguments: Vec<String> =
            ["-q", "--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "60"]
                .map(String::from)
                .into();
        let base = match relay.reachable.scheme().as_ref() {
            b"unix" => {
                let path = relay.reachable.keyword("path").expect("a path").value().into_owned();
                arguments
                    .extend(["--unix-socket".to_owned(), String::from_utf8(path).expect("a path of ours")]);
                "http://localhost".to_owned()
            }
            _ => format!("http://127.0.0.1:{}", relay.port()),
        };
        Self { arguments, base }
    }

    fn command(&self, path: &str) -> Command {
        let mut command = Command::new(program("curl"));
        command.args(&self.arguments).arg(format!("{}/{path}", self.base));
        command
    }

    /// All small files at once, `extra` arguments added; each must be the one that was asked for.
    fn get_all_small(&self, extra: &[&str]) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = self.command(&format!("small/[1-{SMALL}]"));
        command
            .args(["--parallel", "--parallel-max", "50", "--output"])
            .arg(folder.path().join("#1"))
            .args(extra);
        run(&mut command, None).expect("parallel downloads");
        for number in 1..=SMALL {
            let got = fs::read(folder.path().join(number.to_string())).expect("a file that was downloaded");
            assert!(got == small_file(number), "file {number} is another one");
        }
    }
}

/// Everything that a browser would do, and more of it.
fn browse(nginx: &Nginx, relay: Relay) {
    let curl = Curl::to(&relay);

    let got = nginx.folder.path().join("got");
    run(curl.command("large").arg("--output").arg(&got), None).expect("a download");
    assert_eq!(hash(&got), nginx.large);
    fs::remove_file(&got).expect("the download");
    relay.wait_for("closed", 1);
    let [closed] = relay.named("closed").try_into().expect("one connection");
    assert!(closed["bytes_out"].as_u64().is_some_and(|bytes| bytes > LARGE as u64), "{closed}");

    // One connection after another, and many at once.
    curl.get_all_small(&["--header", "Connection: close"]);
    relay.wait_for("closed", 1 + SMALL);
    // Connections that are kept and used again.
    curl.get_all_small(&[]);

    let before = relay.named("accepted").len();
    let mut command = curl.command("small/[1-9]");
    let said = run(command.args(["--output", "/dev/null", "--write-out", "%{num_connects} "]), None)
        .expect("downloads");
    assert_eq!(String::from_utf8_lossy(&said), "1 0 0 0 0 0 0 0 0 ");
    relay.wait_for("accepted", before + 1);

    let sent = noise_file(nginx.folder.path(), "sent", UPLOAD, 2);
    run(curl.command("upload/it").arg("--upload-file").arg(&sent), None).expect("an upload");
    assert_eq!(hash(&nginx.file("upload/it")), hash(&sent));
    fs::remove_file(nginx.file("upload/it")).expect("the upload");
    fs::remove_file(&sent).expect("the file that was uploaded");

    let accepted = relay.named("accepted").len();
    let events = relay.stop();
    let count = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    assert_eq!((count("accepted"), count("connected"), count("closed")), (accepted, accepted, accepted));
    assert_eq!(count("error"), 0, "{:?}", events.iter().find(|event| event["event"] == "error"));
    assert_eq!((count("draining"), count("stopped")), (1, 1));
    let sum: u64 = events.iter().filter_map(|event| event["bytes_in"].as_u64()).sum();
    assert!(sum > UPLOAD as u64, "{sum} bytes came in");
}

/// What stands before and behind the relay.
#[derive(Clone, Copy)]
enum Route {
    TcpToTcp,
    UnixToTcp,
    TcpToUnix,
    TcpToSocksToTcp,
}

fn browse_by(by: By, route: Route) {
    need!("nginx", "curl", "sha256sum");
    if matches!(route, Route::TcpToSocksToTcp) {
        need!("microsocks");
    }
    let nginx = Nginx::start();
    for plugins in Plugins::BOTH {
        let mut proxy = None;
        let socket = nginx.folder.path().join(format!("relay {plugins:?}"));
        let (mut server, mut client) = ("tcp:0:interface=127.0.0.1".to_owned(), nginx.over_tcp());
        match route {
            Route::TcpToTcp => {}
            Route::UnixToTcp => server = format!("unix:{}", socket.display()),
            Route::TcpToUnix => client = nginx.over_unix(),
            Route::TcpToSocksToTcp => {
                let mut command = Command::new(program("microsocks"));
                let mut peer = Peer::start(command.args(["-i", "127.0.0.1", "-p", "0"]), nginx.folder.path());
                let inner =
                    Description::builder("tcp").positional("127.0.0.1").positional(peer.port().to_string());
                let wrapped = Description::builder("socks5")
                    .keyword("host", "127.0.0.1")
                    .keyword("port", nginx.port.to_string())
                    .keyword("proxy", inner.build().into_text());
                client = wrapped.build().to_string();
                proxy = Some(peer);
            }
        }
        browse(&nginx, Relay::start(by, plugins, &server, &client));
        assert!(!socket.exists(), "the relay leaves its socket behind");
        drop(proxy);
    }
}

/// The same tests of the relay by the library, and by the command.
macro_rules! browse {
    ($($library:ident $command:ident $route:ident,)*) => {
        $(
            #[test]
            fn $library() {
                browse_by(By::Library, Route::$route);
            }

            #[test]
            fn $command() {
                browse_by(By::Command, Route::$route);
            }
        )*
    };
}

browse! {
    library_tcp_to_tcp command_tcp_to_tcp TcpToTcp,
    library_unix_to_tcp command_unix_to_tcp UnixToTcp,
    library_tcp_to_unix command_tcp_to_unix TcpToUnix,
    library_tcp_to_socks_to_tcp command_tcp_to_socks_to_tcp TcpToSocksToTcp,
}

fn goes_on_after_a_restart(by: By) {
    need!("nginx", "curl", "sha256sum");
    let mut nginx = Nginx::start();
    let relay = Relay::start(by, Plugins::BuiltIn, "tcp:0:interface=127.0.0.1", &nginx.over_tcp());
    let curl = Curl::to(&relay);
    let get = || run(&mut curl.command("small/7"), None);
    assert_eq!(get().expect("a download"), small_file(7));
    assert_eq!(relay.named("error").len(), 0);

    // One more is under way when its server is killed.
    let mut slow = curl.command("large");
    let folder = tempfile::tempdir().expect("a folder");
    let mut slow = Peer::start(slow.args(["--limit-rate", "1M", "--output", "/dev/null"]), folder.path());
    relay.wait_for("connected", 2);
    nginx.process.kill();
    assert!(!slow.ended().success(), "curl takes a part for the whole");

    for failed in 1..=3 {
        get().expect_err("nobody serves");
        relay.wait_for("closed", 2 + failed);
    }
    let refused =
        relay.named("error").into_iter().filter(|event| event["error"]["kind"] == "connection-refused");
    assert_eq!(refused.map(|event| event["id"].as_u64()).collect::<Vec<_>>(), [Some(3), Some(4), Some(5)]);

    nginx.restart();
    assert_eq!(get().expect("a download"), small_file(7));
    relay.stop();
}

#[test]
fn library_goes_on_after_a_restart() {
    goes_on_after_a_restart(By::Library);
}

#[test]
fn command_goes_on_after_a_restart() {
    goes_on_after_a_restart(By::Command);
}
