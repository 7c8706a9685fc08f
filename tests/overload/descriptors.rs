//! As many connections as there are descriptors for, and more.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Service, tcp};
use crate::load::{ANY, alone, answers, describe, echo, served_after, with_descriptors};
use crate::process::{Process, wait_until};

const DESCRIPTORS: usize = 64;

/// Connections until no more are served.
fn fill(service: &Service) -> Vec<TcpStream> {
    let mut open = Vec::new();
    loop {
        let mut stream = tcp(service.port());
        if !answers(&mut stream) {
            return open;
        }
        open.push(stream);
    }
}

fn lines(service: &Service) -> usize {
    service.stderr.try_iter().count()
}

#[test]
fn what_is_open_is_served_while_there_are_no_more_and_others_when_there_are() {
    let _alone = alone();
    let service = with_descriptors(DESCRIPTORS, &["forward", ANY, &echo()]);
    let process = Process::of(&service);
    let mut open = fill(&service);
    assert!(open.len() > 15, "{}", open.len());
    // Those that come now hear of it; one after the other, so that nothing else can be what it is busy with.
    let refused = (0..20).filter(|_| !answers(&mut tcp(service.port()))).count();
    assert!(refused > 15, "{refused}");
    // The pauses between attempts grow to a second.
    let waiting: Vec<_> = (0..20).map(|_| tcp(service.port())).collect();
    thread::sleep(Duration::from_secs(2));
    lines(&service);
    let load = process.load(Duration::from_secs(4));
    let told = lines(&service);
    assert!(load < 0.05, "{load}");
    assert!(told <= 5, "{told} lines in four seconds");
    assert!(open.iter_mut().all(answers), "those that are open are served");
    drop(waiting);
    open.truncate(10);
    let after = served_after(service.port());
    assert!(after < Duration::from_secs(2), "{after:?}");
    assert!(open.iter_mut().all(answers), "those that are open are served");
    drop(open);
    service.stop();
}

/// Where no pipe can be made, and where there are as many as there may be, bytes are copied.
#[test]
fn much_is_relayed_also_where_there_are_no_pipes() {
    let _alone = alone();
    for (descriptors, connections) in [(DESCRIPTORS, 20), (1000, 150)] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let service =
            with_descriptors(descriptors, &["forward", ANY, &describe(&listener), "--workers", "2"]);
        let process = Process::of(&service);
        let idle = process.descriptors();
        let near: Vec<_> = (0..connections).map(|_| tcp(service.port())).collect();
        let far: Vec<_> = near.iter().map(|_| listener.accept().expect("the relay connects").0).collect();
        let fillers = fill_up(&process, descriptors, &service);
        let block: Vec<u8> = (0..1_u32 << 20).map(|place| (place % 251) as u8).collect();
        let writers: Vec<_> = near
            .into_iter()
            .map(|mut near| {
                let block = block.clone();
                thread::spawn(move || {
                    // They are stuck in the midst of it for a while.
                    (0..16).for_each(|_| near.write_all(&block).expect("it is taken"));
                    near.shutdown(std::net::Shutdown::Write).expect("half");
                    near
                })
            })
            .collect();
        for mut far in &far {
            let mut begin = vec![0; 1 << 20];
            far.read_exact(&mut begin).expect("what comes first");
            assert!(begin == block);
        }
        thread::sleep(Duration::from_millis(300));
        let pipes = process.pipes();
        assert!(if descriptors < 1000 { pipes < 8 } else { (100..=128).contains(&pipes) }, "{pipes}");
        let readers: Vec<_> = far
            .into_iter()
            .map(|mut far| {
                let block = block.clone();
                thread::spawn(move || {
                    let mut came = vec![0; 1 << 20];
                    for _ in 1..16 {
                        far.read_exact(&mut came).expect("bytes");
                        assert!(came == block);
                    }
                    assert_eq!(far.read(&mut came).expect("the end"), 0);
                    far
                })
            })
            .collect();
        let open: Vec<_> = readers.into_iter().map(|reader| reader.join().expect("all of it")).collect();
        let near: Vec<_> = writers.into_iter().map(|writer| writer.join().expect("all of it")).collect();
        // None is held for what is open still, but for those that are kept for the next ones.
        assert!(process.pipes() <= 2 * 8, "{}", process.pipes());
        // With those that wait to be accepted.
        drop((near, open, fillers, listener));
        wait_until("they are closed", || process.descriptors() <= idle + 2 * 2 * 8);
        service.stop();
    }
}

/// Takes the descriptors that are left, by connections that say nothing, where they are few.
fn fill_up(process: &Process, descriptors: usize, service: &Service) -> Vec<TcpStream> {
    let begun = Instant::now();
    let mut fillers = Vec::new();
    while descriptors < 1000 && process.descriptors() + 2 < descriptors && begun.elapsed().as_secs() < 5 {
        fillers.push(tcp(service.port()));
        thread::sleep(Duration::from_millis(20));
    }
    fillers
}
