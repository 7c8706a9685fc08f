//! Backends that are down, or slow to accept, and connections on which nothing moves.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::harness::{Service, tcp};
use crate::load::{ANY, alone, assert_median_below, assert_precise, describe, ended};
use crate::process::Process;
use crate::support::{FullBacklog, closed_port};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn clients_of_a_backend_that_is_down_are_told_at_once() {
    let _alone = alone();
    let service = Service::start(["forward", ANY, &format!("tcp:127.0.0.1:{}", closed_port())]);
    let one = || {
        let begun = Instant::now();
        ended(&tcp(service.port()), begun)
    };
    assert_median_below(SECOND / 10, || (0..50).map(|_| one()).collect());
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
    assert_precise(SECOND, || {
        let begun = Instant::now();
        let clients: Vec<_> = (0..20).map(|_| tcp(service.port())).collect();
        let load = Process::of(&service).load(SECOND / 2);
        assert!(load < 0.2, "{load}");
        clients.iter().map(|client| ended(client, begun)).collect()
    });
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
        let one = || {
            let mut near = service.tcp();
            near.set_write_timeout(Some(SECOND / 4)).expect("a limit");
            let (far, _) = listener.accept().expect("the relay connects");
            let block = vec![0; 1 << 20];
            // The last byte moves after this, and before what is measured begins.
            let mut before = Instant::now();
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
                for part in block.repeat(sent.div_ceil(block.len()))[..sent].chunks(block.len()) {
                    before = Instant::now();
                    near.write_all(part).expect("it is taken");
                }
                reading.join().expect("all comes")
            };
            let time = ended(&near, begun);
            drop(far);
            assert!(before.elapsed() > SECOND - SECOND / 10, "it ends early: {:?}", before.elapsed());
            time
        };
        assert_median_below(SECOND + SECOND / 10, || (0..3).map(|_| one()).collect());
    }
    service.stop();
}
