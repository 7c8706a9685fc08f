//! Unix sockets: their files, and the lock that they share with other programs.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use endpoints::{Address, Connection, ErrorKind};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use tempfile::TempDir;

use crate::support::{
    World, around, assert_kind, both_forms, dead_process, exchange, is_root, reachable, skip,
};

both_forms!(
    both_ends_know_their_addresses,
    the_mode_holds_at_once,
    files_go_when_listening_ends,
    a_live_lock_is_respected,
    a_stale_lock_is_taken_over,
    without_a_lock_nothing_is_removed,
    what_is_no_lock_is_left_alone,
    a_failed_listen_leaves_nothing,
    another_files_place_is_not_taken,
    check_pid_only_looks,
    failures_are_told_apart,
    backlog_is_how_many_wait,
    permissions_keep_others_out,
    an_abstract_name_takes_the_place_of_a_path,
    an_abstract_name_goes_with_nothing_about_files,
    the_file_is_given_to_its_owner,
    who_does_not_exist_owns_nothing,
    peers_know_each_others_credentials,
);

/// A place for a socket.
struct Place {
    _folder: TempDir,
    socket: PathBuf,
    lock: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { socket: folder.path().join("s"), lock: folder.path().join("s.lock"), _folder: folder }
    }

    /// The description for either role.
    fn with(&self, more: &str) -> String {
        format!("unix:{}{more}", endpoints::quote_str(self.socket.to_str().expect("UTF-8")))
    }

    fn is_empty(&self) -> bool {
        !exists(&self.socket) && !exists(&self.lock)
    }
}

/// Whether something is there, also a link that leads nowhere.
fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn target(link: &Path) -> String {
    fs::read_link(link).expect("a link").to_str().expect("UTF-8").to_owned()
}

async fn both_ends_know_their_addresses(world: &World) {
    let place = Place::new();
    let listener = world.listen(&place.with("")).await;
    assert_eq!(listener.addresses(), [Address::UnixPath(place.socket.clone())]);
    assert_eq!(reachable(&listener), format!("unix:path={}", place.socket.display()));
    let (mut client, mut accepted) = world.pair(&listener).await;
    exchange(&mut client, &mut accepted).await;
    let (client, accepted) = (client.info(), accepted.info());
    assert_eq!((client.layers().len(), client.layers()[0].scheme()), (1, "unix"));
    assert_eq!(client.peer_addr(), Some(Address::UnixPath(place.socket.clone())));
    assert_eq!(client.local_addr(), Some(Address::UnixUnnamed));
    assert_eq!(accepted.local_addr(), Some(Address::UnixPath(place.socket.clone())));
    assert_eq!(accepted.peer_addr(), Some(Address::UnixUnnamed));
}

async fn the_mode_holds_at_once(world: &World) {
    for (argument, mode) in
        [("", 0o666), (":mode=600", 0o600), (":777", 0o777), (":mode=0o640", 0o640), (":0", 0)]
    {
        let place = Place::new();
        let _listener = world.listen(&place.with(argument)).await;
        let metadata = fs::symlink_metadata(&place.socket).expect("a file");
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.permissions().mode() & 0o7777, mode, "{argument}");
    }
}

async fn files_go_when_listening_ends(world: &World) {
    for wrapped in [false, true] {
        let place = Place::new();
        let server = if wrapped { around("pass", &place.with("")) } else { place.with("") };
        for closing in [true, false] {
            let listener = world.listen(&server).await;
            assert!(exists(&place.socket));
            assert_eq!(target(&place.lock), std::process::id().to_string());
            if closing {
                listener.close().await.expect("close");
            } else {
                drop(listener);
            }
            assert!(place.is_empty(), "wrapped: {wrapped}, closing: {closing}");
        }
        let unlocked = world.listen(&place.with(":lockfile=0")).await;
        assert!(exists(&place.socket) && !exists(&place.lock));
        unlocked.close().await.expect("close");
        assert!(place.is_empty());
    }
}

async fn a_live_lock_is_respected(world: &World) {
    let place = Place::new();
    let listener = world.listen(&place.with("")).await;
    let error = world.listen_error(&place.with("")).await;
    assert_kind(&error, ErrorKind::AddressInUse);
    assert!(error.message().contains(&std::process::id().to_string()), "{error}");
    let (mut client, mut accepted) = world.pair(&listener).await;
    exchange(&mut client, &mut accepted).await;
    drop(listener);

    // The first process of all always runs.
    symlink("1", &place.lock).expect("a lock");
    let error = world.listen_error(&place.with("")).await;
    assert_kind(&error, ErrorKind::AddressInUse);
    assert!(error.message().contains("process 1"), "{error}");
    assert_eq!(target(&place.lock), "1");
}

async fn a_stale_lock_is_taken_over(world: &World) {
    let place = Place::new();
    for with_socket in [true, false] {
        if with_socket {
            // Dropping it leaves the file, as a killed server does.
            drop(UnixListener::bind(&place.socket).expect("bind"));
        }
        symlink(dead_process().to_string(), &place.lock).expect("a lock");
        let listener = world.listen(&place.with("")).await;
        assert_eq!(target(&place.lock), std::process::id().to_string());
        let (mut client, mut accepted) = world.pair(&listener).await;
        exchange(&mut client, &mut accepted).await;
        listener.close().await.expect("close");
        assert!(place.is_empty());
    }
}

async fn without_a_lock_nothing_is_removed(world: &World) {
    let place = Place::new();
    drop(UnixListener::bind(&place.socket).expect("bind"));
    for server in [place.with(""), place.with(":lockfile=0")] {
        let error = world.listen_error(&server).await;
        assert_kind(&error, ErrorKind::AddressInUse);
        assert!(error.message().contains("remove"), "{error}");
        assert!(exists(&place.socket) && !exists(&place.lock));
    }
}

async fn what_is_no_lock_is_left_alone(world: &World) {
    for content in ["link", "file"] {
        let place = Place::new();
        match content {
            "link" => symlink("no-number", &place.lock).expect("a link"),
            _ => fs::write(&place.lock, "1").expect("a file"),
        }
        let error = world.listen_error(&place.with("")).await;
        assert_kind(&error, ErrorKind::AddressInUse);
        assert!(error.message().contains("s.lock") && !error.is_retryable(), "{error}");
        assert!(exists(&place.lock) && !exists(&place.socket));
    }
}

async fn a_failed_listen_leaves_nothing(world: &World) {
    let place = Place::new();
    fs::write(&place.socket, "mine").expect("a file");
    let error = world.listen_error(&place.with("")).await;
    assert_kind(&error, ErrorKind::AddressInUse);
    assert_eq!(fs::read(&place.socket).expect("the file"), b"mine");
    assert!(!exists(&place.lock));

    // A stale lock allows to remove a socket, and nothing else.
    symlink(dead_process().to_string(), &place.lock).expect("a lock");
    world.listen_error(&place.with("")).await;
    assert_eq!(fs::read(&place.socket).expect("the file"), b"mine");
}

async fn another_files_place_is_not_taken(world: &World) {
    let place = Place::new();
    let listener = world.listen(&place.with("")).await;
    fs::remove_file(&place.socket).expect("remove");
    fs::write(&place.socket, "another's").expect("a file");
    listener.close().await.expect("close");
    assert_eq!(fs::read(&place.socket).expect("the file"), b"another's");
    assert!(!exists(&place.lock));
}

async fn check_pid_only_looks(world: &World) {
    let place = Place::new();
    let listener = world.listen(&place.with("")).await;
    let client = world.registry.client(place.with(":checkPID=1")).expect("a client");
    client.connect().await.expect("the server lives");
    drop(listener);

    let _bare = UnixListener::bind(&place.socket).expect("bind");
    assert_kind(&client.connect().await.expect_err("no lock"), ErrorKind::ConnectionRefused);
    let dead = dead_process().to_string();
    symlink(&dead, &place.lock).expect("a lock");
    assert_kind(&client.connect().await.expect_err("a stale lock"), ErrorKind::ConnectionRefused);
    assert_eq!(target(&place.lock), dead, "looking changes nothing");
    world.connect(&place.with("")).await;
}

async fn failures_are_told_apart(world: &World) {
    let place = Place::new();
    let absent = world.connect_error(&place.with("")).await;
    assert_kind(&absent, ErrorKind::NotFound);
    assert!(absent.message().contains(place.socket.to_str().expect("UTF-8")), "{absent}");

    drop(UnixListener::bind(&place.socket).expect("bind"));
    // A child that another test has just forked keeps the listener open until it runs its program.
    let client = world.registry.client(place.with("")).expect("a client");
    let refused = loop {
        if let Err(error) = client.connect().await {
            break error;
        }
    };
    assert_kind(&refused, ErrorKind::ConnectionRefused);

    let nowhere = format!("unix:{}/no/s", place.socket.parent().expect("a folder").display());
    let error = world.listen_error(&nowhere).await;
    assert_kind(&error, ErrorKind::NotFound);
    assert!(error.message().contains("/no"), "{error}");

    let long = format!("unix:/{}", "x".repeat(108));
    let error = world.registry.client(long).expect_err("too long");
    assert_kind(&error, ErrorKind::InvalidArgument);
    assert_eq!(error.argument(), Some("path"));
}

async fn backlog_is_how_many_wait(world: &World) {
    for backlog in [0_usize, 3] {
        let place = Place::new();
        let _listener = world.listen(&place.with(&format!(":backlog={backlog}"))).await;
        let client = world.registry.client(place.with(":timeout=0")).expect("a client");
        let mut waiting = Vec::new();
        // Linux takes one more than it is told.
        for _ in 0..=backlog {
            waiting.push(client.connect().await.expect("there is room"));
        }
        let error = client.connect().await.expect_err("there is none");
        assert_kind(&error, ErrorKind::TimedOut);
        assert!(error.is_retryable());
    }
}

async fn permissions_keep_others_out(world: &World) {
    let _bound = Bound::new();
    let place = Place::new();
    let _listener = world.listen(&place.with(":mode=0")).await;
    assert_kind(&world.connect_error(&place.with("")).await, ErrorKind::PermissionDenied);
    let folder = place.socket.parent().expect("a folder").join("closed");
    fs::create_dir(&folder).expect("a folder");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o500)).expect("its mode");
    let error = world.listen_error(&format!("unix:{}/s", folder.display())).await;
    assert_kind(&error, ErrorKind::PermissionDenied);
}

/// Has the modes of files count for this thread, where it is root's, until it is dropped.
struct Bound(CapabilitySets);

impl Bound {
    fn new() -> Self {
        let before = capabilities(None).expect("what this thread may do");
        let mut bound = before;
        bound.effective.remove(CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH);
        set_capabilities(None, bound).expect("less than before");
        Self(before)
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        set_capabilities(None, self.0).expect("what was permitted before");
    }
}

/// A name that no other test has.
fn abstract_name(of: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("endpoints-test-{}-{of}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

async fn an_abstract_name_takes_the_place_of_a_path(world: &World) {
    let name = abstract_name("place");
    let description = format!("unix:abstract={name}");
    let absent = world.connect_error(&description).await;
    assert_kind(&absent, ErrorKind::ConnectionRefused);
    assert!(absent.message().contains(&format!("@{name}")), "{absent}");

    let listener = world.listen(&format!("{description}:backlog=0")).await;
    let address = Address::UnixAbstract(name.clone().into_bytes());
    assert_eq!(listener.addresses(), std::slice::from_ref(&address));
    assert_eq!(reachable(&listener), description);
    let taken = world.listen_error(&description).await;
    assert_kind(&taken, ErrorKind::AddressInUse);
    assert!(taken.message().contains(&format!("@{name}")), "{taken}");

    let (mut client, mut accepted) = world.pair(&listener).await;
    exchange(&mut client, &mut accepted).await;
    assert_eq!(client.info().peer_addr(), Some(address.clone()));
    assert_eq!(accepted.info().local_addr(), Some(address));
    let _waits = world.connect(&description).await;
    assert_kind(&world.connect_error(&format!("{description}:timeout=0")).await, ErrorKind::TimedOut);
    listener.close().await.expect("close");
    assert_kind(&world.connect_error(&description).await, ErrorKind::ConnectionRefused);
    assert!(!exists(Path::new(&name)) && !exists(Path::new(&format!("{name}.lock"))));

    // A name may be any bytes, a NUL in front too, and up to 107 of them.
    let odd = format!("unix:abstract=\0{}", abstract_name("odd"));
    let long = format!("unix:abstract={:x<107}", abstract_name("long"));
    for description in [odd, long] {
        let listener = world.listen(&description).await;
        let (mut client, mut accepted) = world.pair(&listener).await;
        exchange(&mut client, &mut accepted).await;
    }
    for name in [String::new(), "x".repeat(108)] {
        let description = format!("unix:abstract={name}");
        let errors = [
            world.registry.client(&*description).expect_err("no name"),
            world.registry.server(&*description).expect_err("no name"),
        ];
        for error in errors {
            assert_kind(&error, ErrorKind::InvalidArgument);
            assert_eq!(error.argument(), Some("abstract"));
            assert!(error.message().contains("107"), "{error}");
        }
    }
}

async fn an_abstract_name_goes_with_nothing_about_files(world: &World) {
    for (more, argument) in [
        (":/run/s", "abstract"),
        (":mode=600", "mode"),
        (":lockfile=0", "lockfile"),
        (":user=0", "user"),
        (":group=0", "group"),
    ] {
        let error = world.registry.server(format!("unix:abstract=a{more}")).expect_err(more);
        assert_kind(&error, ErrorKind::ConflictingArguments);
        assert!(error.message().contains(argument) && error.message().contains("abstract"), "{error}");
    }
    for more in [":/run/s", ":checkPID=1", ":lockfile=0"] {
        let error = world.registry.client(format!("unix:abstract=a{more}")).expect_err(more);
        assert_kind(&error, ErrorKind::ConflictingArguments);
    }
    assert_kind(&world.registry.client("unix").expect_err("nothing"), ErrorKind::MissingArgument);
    assert_kind(&world.registry.server("unix").expect_err("nothing"), ErrorKind::MissingArgument);
}

async fn the_file_is_given_to_its_owner(world: &World) {
    // What it is anyway, which nobody is kept from saying; the group by its name, where it is the usual one.
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let place = Place::new();
    let listener = world.listen(&place.with(&format!(":mode=660:user={}:group={}", own.0, own.1))).await;
    let metadata = fs::symlink_metadata(&place.socket).expect("a file");
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (own.0, own.1, 0o660));
    listener.close().await.expect("close");
    assert!(place.is_empty());

    if !is_root() {
        let error = world.listen_error(&place.with(":user=root")).await;
        assert_kind(&error, ErrorKind::PermissionDenied);
        assert!(place.is_empty());
        return skip("other owners of Unix sockets", "only root gives files away");
    }
    for (arguments, user, group) in [
        (":user=nobody", Some("nobody"), None),
        (":group=nogroup", None, Some("nogroup")),
        (":user=4711:group=4712", None, None),
    ] {
        let number = |table, name: Option<&str>| name.map(|name| account_number(table, name));
        let listener = world.listen(&place.with(&format!("{arguments}:mode=600"))).await;
        let metadata = fs::symlink_metadata(&place.socket).expect("a file");
        let expected = match arguments.contains("4711") {
            true => (4711, 4712),
            false => {
                (number("/etc/passwd", user).unwrap_or(own.0), number("/etc/group", group).unwrap_or(own.1))
            }
        };
        assert_eq!((metadata.uid(), metadata.gid()), expected, "{arguments}");
        assert_eq!(metadata.mode() & 0o7777, 0o600, "{arguments}");
        let (mut client, mut accepted) = world.pair(&listener).await;
        exchange(&mut client, &mut accepted).await;
        listener.close().await.expect("close");
        assert!(place.is_empty());
    }
}

/// The number that passwd(5) or group(5) has for a name.
fn account_number(table: &str, name: &str) -> u32 {
    let text = fs::read_to_string(table).expect(table);
    let line = text.lines().find(|line| line.split(':').next() == Some(name)).expect(name);
    line.split(':').nth(2).and_then(|number| number.parse().ok()).expect("a number")
}

async fn who_does_not_exist_owns_nothing(world: &World) {
    let place = Place::new();
    for argument in ["user", "group"] {
        let error = world.listen_error(&place.with(&format!(":{argument}=no-such-account"))).await;
        assert_kind(&error, ErrorKind::InvalidArgument);
        assert_eq!(error.argument(), Some(argument));
        assert!(error.message().contains("no-such-account") && !error.is_retryable(), "{error}");
        for wrong in ["", "4294967295"] {
            let error = world.registry.server(place.with(&format!(":{argument}={wrong}"))).expect_err(wrong);
            assert_eq!(error.argument(), Some(argument), "{error}");
        }
    }
    assert!(place.is_empty());
}

async fn peers_know_each_others_credentials(world: &World) {
    let own =
        (Some(std::process::id()), rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let credentials = |connection: &Connection| {
        let found = connection.info().peer_credentials().expect("credentials");
        (found.pid, found.uid, found.gid)
    };
    let place = Place::new();
    let name = format!("unix:abstract={}", abstract_name("credentials"));
    for server in [place.with(""), name.clone(), around("pass", &place.with(""))] {
        let listener = world.listen(&server).await;
        let (client, accepted) = world.pair(&listener).await;
        assert_eq!((credentials(&client), credentials(&accepted)), (own, own), "{server}");
        drop(client);
        assert_eq!(credentials(&accepted), own, "the peer is gone, and what is known of it stays");
    }

    // Another process, and where this is root another user.
    let listener = world.listen(&place.with("")).await;
    let mut command = std::process::Command::new("python3");
    let script = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.recv(1)";
    command.args(["-c", script]).arg(&place.socket);
    if is_root() {
        std::os::unix::process::CommandExt::uid(&mut command, 4711);
        std::os::unix::process::CommandExt::gid(&mut command, 4712);
        let folder = place.socket.parent().expect("a folder");
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("its mode");
    }
    let mut child = command.spawn().expect("python3");
    let accepted = listener.accept().await.expect("accept").await.expect("a connection");
    let expected = if is_root() { (Some(child.id()), 4711, 4712) } else { (Some(child.id()), own.1, own.2) };
    assert_eq!(credentials(&accepted), expected);
    drop(accepted);
    child.wait().expect("its end");

    let tcp = world.listen("tcp:0:interface=127.0.0.1").await;
    let (client, accepted) = world.pair(&tcp).await;
    assert_eq!((client.info().peer_credentials(), accepted.info().peer_credentials()), (None, None));
}
