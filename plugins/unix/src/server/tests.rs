use super::*;
use endpoints_plugin_api::ErrorKind;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

fn listen(path: &Path, lockfile: bool) -> Result<(OwnedFd, SocketFile, Option<Lock>), Error> {
    let address = SocketPath::new("address", path)?;
    let lock = lockfile.then(|| Lock::try_take(&lock::beside(path), &|| Ok(false))).transpose()?.flatten();
    let (socket, file) = open(&address, path, Mode::from_raw_mode(0o660), Ids::default(), 5, lock.as_ref())?;
    Ok((socket, file, lock))
}

/// What a server leaves that is killed: the socket and, if it had one, the lock.
fn left_by_killed(path: &Path) {
    drop(UnixListener::bind(path).unwrap());
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    symlink(child.id().to_string(), lock::beside(path)).unwrap();
}

fn there(path: &Path) -> (bool, bool) {
    (fs::symlink_metadata(path).is_ok(), fs::symlink_metadata(lock::beside(path)).is_ok())
}

#[test]
fn listening_takes_connections_and_stopping_leaves_nothing() {
    let directory = TempDir::new().unwrap();
    let path: PathBuf = directory.path().join(OsStr::from_bytes(b"\xff s"));
    let (socket, file, lock) = listen(&path, true).unwrap();
    assert_eq!(there(&path), (true, true));
    UnixStream::connect(&path).unwrap();
    let (_peer, _address) = UnixListener::from(socket).accept().unwrap();
    drop((file, lock));
    assert_eq!(there(&path), (false, false));
}

#[test]
fn without_lockfile_there_is_no_lock() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("s");
    let _listening = listen(&path, false).unwrap();
    assert_eq!(there(&path), (true, false));
}

#[test]
fn what_a_killed_server_left_is_replaced() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("s");
    left_by_killed(&path);
    let (_socket, _file, lock) = listen(&path, true).unwrap();
    assert!(lock.unwrap().is_recovered());
    UnixStream::connect(&path).unwrap();
}

#[test]
fn a_live_server_without_a_lock_outlives_a_stale_lock() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("s");
    left_by_killed(&path);
    fs::remove_file(&path).unwrap();
    let (live, _file, _) = listen(&path, false).unwrap();
    let live = UnixListener::from(live);

    let error = listen(&path, true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddressInUse, "{error}");
    assert!(error.message().contains("a server without a lock answers there"), "{error}");
    assert_eq!(there(&path), (true, false), "the socket stays, the lock is given back");
    assert!(live.accept().is_err(), "the live server was disturbed by a connection");
    UnixStream::connect(&path).unwrap();
    live.accept().unwrap();
}

#[test]
fn a_socket_without_a_lock_is_not_removed() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("s");
    drop(UnixListener::bind(&path).unwrap());
    for lockfile in [true, false] {
        assert_eq!(listen(&path, lockfile).unwrap_err().kind(), ErrorKind::AddressInUse);
        assert_eq!(there(&path), (true, false), "the lock is given back after a failed bind");
    }
}

#[test]
fn a_stale_lock_does_not_allow_to_remove_a_file_that_is_no_socket() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("s");
    left_by_killed(&path);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    assert_eq!(listen(&path, true).unwrap_err().kind(), ErrorKind::AddressInUse);
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    assert_eq!(there(&path), (true, false));
}

#[test]
fn without_lockfile_a_stale_lock_is_left_alone() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("s");
    left_by_killed(&path);
    assert_eq!(listen(&path, false).unwrap_err().kind(), ErrorKind::AddressInUse);
    assert_eq!(there(&path), (true, true));
}

#[test]
fn a_second_server_is_refused_and_the_first_stays_reachable() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("s");
    let _first = listen(&path, true).unwrap();
    for lockfile in [true, false] {
        assert_eq!(listen(&path, lockfile).unwrap_err().kind(), ErrorKind::AddressInUse);
        assert_eq!(there(&path), (true, true));
        UnixStream::connect(&path).unwrap();
    }
}
