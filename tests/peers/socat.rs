//! socat as client and as server: half-closing, both directions at once, and single bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use endpoints::Description;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::data::{MEGABYTE, hash, noise, noise_file};
use crate::harness::{Peer, need, program, run, wait_for};
use crate::ours::{EchoServer, Plugins, exchange, wait};
use crate::relay::{By, Relay};

/// What a socket is for socat.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Family {
    Tcp,
    Tcp6,
    Unix,
}

impl Family {
    const ALL: [Self; 3] = [Self::Tcp, Self::Tcp6, Self::Unix];

    /// Where we listen.
    fn server(self, folder: &Path) -> String {
        match self {
            Self::Tcp => "tcp:0:interface=127.0.0.1".to_owned(),
            Self::Tcp6 => "tcp6:0:interface=\\:\\:1".to_owned(),
            Self::Unix => format!("unix:{}", folder.join("ours").display()),
        }
    }
}

/// The patience of a socat that has seen one direction end with the other; by itself it is half a second.
const PATIENT: [&str; 2] = ["-t", "60"];

/// A socat that listens, and joins each connection to `other`, an address in its own language.
fn server(family: Family, other: &str, folder: &Path) -> (Peer, Description) {
    let socket = folder.join("theirs");
    let listen = match family {
        Family::Tcp => "TCP4-LISTEN:0,bind=127.0.0.1,fork".to_owned(),
        Family::Tcp6 => "TCP6-LISTEN:0,bind=[::1],fork".to_owned(),
        Family::Unix => format!("UNIX-LISTEN:{},fork,unlink-early", socket.display()),
    };
    let mut command = Command::new(program("socat"));
    command.args(PATIENT).arg(listen).arg(other).current_dir(folder);
    let mut peer = Peer::start(command.stdin(Stdio::null()), folder);
    let reachable = match family {
        Family::Tcp => {
            Description::builder("tcp").positional("127.0.0.1").positional(peer.port().to_string())
        }
        Family::Tcp6 => Description::builder("tcp").positional("::1").positional(peer.port().to_string()),
        Family::Unix => {
            peer.wait_for_socket(&socket);
            Description::builder("unix").positional(socket.display().to_string())
        }
    };
    (peer, reachable.build())
}

/// Runs a socat that connects by a client description of ours, sends a file and ends that direction: what it received.
fn send(reachable: &Description, extra: &[&str], file: &Path) -> Vec<u8> {
    let argument = |name: &str| {
        let value = reachable.keyword(name).expect("an argument").value().into_owned();
        String::from_utf8(value).expect("text")
    };
    let to = match reachable.scheme().as_ref() {
        b"unix" => format!("UNIX-CONNECT:{}", argument("path")),
        _ if argument("host").contains(':') => format!("TCP6:[{}]:{}", argument("host"), argument("port")),
        _ => format!("TCP4:{}:{}", argument("host"), argument("port")),
    };
    let mut command = Command::new(program("socat"));
    run(command.args(PATIENT).args(extra).args(["-", &to]), Some(file)).expect("socat")
}

fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("goodbye"), "goodbye\n").expect("a file");
    folder
}

#[test]
fn socat_connects_and_ends_its_direction_first() {
    need!("socat");
    let (folder, plugins) = (folder(), Plugins::BuiltIn.folder());
    let registry = Plugins::BuiltIn.registry(plugins.path());
    let file = noise_file(folder.path(), "file", 5 * MEGABYTE, 6);
    for family in Family::ALL {
        let server = EchoServer::start(&registry, &family.server(folder.path())).expect("a listener");
        let reachable = Description::parse(server.reachable[0].as_str()).expect("a description");
        assert!(
            send(&reachable, &[], &file) == fs::read(&file).expect("the file"),
            "{family:?}: other bytes came back"
        );
        server.stop();
    }
}

#[test]
fn we_connect_and_end_our_direction_first() {
    need!("socat");
    let (folder, plugins) = (folder(), Plugins::BuiltIn.folder());
    let registry = Plugins::BuiltIn.registry(plugins.path());
    for family in Family::ALL {
        let (_peer, reachable) = server(family, "SYSTEM:cat; echo goodbye", folder.path());
        let client = registry.client(reachable.into_text()).expect("a description");
        let sent = noise(5 * MEGABYTE, 7);
        let received = wait(async { exchange(client.connect().await.expect("a connection"), &sent).await });
        assert!(
            received.starts_with(&sent) && received.ends_with(b"goodbye\n"),
            "{family:?}: other bytes came back"
        );
    }
}

#[test]
fn socat_ends_its_direction_first_and_listens_on() {
    need!("socat", "sha256sum");
    for plugins in Plugins::BOTH {
        let (folder, plugin_folder) = (folder(), plugins.folder());
        let registry = plugins.registry(plugin_folder.path());
        let file = noise_file(folder.path(), "file", 2 * MEGABYTE, 8);
        for family in Family::ALL {
            let (_peer, reachable) = server(family, GOODBYE_FIRST, folder.path());
            let client = registry.client(reachable.into_text()).expect("a description");
            wait(async {
                let mut connection = client.connect().await.expect("a connection");
                let mut received = String::new();
                connection.read_to_string(&mut received).await.expect("receiving");
                assert_eq!(received, "goodbye\n");
                // Only now, and longer than what buffers would swallow.
                connection.write_all(&fs::read(&file).expect("the file")).await.expect("sending");
                connection.shutdown().await.expect("ending our direction too");
            });
            assert_eq!(hash_received(folder.path(), 2 * MEGABYTE), hash(&file), "{family:?}");
        }
    }
}

/// Ends its own direction after a word, and keeps what comes.
const GOODBYE_FIRST: &str = "OPEN:goodbye,rdonly!!OPEN:received,creat,trunc,wronly";

/// The hash of what socat has received, as soon as all of it is there.
fn hash_received(folder: &Path, length: usize) -> String {
    let path = folder.join("received");
    let all = || fs::metadata(&path).is_ok_and(|metadata| metadata.len() >= length as u64).then_some(());
    assert!(wait_for(all).is_some(), "only {:?} came", fs::metadata(&path));
    let found = hash(&path);
    fs::remove_file(path).expect("the file");
    found
}

/// From where to where relays are tested.
const ROUTES: [(Family, Family); 3] =
    [(Family::Tcp, Family::Tcp6), (Family::Tcp6, Family::Unix), (Family::Unix, Family::Tcp)];

/// Starts a relay in front of a socat that joins connections to `other`.
fn relay(by: By, plugins: Plugins, route: (Family, Family), other: &str, folder: &Path) -> (Peer, Relay) {
    let (peer, behind) = server(route.1, other, folder);
    (peer, Relay::start(by, plugins, &route.0.server(folder), &behind.to_string()))
}

/// Stops a relay that had one connection, on which so many bytes went each way.
fn stop(relay: Relay, came: usize, went: usize) {
    relay.wait_for("closed", 1);
    let events = relay.stop();
    let closed: Vec<_> = events.iter().filter(|event| event["event"] == "closed").collect();
    let [closed] = closed.as_slice() else { panic!("not one connection: {events:?}") };
    assert_eq!(
        (closed["bytes_in"].as_u64(), closed["bytes_out"].as_u64()),
        (Some(came as u64), Some(went as u64))
    );
    assert!(events.iter().all(|event| event["event"] != "error"), "{events:?}");
}

fn relays_both_directions_at_once(by: By) {
    need!("socat", "sha256sum");
    const LENGTH: usize = 50 * MEGABYTE;
    let folder = folder();
    let forth = noise_file(folder.path(), "forth", LENGTH, 9);
    let back = noise_file(folder.path(), "back", LENGTH, 10);
    let received: PathBuf = folder.path().join("received.back");
    for (route, plugins) in ROUTES.into_iter().zip([Plugins::BuiltIn, Plugins::Loaded, Plugins::BuiltIn]) {
        let other = "OPEN:back,rdonly!!OPEN:received,creat,trunc,wronly";
        let (_peer, relay) = relay(by, plugins, route, other, folder.path());
        fs::write(&received, send(&relay.reachable, &[], &forth)).expect("a file");
        assert_eq!(hash(&received), hash(&back), "{route:?}");
        assert_eq!(hash_received(folder.path(), LENGTH), hash(&forth), "{route:?}");
        stop(relay, LENGTH, LENGTH);
    }
}

fn relays_half_closing(by: By) {
    need!("socat", "sha256sum");
    let folder = folder();
    let file = noise_file(folder.path(), "file", 2 * MEGABYTE, 11);
    for route in ROUTES {
        // The server's direction ends first.
        let (_peer, front) = relay(by, Plugins::BuiltIn, route, GOODBYE_FIRST, folder.path());
        let client = endpoints::client(front.reachable.to_string()).expect("a description");
        wait(async {
            let mut connection = client.connect().await.expect("a connection");
            let mut received = String::new();
            connection.read_to_string(&mut received).await.expect("receiving");
            assert_eq!(received, "goodbye\n");
            connection.write_all(&fs::read(&file).expect("the file")).await.expect("sending");
            connection.shutdown().await.expect("ending our direction too");
        });
        assert_eq!(hash_received(folder.path(), 2 * MEGABYTE), hash(&file), "{route:?}");
        stop(front, 2 * MEGABYTE, "goodbye\n".len());

        // The client's direction ends first: only then is there an answer.
        let (_peer, front) = relay(by, Plugins::BuiltIn, route, "SYSTEM:sha256sum", folder.path());
        let said = send(&front.reachable, &[], &file);
        assert_eq!(
            String::from_utf8_lossy(&said).split_whitespace().next(),
            Some(hash(&file).as_str()),
            "{route:?}"
        );
        stop(front, 2 * MEGABYTE, said.len());
    }
}

fn relays_single_bytes(by: By) {
    need!("socat");
    const LENGTH: usize = 20_000;
    let folder = folder();
    let file = noise_file(folder.path(), "file", LENGTH, 12);
    for route in ROUTES {
        let (_peer, relay) = relay(by, Plugins::BuiltIn, route, "SYSTEM:cat", folder.path());
        let received = send(&relay.reachable, &["-b", "1"], &file);
        assert!(received == fs::read(&file).expect("the file"), "{route:?}: other bytes came back");
        stop(relay, LENGTH, LENGTH);
    }
}

/// The same tests of the relay by the library, and by the command.
macro_rules! by_both {
    ($($library:ident $command:ident $test:ident,)*) => {
        $(
            #[test]
            fn $library() {
                $test(By::Library);
            }

            #[test]
            fn $command() {
                $test(By::Command);
            }
        )*
    };
}

by_both! {
    library_relays_both_directions_at_once command_relays_both_directions_at_once relays_both_directions_at_once,
    library_relays_half_closing command_relays_half_closing relays_half_closing,
    library_relays_single_bytes command_relays_single_bytes relays_single_bytes,
}
