//! Limits on connections, with many more clients than that.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::harness::{Service, tcp};
use crate::load::{ANY, alone, answers, describe, served_after};

const CLIENTS: usize = 100;

/// A backend that answers slowly; gives its description, and how many have been there at a time.
fn slow() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let description = describe(&listener);
    let most = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&most);
    thread::spawn(move || {
        let now = Arc::new(AtomicUsize::new(0));
        while let Ok((mut stream, _)) = listener.accept() {
            let now = Arc::clone(&now);
            seen.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::spawn(move || {
                let mut bytes = [0; 4];
                let _ = stream.read_exact(&mut bytes);
                thread::sleep(Duration::from_millis(20));
                now.fetch_sub(1, Ordering::SeqCst);
                let _ = stream.write_all(&bytes);
            });
        }
    });
    (description, most)
}

/// How many of many clients that come at the same time are served.
fn served(service: &Service) -> usize {
    let port = service.port();
    let clients: Vec<_> = (0..CLIENTS).map(|_| thread::spawn(move || answers(&mut tcp(port)))).collect();
    clients.into_iter().map(|client| usize::from(client.join().expect("a client"))).sum()
}

#[test]
fn all_have_their_turn_where_they_wait() {
    let _alone = alone();
    let (backend, most) = slow();
    let service = Service::start(["forward", ANY, &backend, "--max-connections", "5"]);
    assert_eq!(served(&service), CLIENTS);
    assert_eq!(most.load(Ordering::SeqCst), 5);
    service.stop();
}

#[test]
fn those_beyond_the_limit_hear_of_it_where_they_do_not_wait() {
    let _alone = alone();
    let (backend, most) = slow();
    let limits = ["--max-connections", "5", "--when-full", "refuse"];
    let service = Service::start(["forward", ANY, &backend].iter().chain(&limits));
    let served = served(&service);
    assert!((5..CLIENTS).contains(&served), "{served}");
    assert_eq!(most.load(Ordering::SeqCst), 5);
    assert!(served_after(service.port()) < Duration::from_secs(2));
    service.stop();
}
