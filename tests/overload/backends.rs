//! Backends that are down, or slow to accept, and connections on which nothing moves.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::harness::{Service, tcp};
use crate::load::{ANY, alone, assert_precise, describe, ended, median};
use crate::process::Process;
use crate::support::{FullBacklog, closed_port};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn clients_of_a_backend_that_is_down_are_told_at_once() {
    let _alone = alone();
    let service = Service::start(["forward", ANY, &format!("tcp:127.0.0.1:{}", closed_port())]);
    let times = (0..50).map(|_| {
        let begun = Instant::now();
        ended(&tcp(service.port()), begun)
    });
    let times: Vec<_> = times.collect();
    assert!(median(times.clone()) < SECOND / 10, "{times:?}");
    // Nobody asks any more, and so nothing is tried any more.
    let load = Process::of(&service).load(2 * SECOND);
    assert!(load < 0.05, "{load}");
    service.stop();
}

#[test]
fn a_backend_that_does_not_accept_has_its_time_and_no_more() {
    let _alone = alone();
    let full = FullBacklog::new();
    let service = Service::start(["forward", ANY, &full.client(""), "--connect-timeout", "1"]);
    let begun = Instant::now();
    let clients: Vec<_> = (0..20).map(|_| tcp(service.port())).collect();
    let load = Process::of(&service).load(SECOND / 2);
    let times = clients.iter().map(|client| ended(client, begun)).collect();
    assert_precise(times, SECOND);
    assert!(load < 0.2, "{load}");
    service.stop();
}

/// After a few bytes, after many, and while the other side takes nothing: when the last byte moved then is not known here,
/// only that it was no later than the last one that was taken.
#[test]
fn idle_connections_have_their_time_and_no_more() {
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let service = Service::start(["forward", ANY, &describe(&listener), "--idle-timeout", "1"]);
    for sent in [5, 4 << 20, usize::MAX] {
        let mut times = Vec::new();
        for _ in 0..3 {
            let mut near = service.tcp();
            near.set_write_timeout(Some(SECOND / 4)).expect("a limit");
            let (far, _) = listener.accept().expect("the relay connects");
            let block = vec![0; 1 << 20];
            let begun = if sent == usize::MAX {
                // Until nothing goes any more.
                let mut last = Instant::now();
                while near.write(&block).is_ok() {
                    last = Instant::now();
                }
                last
            } else {
                let mut far = far.try_clone().expect("a descriptor");
                let reading = std::thread::spawn(move || {
                    let mut block = vec![0; 1 << 20];
                    let mut left = sent;
                    while left > 0 {
                        left -= far.read(&mut block).expect("bytes");
                    }
                    Instant::now()
                });
                near.write_all(&block[..sent.min(block.len())]).expect("it is taken");
                for _ in 1..sent.div_ceil(block.len()) {
                    near.write_all(&block).expect("it is taken");
                }
                reading.join().expect("all comes")
            };
            times.push(ended(&near, begun));
            drop(far);
        }
        if sent == usize::MAX {
            assert!(median(times.clone()) < SECOND + SECOND / 10, "{times:?}");
        } else {
            assert_precise(times, SECOND);
        }
    }
    service.stop();
}
