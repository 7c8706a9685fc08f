//! How many connections wait to be accepted.

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::{Service, endpoints};
use crate::relay::{ANY, backend, ping};

/// As after a moment in which nothing could be accepted: who finds no place waits for a second at least.
#[test]
fn hundreds_of_clients_may_come_at_once() {
    let backend = backend();
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("services.toml");
    let services = format!(
        "[[service]]\nname = \"a\"\nlisten = {ANY:?}\nforward = {:?}\nmax-connections = 1\n",
        backend.description
    );
    std::fs::write(&file, services).expect("a file");
    for command in [
        &["forward", ANY, &backend.description, "--max-connections", "1"][..],
        &["listen", "--echo", ANY, "--max-connections", "1"],
        &["run", file.to_str().expect("text")],
    ] {
        let child = endpoints(command).spawn().expect("it starts");
        let mut service = Service::spawned(child);
        let line = service.stderr_line();
        service.description = line.rsplit("listening on ").next().expect("a description").to_owned();
        let mut first = service.tcp();
        ping(&mut first);
        let begun = Instant::now();
        let waiting: Vec<TcpStream> = (0..300).map(|_| service.tcp()).collect();
        assert!(begun.elapsed() < Duration::from_millis(900), "{command:?}: {:?}", begun.elapsed());
        drop((waiting, first));
    }
}

#[test]
fn sockets_that_were_handed_over_let_as_many_wait_as_before() {
    let backend = backend();
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    rustix::net::listen(&socket, 3).expect("it listens");
    let address = socket.local_addr().expect("its address");
    let mut forward = endpoints(["forward", "fd:0", &backend.description, "--max-connections", "1"]);
    let service = Service::started(forward.stdin(OwnedFd::from(socket)).spawn().expect("it starts"));
    let mut first = service.tcp();
    ping(&mut first);
    let place = || TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok();
    let waiting: Vec<_> = std::iter::from_fn(place).take(10).collect();
    assert_eq!(waiting.len(), 4, "the kernel lets one more wait");
}
