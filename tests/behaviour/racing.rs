//! Names with several addresses, whose attempts race (RFC 8305).
//!
//! They need names of their own, so this test runs itself again where `/etc/hosts` and the name server are others: in a
//! mount and network namespace.

use std::env;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use endpoints::{Address, ErrorKind};

use crate::support::{FullBacklog, World, assert_kind, closed_port, exchange, in_a_namespace, in_time};

/// The name, and its addresses in order.
const NAMES: [(&str, &[&str]); 4] = [
    ("hangs-then-answers", &["127.0.0.2", "127.0.0.3"]),
    ("refuses-then-answers", &["127.0.0.4", "127.0.0.3"]),
    ("hangs-or-refuses", &["127.0.0.2", "127.0.0.4"]),
    ("families", &["::1", "127.0.0.3", "127.0.0.4"]),
];

/// A name server that does not answer.
const SILENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 5)), 53);

/// Set where the names are known.
const INSIDE: &str = "ENDPOINTS_TEST_RACING";

#[test]
fn addresses_race() {
    let folder = tempfile::tempdir().expect("a folder");
    let hosts = folder.path().join("hosts");
    let line = |(name, addresses): &(&str, &[&str])| -> String {
        addresses.iter().map(|address| format!("{address} {name}\n")).collect()
    };
    fs::write(&hosts, NAMES.iter().map(line).collect::<String>()).expect("a file of hosts");
    let resolver = folder.path().join("resolv.conf");
    // The name server takes questions and answers none; the resolver's thread goes on for so long.
    fs::write(&resolver, format!("nameserver {}\noptions timeout:1 attempts:1\n", SILENT.ip()))
        .expect("a file of name servers");
    // Nobody but that file and that server is asked.
    let switch = folder.path().join("nsswitch.conf");
    fs::write(&switch, "hosts: files dns\n").expect("a file");
    let script = r#"ip link set lo up && mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/resolv.conf &&
        mount --bind "$3" /etc/nsswitch.conf || exit 77
        shift 3; exec "$@""#;
    let mut command = Command::new("unshare");
    command
        .args(["--map-root-user", "--mount", "--net", "sh", "-c", script, "sh"])
        .args([&hosts, &resolver, &switch])
        .arg(env::current_exe().expect("this test"))
        .args(["--exact", "racing::inside", "--ignored", "--nocapture"])
        .env(INSIDE, "1");
    in_a_namespace("racing addresses", &mut command);
}

/// What runs where the names are known; nothing elsewhere.
#[test]
#[ignore = "run by addresses_race, in a namespace of its own"]
fn inside() {
    if env::var_os(INSIDE).is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for world in [World::built_in(), World::loaded()] {
        runtime.block_on(in_time(races(&world)));
    }
}

async fn races(world: &World) {
    // One port everywhere: 127.0.0.2 hangs, 127.0.0.3 answers, 127.0.0.4 and ::1 refuse.
    let hanging = FullBacklog::at(([127, 0, 0, 2], 0).into());
    let port = hanging.address.port();
    let listener = world.listen(&format!("tcp:{port}:interface=127.0.0.3")).await;
    let answering = Address::Ip(SocketAddr::from(([127, 0, 0, 3], port)));

    the_next_joins_an_attempt_that_hangs(world, &listener, &answering, port).await;
    the_next_follows_a_failure_at_once(world, &listener, port).await;
    every_address_is_in_the_error(world, port).await;
    giving_up_closes_all(world, port).await;
    time_for_resolving_counts(world).await;
}

async fn the_next_joins_an_attempt_that_hangs(
    world: &World,
    listener: &endpoints::Listener,
    answering: &Address,
    port: u16,
) {
    let before = sockets();
    let client = format!("tcp:hangs-then-answers:{port}:attemptDelay=50ms");
    let connecting = world.connect(&client);
    let accepting = async { listener.accept().await.expect("accept").await.expect("no handshake") };
    let (mut client, mut server) = tokio::join!(connecting, accepting);
    assert_eq!(client.info().peer_addr().as_ref(), Some(answering));
    exchange(&mut client, &mut server).await;
    assert_eq!(sockets(), before + 2, "the attempt that lost is closed");

    // Unless told otherwise, a quarter of a second after it (RFC 8305, section 8).
    let begun = Instant::now();
    let client = format!("tcp:hangs-then-answers:{port}");
    let accepting = async { listener.accept().await.expect("accept").await.expect("no handshake") };
    tokio::join!(world.connect(&client), accepting);
    assert!(begun.elapsed() >= Duration::from_millis(250));
}

async fn the_next_follows_a_failure_at_once(world: &World, listener: &endpoints::Listener, port: u16) {
    // Nobody waits an hour, so it was the failure that started the next one. The second has three addresses.
    for name in ["refuses-then-answers", "families"] {
        let client = format!("tcp:{name}:{port}:attemptDelay=1h");
        let connecting = world.connect(&client);
        let accepting = async { listener.accept().await.expect("accept").await.expect("no handshake") };
        tokio::join!(connecting, accepting);
    }
}

async fn every_address_is_in_the_error(world: &World, port: u16) {
    let error = world.connect_error(&format!("tcp:families:{}", closed_port())).await;
    assert_kind(&error, ErrorKind::ConnectionRefused);
    for address in ["[::1]", "127.0.0.3", "127.0.0.4"] {
        assert!(error.message().contains(&format!("{address}:")), "{error}");
    }
    assert_eq!(error.message().matches("Connection refused").count(), 3, "{error}");

    let begun = Instant::now();
    let client = format!("tcp:hangs-or-refuses:{port}:attemptDelay=50ms:timeout=300ms");
    let error = world.connect_error(&client).await;
    assert_kind(&error, ErrorKind::TimedOut);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let expected = format!("127.0.0.2:{port}: no answer yet; 127.0.0.4:{port}: Connection refused");
    assert!(error.message().ends_with(&expected), "{error}");
}

async fn giving_up_closes_all(world: &World, port: u16) {
    let before = sockets();
    let client =
        world.registry.client(format!("tcp:hangs-or-refuses:{port}:attemptDelay=10ms")).expect("a client");
    let given_up = tokio::time::timeout(Duration::from_millis(100), client.connect()).await;
    assert!(given_up.is_err(), "it hangs");
    assert_eq!(sockets(), before);
}

async fn time_for_resolving_counts(world: &World) {
    let server = UdpSocket::bind(SILENT).expect("the port of a name server");
    let error = world.connect_error("tcp:name.test:80:timeout=100ms").await;
    assert_kind(&error, ErrorKind::TimedOut);
    assert!(error.message().contains("name.test"), "{error}");
    // It was asked.
    server.set_nonblocking(true).expect("an option");
    server.recv_from(&mut [0; 512]).expect("a question");
}

/// How many sockets this process has open, but for those of UDP: a look-up that nobody waits for any more goes on asking for
/// seconds, on a thread of its own.
fn sockets() -> usize {
    let udp: Vec<String> = ["udp", "udp6"]
        .map(|kind| fs::read_to_string(format!("/proc/self/net/{kind}")))
        .into_iter()
        .flatten()
        .collect();
    let is_udp = |inode: &str| udp.iter().any(|table| table.split_whitespace().any(|word| word == inode));
    let descriptors = fs::read_dir("/proc/self/fd").expect("the list of descriptors");
    let links = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    let inode = |link: PathBuf| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned());
    links.filter_map(inode).filter(|inode| !is_udp(inode)).count()
}
