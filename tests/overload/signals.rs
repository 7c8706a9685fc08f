//! Stopping under load, and a signal that would end the process.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::{Service, endpoints, tcp};
use crate::load::{ANY, alone, answers, assert_median_below, describe, echo};

const MUCH: usize = 32 << 20;

/// Sends much, and reads as much that comes back.
fn bulk(stream: TcpStream) -> usize {
    let mut to = stream.try_clone().expect("a descriptor");
    let sending = thread::spawn(move || {
        let block = vec![7; 1 << 20];
        (0..MUCH >> 20).try_for_each(|_| to.write_all(&block)).expect("it is taken");
        to.shutdown(Shutdown::Write).expect("half");
    });
    let mut from = stream;
    let came = std::io::copy(&mut from, &mut std::io::sink()).expect("all of it");
    sending.join().expect("all of it");
    usize::try_from(came).expect("a number")
}

#[test]
fn what_moves_when_it_is_told_to_stop_comes_to_its_end() {
    let _alone = alone();
    let mut service = Service::start(["forward", ANY, &echo()]);
    let streams: Vec<_> = (0..10).map(|_| service.tcp()).collect();
    let mut answered: Vec<_> = streams.into_iter().collect();
    assert!(answered.iter_mut().all(answers));
    let moving: Vec<_> = answered.into_iter().map(|stream| thread::spawn(|| bulk(stream))).collect();
    service.signal(Signal::TERM);
    while TcpStream::connect(("127.0.0.1", service.port())).is_ok() {
        thread::sleep(Duration::from_millis(5));
    }
    for moving in moving {
        assert_eq!(moving.join().expect("it ends"), MUCH);
    }
    assert_eq!(service.wait(), Some(0));
}

#[test]
fn a_second_signal_ends_it_also_while_much_is_stuck() {
    let _alone = alone();
    assert_median_below(Duration::from_secs(1), || vec![until_a_second_signal_ends_it()]);
}

fn until_a_second_signal_ends_it() -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut service = Service::start(["forward", ANY, &describe(&listener)]);
    let mut near = service.tcp();
    let (mut far, _) = listener.accept().expect("the relay connects");
    near.set_write_timeout(Some(Duration::from_millis(300))).expect("a limit");
    let reading = thread::spawn(move || {
        far.read_exact(&mut vec![0; 1 << 20]).expect("bytes");
        far
    });
    while near.write(&vec![7; 1 << 20]).is_ok() {}
    let _far = reading.join().expect("bytes");
    service.signal(Signal::TERM);
    thread::sleep(Duration::from_millis(300));
    assert_eq!(service.child.try_wait().expect("a child"), None, "it waits for what is open");
    let begun = Instant::now();
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), Some(128 + 15));
    begun.elapsed()
}

/// A process that has not asked to be spared SIGPIPE is not ended by a peer that is gone: splice(2) would raise it.
#[test]
fn a_peer_that_is_gone_does_not_end_the_process() {
    let _alone = alone();
    let folder = TempDir::new().expect("a folder");
    let (source, library) = (folder.path().join("unspared.c"), folder.path().join("unspared.so"));
    // By this, programs in Rust ask for it when they begin.
    std::fs::write(&source, "void *signal(int number, void *handler) { return 0; }\n")
        .expect("it is written");
    let mut cc = Command::new("cc");
    let built = cc.args(["-w", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    assert!(built.expect("a C compiler").success());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut command = endpoints(["forward", ANY, &describe(&listener)]);
    let service = Service::started(command.env("LD_PRELOAD", &library).spawn().expect("it starts"));
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.child.id())).expect("it runs");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).expect("the signals");
    assert_eq!(u64::from_str_radix(ignored, 16).expect("a number") & 1 << 12, 0, "it ignores SIGPIPE");
    for _ in 0..5 {
        let mut near = service.tcp();
        let (mut far, _) = listener.accept().expect("the relay connects");
        let block = vec![7; 1 << 20];
        let mut sending = near.try_clone().expect("a descriptor");
        let reading = thread::spawn(move || far.read_exact(&mut vec![0; 4 << 20]).expect("bytes"));
        (0..4).for_each(|_| sending.write_all(&block).expect("it is taken"));
        // It has read everything and so ends its sending as it goes: only a peer that had ended raises SIGPIPE.
        reading.join().expect("bytes");
        assert_eq!(near.read(&mut [0]).expect("its end"), 0);
        // Until it hears of it, or all was thrown away.
        let _ = (0..16).try_for_each(|_| near.write_all(&block));
    }
    let mut near = tcp(service.port());
    let (mut far, _) = listener.accept().expect("it goes on");
    near.write_all(b"ping").expect("it reads");
    far.read_exact(&mut [0; 4]).expect("it serves");
    drop((near, far));
    service.stop();
}
