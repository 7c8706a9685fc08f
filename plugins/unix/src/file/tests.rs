use super::*;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;

use rustix::fs::{Gid, Uid};
use tempfile::TempDir;

fn socket() -> OwnedFd {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap()
}

fn bind(path: &Path, mode: u32) -> Result<(OwnedFd, SocketFile), Error> {
    let socket = socket();
    let path = SocketPath::new("address", path).unwrap();
    let file = SocketFile::bind(
        &socket,
        &path,
        &path.absolute().unwrap(),
        Mode::from_raw_mode(mode),
        Ids::default(),
    )?;
    Ok((socket, file))
}

fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn modes_are_never_looser_and_exact_in_the_end_under_any_umask() {
    // The umask belongs to the whole process, so this test runs itself in one of its own for each.
    const UMASK: &str = "ENDPOINTS_TEST_UMASK";
    if let Ok(umask) = std::env::var(UMASK) {
        return modes_under(u32::from_str_radix(&umask, 8).unwrap());
    }
    for umask in ["0", "022", "077", "0777"] {
        let name = "file::tests::modes_are_never_looser_and_exact_in_the_end_under_any_umask";
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(UMASK, umask)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "umask {umask}: {said}");
    }
}

fn modes_under(umask: u32) {
    let directory = TempDir::new().unwrap();
    rustix::process::umask(Mode::from_raw_mode(umask));
    for mode in [0, 0o600, 0o620, 0o660, 0o666, 0o700, 0o777, 0o1777] {
        let path = directory.path().join(format!("{mode:o}"));
        let socket = socket();
        let address = SocketPath::new("address", &path).unwrap();
        let mode = Mode::from_raw_mode(mode);
        let file = SocketFile::bind_restricted(&socket, &address, &path, mode).unwrap();
        assert_eq!(mode_of(&path), mode.bits() & !umask, "right after bind, umask {umask:o}, mode {mode:?}");
        file.widen(mode).unwrap();
        assert_eq!(mode_of(&path), mode.bits(), "umask {umask:o}");
    }
}

#[test]
fn a_file_is_given_away_with_its_mode_or_not_made() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("s");
    let address = SocketPath::new("address", &path).unwrap();
    let owner = Ids { user: Some(Uid::from_raw(4711)), group: Some(Gid::from_raw(4712)) };
    let socket = socket();
    let bound = SocketFile::bind(&socket, &address, &path, Mode::from_raw_mode(0o640), owner);
    if rustix::process::geteuid().is_root() {
        let file = bound.unwrap();
        let metadata = fs::symlink_metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.gid(), mode_of(&path)), (4711, 4712, 0o640));
        drop(file);
    } else {
        let error = bound.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.message().contains("user 4711 and group 4712"), "{error}");
    }
    assert!(!path.exists());
}

#[test]
fn the_mode_is_not_set_on_what_took_the_place_of_the_socket() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("s");
    let secret = directory.path().join("secret");
    fs::write(&secret, "").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();

    let (_socket, file) = bind(&path, 0o600).unwrap();
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&secret, &path).unwrap();
    drop(file.widen(Mode::from_raw_mode(0o666)));
    assert_eq!(mode_of(&secret), 0o600);
}

#[test]
fn a_bound_file_is_removed_once_and_only_if_it_is_the_same() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("s");

    let (socket, mut file) = bind(&path, 0o666).unwrap();
    drop(socket);
    file.remove().unwrap();
    assert!(!path.exists());
    let _other = UnixListener::bind(&path).unwrap();
    file.remove().unwrap();
    drop(file);
    assert!(path.exists(), "what another bound later was removed");
    fs::remove_file(&path).unwrap();

    let (socket, mut file) = bind(&path, 0o666).unwrap();
    fs::remove_file(&path).unwrap();
    drop(socket);
    // Without the pin, its inode could well be the one that was freed a moment ago.
    let _other = UnixListener::bind(&path).unwrap();
    file.remove().unwrap();
    assert!(path.exists(), "the socket of another was removed");
}

#[test]
fn a_file_that_is_gone_does_not_disturb_stopping() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("s");
    let (_socket, mut file) = bind(&path, 0o666).unwrap();
    fs::remove_file(&path).unwrap();
    file.remove().unwrap();
}

#[test]
fn a_relative_path_is_cleaned_up_from_the_root() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("s");
    let socket = socket();
    // The working directory belongs to the whole process: a path that is bound and one that is cleaned up stand in for
    // it. Bound through a link to the directory, removed by its own name.
    let by = directory.path().join("by");
    std::os::unix::fs::symlink(directory.path(), &by).unwrap();
    let address = SocketPath::new("address", &by.join("s")).unwrap();
    let mut file =
        SocketFile::bind(&socket, &address, &path, Mode::from_raw_mode(0o666), Ids::default()).unwrap();
    fs::remove_file(&by).unwrap();
    file.remove().unwrap();
    assert!(!path.exists());
}

#[test]
fn removing_the_dead_spares_what_is_no_socket() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("s");
    let remove = |path: &Path| remove_dead(&SocketPath::new("address", path).unwrap(), path).unwrap();
    remove(&path);

    fs::write(&path, "precious").unwrap();
    remove(&path);
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    fs::remove_file(&path).unwrap();

    fs::create_dir(&path).unwrap();
    remove(&path);
    assert!(path.is_dir());
    fs::remove_dir(&path).unwrap();

    // A link to a socket is no socket.
    let real = directory.path().join("real");
    drop(UnixListener::bind(&real).unwrap());
    std::os::unix::fs::symlink(&real, &path).unwrap();
    remove(&path);
    assert!(path.is_symlink());

    remove(&real);
    assert!(!real.exists());
}

#[test]
fn whoever_cannot_be_asked_is_no_dead_server() {
    if rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: root may connect everywhere");
        return;
    }
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("s");
    let _live = bind(&path, 0).unwrap();
    let error = remove_dead(&SocketPath::new("address", &path).unwrap(), &path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.message().contains("cannot tell"), "{error}");
    assert!(path.exists());
}

#[test]
fn a_taken_address_says_what_is_there() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("s");
    let refused = |expected: &str| {
        let error = bind(&path, 0o666).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddressInUse, "{error}");
        assert!(error.message().contains(expected), "{error}");
        assert!(error.message().contains(path.to_str().unwrap()), "{error}");
        error
    };

    let live = UnixListener::bind(&path).unwrap();
    live.set_nonblocking(true).unwrap();
    assert!(refused("another server listens there").is_retryable());
    assert!(live.accept().is_err(), "the live server was disturbed by a connection");
    drop(live);

    let error = refused("nobody answers");
    assert!(error.message().contains("remove the file") && error.message().contains("lockfile"), "{error}");
    assert!(!error.is_retryable());
    assert!(UnixStream::connect(&path).is_err());
    fs::remove_file(&path).unwrap();

    fs::write(&path, "precious").unwrap();
    refused("a regular file");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_missing_directory_is_not_found() {
    let directory = TempDir::new().unwrap();
    let error = bind(&directory.path().join("none/s"), 0o666).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("none"), "{error}");
}

#[test]
fn a_directory_that_may_not_be_written_is_permission_denied() {
    if rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: root may write everywhere");
        return;
    }
    let error = bind(Path::new("/usr/endpoints-test.sock"), 0o666).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
}
