//! What systemd is told.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::process::Signal;

use super::{ECHO, Folder};
use crate::harness::{LIMIT, Service, endpoints};

#[test]
fn systemd_may_have_a_socket_with_an_abstract_name() {
    let folder = Folder::new(ECHO);
    let name = folder.path().to_owned();
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let socket = UnixDatagram::bind_addr(&address).expect("a socket");
    socket.set_read_timeout(Some(LIMIT)).expect("a limit");
    let mut command = endpoints(["run", folder.file().to_str().expect("UTF-8")]);
    command.env("NOTIFY_SOCKET", format!("@{name}"));
    let service = Service::spawned(command.spawn().expect("it starts"));
    let mut buf = [0; 100];
    let count = socket.recv(&mut buf).expect("a message");
    assert_eq!(&buf[..count], b"READY=1\n");
    service.stop();
}

#[test]
fn systemd_is_told_which_services_a_reload_could_not_start() {
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
    let reload = |text: &str| {
        folder.write(text);
        service.signal(Signal::HUP);
        assert!(told().starts_with("RELOADING=1\n"));
        told()
    };
    assert_eq!(told(), "READY=1");
    // There is no such folder.
    let bad = |name: &str| {
        let socket = &name[..3];
        format!("[[service]]\nname = \"{name}\"\nlisten = \"unix:@/no/{socket}\"\necho = true\n")
    };
    let status = reload(&format!("{ECHO}{}", bad("bad")));
    let why = status.strip_prefix("STATUS=reloaded; failed: bad: ").expect(&status);
    let why = why.strip_suffix("\nREADY=1").expect(&status);
    assert!(why.contains("No such file") && !why.starts_with("bad"), "{status}");
    let status = reload(&format!("{ECHO}{}{}", bad("bad"), bad(&"worse".repeat(50))));
    assert!(
        status.starts_with("STATUS=reloaded; failed: bad: ") && status.ends_with("…\nREADY=1"),
        "{status}"
    );
    assert!(status.chars().count() <= "STATUS=\nREADY=1".len() + 200, "{status}");
    assert_eq!(reload(ECHO), "STATUS=reloaded\nREADY=1");
    assert_eq!(reload(ECHO), "READY=1");
    service.stop();
}
