use super::*;
use std::cell::RefCell;
use std::fs;
use std::future::ready;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::pin::pin;
use std::process::Command;
use std::task::{Context, Poll, Waker};

use tempfile::TempDir;

/// Connects; sleeping blocks, so the future never waits for anything else. Gives the sleeps as well.
fn try_connect(path: &Path, timeout: Duration, each: impl Fn()) -> (Result<OwnedFd, Error>, Vec<Duration>) {
    let target = Target::File { path: SocketPath::new("path", path).unwrap(), check_pid: false };
    let sleeps = RefCell::new(Vec::new());
    let sleep = |time| {
        sleeps.borrow_mut().push(time);
        each();
        std::thread::sleep(time);
        ready(())
    };
    let polled = {
        let future = pin!(connect(&target, timeout, sleep));
        future.poll(&mut Context::from_waker(Waker::noop()))
    };
    let Poll::Ready(result) = polled else { panic!("waits for nothing but its sleeps") };
    (result, sleeps.into_inner())
}

fn refusal(path: &Path) -> Error {
    let error = try_connect(path, Duration::from_secs(5), || ()).0.unwrap_err();
    assert!(error.message().contains(path.to_str().unwrap()), "{error}");
    error
}

/// A listener whose backlog is full, and the connections that fill it.
fn full(path: &Path) -> (UnixListener, Vec<OwnedFd>) {
    let listener = UnixListener::bind(path).unwrap();
    rustix::net::listen(&listener, 1).unwrap();
    let mut waiting = Vec::new();
    while let (Ok(socket), _) = try_connect(path, Duration::ZERO, || ()) {
        waiting.push(socket);
    }
    (listener, waiting)
}

#[test]
fn connects_at_once_even_without_any_time() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("s");
    let _listener = UnixListener::bind(&path).unwrap();
    let (result, sleeps) = try_connect(&path, Duration::ZERO, || ());
    assert!(result.is_ok() && sleeps.is_empty());
}

#[test]
fn each_refusal_has_its_kind_and_says_why() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("s");
    assert_eq!(refusal(&path).kind(), ErrorKind::NotFound);

    drop(UnixListener::bind(&path).unwrap());
    let error = refusal(&path);
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(error.message().starts_with("nobody listens on"), "{error}");
    fs::remove_file(&path).unwrap();

    fs::write(&path, "").unwrap();
    assert!(refusal(&path).message().contains("a regular file is there"));
    fs::remove_file(&path).unwrap();

    let _datagrams = UnixDatagram::bind(&path).unwrap();
    assert!(refusal(&path).message().contains("no stream socket"));
}

#[test]
fn a_full_backlog_is_waited_for_until_the_time_is_over() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("s");
    let _full = full(&path);
    let begun = Instant::now();
    let (result, sleeps) = try_connect(&path, Duration::from_millis(200), || ());
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.message().contains("backlog is full"), "{error}");
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert_eq!(sleeps[..7].iter().map(Duration::as_millis).collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 50]);
}

#[test]
fn a_place_in_the_backlog_is_taken_when_there_is_one() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("s");
    let (listener, _waiting) = full(&path);
    let (result, sleeps) = try_connect(&path, Duration::from_secs(60), || drop(listener.accept().unwrap()));
    result.unwrap();
    assert_eq!(sleeps.len(), 1);
}

#[test]
fn checking_the_lock_asks_for_a_live_holder_and_removes_nothing() {
    let directory = TempDir::new().unwrap();
    let path = SocketPath::new("path", &directory.path().join("s")).unwrap();
    let link = lock::beside(path.as_given());
    let refused = |expected: &str| {
        let error = check_lock(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(error.message().contains(expected), "{error}");
    };
    refused("there is no lock");

    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    symlink(child.id().to_string(), &link).unwrap();
    refused("is gone");
    assert!(link.is_symlink(), "a stale lock is the server's to remove");
    fs::remove_file(&link).unwrap();

    fs::write(&link, "").unwrap();
    refused("is no lock");
    assert!(link.is_file());
    fs::remove_file(&link).unwrap();

    symlink(std::process::id().to_string(), &link).unwrap();
    check_lock(&path).unwrap();
}
