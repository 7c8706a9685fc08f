//! As many connections as there are descriptors for, and more.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::harness::{Service, port, tcp};
use crate::load::{ANY, alone, answers, describe, echo, with_descriptors};
use crate::process::{Process, wait_until};

const DESCRIPTORS: usize = 64;

/// A connection that has said for whom it is.
fn proxied(port: u16) -> TcpStream {
    let mut stream = tcp(port);
    // Who is refused may see a reset already.
    let _ = stream.write_all(b"PROXY UNKNOWN\r\n");
    stream
}

/// Connections until no more are served.
fn fill(service: &Service) -> Vec<TcpStream> {
    let port = service_port(service);
    std::iter::repeat_with(|| proxied(port))
        .map_while(|mut stream| answers(&mut stream).then_some(stream))
        .collect()
}

/// Connections that say nothing, and so take one descriptor each, until one is closed.
fn fill_up(service: &Service) -> Vec<TcpStream> {
    let port = service_port(service);
    let silent = || {
        let stream = tcp(port);
        stream.set_read_timeout(Some(Duration::from_millis(500))).expect("a limit");
        stream
    };
    let is_open = |mut stream: &TcpStream| {
        stream.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    };
    // Where the reserve is lost none is closed.
    std::iter::repeat_with(silent).take(DESCRIPTORS).take_while(is_open).collect()
}

fn service_port(service: &Service) -> u16 {
    port(&service.description.replace('\\', ""))
}

/// A client that comes again whenever it is refused, and counts that.
fn come_again(port: u16, stop: &Arc<AtomicBool>) -> JoinHandle<usize> {
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let mut refused = 0;
        while !stop.load(Ordering::SeqCst) {
            refused += usize::from(!answers(&mut proxied(port)));
            thread::sleep(Duration::from_millis(1));
        }
        refused
    })
}

/// How often it has told since it was asked last that it cannot accept.
fn pauses(service: &Service) -> usize {
    service.stderr.try_iter().filter(|line| line.contains("accepting pauses")).count()
}

#[test]
fn what_is_open_is_served_while_there_are_no_more_and_others_when_there_are() {
    let _alone = alone();
    // All together tell it as seldom as one.
    ["1", "3"].into_iter().for_each(serves_while_there_are_no_more);
}

fn serves_while_there_are_no_more(workers: &str) {
    let server = format!("haproxy:endpoint={}:timeout=3600", endpoints::quote_str(ANY));
    let arguments = ["forward", &server, &echo(), "--handshake-timeout", "3600", "--workers", workers];
    let service = with_descriptors(DESCRIPTORS, &arguments);
    let process = Process::of(&service);
    let port = service_port(&service);
    let mut open = fill(&service);
    assert!(open.len() > 15, "{}", open.len());
    let silent = fill_up(&service);
    // The pauses between attempts grow to a second, however many come again and again.
    let stop = Arc::new(AtomicBool::new(false));
    let coming: Vec<_> = (0..10).map(|_| come_again(port, &stop)).collect();
    thread::sleep(Duration::from_secs(2));
    pauses(&service);
    let load = process.load(Duration::from_secs(4));
    let pauses = pauses(&service);
    assert!(open.iter_mut().all(answers), "those that are open are served");
    stop.store(true, Ordering::SeqCst);
    let refused: usize = coming.into_iter().map(|coming| coming.join().expect("it is not stuck")).sum();
    assert!(refused >= 10, "{refused}");
    assert!(load < 0.05, "{load}");
    assert!(pauses <= 5, "{pauses} times in four seconds");
    open.truncate(10);
    let begun = Instant::now();
    while !answers(&mut proxied(port)) {
        assert!(begun.elapsed() < Duration::from_secs(2), "it does not recover");
        thread::sleep(Duration::from_millis(10));
    }
    assert!(open.iter_mut().all(answers), "those that are open are served");
    drop((open, silent));
    service.stop();
}

/// When there are none left is when they are asked for most.
#[test]
fn statistics_are_told_while_there_are_no_more() {
    let _alone = alone();
    let server = format!("haproxy:endpoint={}:timeout=3600", endpoints::quote_str(ANY));
    let arguments =
        ["forward", &server, &echo(), "--handshake-timeout", "3600", "--workers", "2", "--stats", ANY];
    let service = with_descriptors(DESCRIPTORS, &arguments);
    let told = service.stderr_line();
    let statistics = port(told.strip_prefix("statistics on ").expect("where they are"));
    let process = Process::of(&service);
    let open = fill(&service);
    let mut silent = Vec::new();
    while process.descriptors() < DESCRIPTORS && silent.len() < DESCRIPTORS {
        silent.push(tcp(service_port(&service)));
        thread::sleep(Duration::from_millis(20));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let coming: Vec<_> = (0..4).map(|_| come_again(service_port(&service), &stop)).collect();
    let begun = Instant::now();
    for _ in 0..20 {
        let mut reader = tcp(statistics);
        reader.write_all(b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n").expect("it is taken");
        let mut answer = String::new();
        let read = reader.read_to_string(&mut answer);
        assert!(answer.starts_with("HTTP/1.1 200"), "{read:?}: {answer}");
        let short = answer.lines().find(|line| line.contains("kind=\"resource-exhausted\""));
        assert!(short.is_some_and(|line| !line.ends_with(" 0")), "{answer}");
    }
    // One after another has the descriptor; none waits out a pause.
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    stop.store(true, Ordering::SeqCst);
    drop((open, silent));
    coming.into_iter().for_each(|coming| _ = coming.join().expect("it is not stuck"));
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
        let idle = settled(&process);
        let near: Vec<_> = (0..connections).map(|_| tcp(service.port())).collect();
        let far: Vec<_> = near.iter().map(|_| listener.accept().expect("the relay connects").0).collect();
        let fillers = take_the_rest(&process, descriptors, &service);
        let block: Vec<u8> = (0..1_u32 << 20).map(|place| (place % 251) as u8).collect();
        let writers: Vec<_> = near
            .into_iter()
            .map(|mut near| {
                let block = block.clone();
                thread::spawn(move || {
                    // They are stuck in the midst of it for a while.
                    (0..16).for_each(|_| near.write_all(&block).expect("it is taken"));
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
                    far
                })
            })
            .collect();
        let open: Vec<_> = readers.into_iter().map(|reader| reader.join().expect("all of it")).collect();
        let near: Vec<_> = writers.into_iter().map(|writer| writer.join().expect("all of it")).collect();
        // None is held for what is open still, but for those that are kept for the next ones.
        wait_until("pipes go back", || process.pipes() <= 2 * 8);
        near.iter().for_each(|near| near.shutdown(Shutdown::Write).expect("half"));
        open.iter().for_each(|mut far| assert_eq!(far.read(&mut [0]).expect("the end"), 0));
        // With those that wait to be accepted.
        drop((near, open, fillers, listener));
        wait_until("they are closed", || process.descriptors() <= idle + 2 * 2 * 8);
        service.stop();
    }
}

/// How many descriptors it has once that does not change: workers listen a moment later.
fn settled(process: &Process) -> usize {
    let mut before = 0;
    loop {
        let now = process.descriptors();
        if now == before {
            return now;
        }
        before = now;
        thread::sleep(Duration::from_millis(100));
    }
}

/// Takes the descriptors that are left, by connections that say nothing, where they are few.
fn take_the_rest(process: &Process, descriptors: usize, service: &Service) -> Vec<TcpStream> {
    let begun = Instant::now();
    let mut fillers = Vec::new();
    while descriptors < 1000 && process.descriptors() + 2 < descriptors && begun.elapsed().as_secs() < 5 {
        fillers.push(tcp(service.port()));
        thread::sleep(Duration::from_millis(20));
    }
    fillers
}
