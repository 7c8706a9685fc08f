//! What the plugins leave behind, and what the whole process feels: bodies in processes of their own.

use std::env;
use std::fs;
use std::future::Future;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use endpoints::{Connection, ErrorKind};
use endpoints_tests::c::compiler;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{FullBacklog, assert_kind, exchange, in_time, port};
use crate::world::{FLAGS, World};

/// Names the test that a process is for.
const ALONE: &str = "ENDPOINTS_TEST_ALONE";

/// Whether this process is that of the test; else makes one, and waits until it has succeeded.
fn alone(test: &str) -> bool {
    if env::var_os(ALONE).is_some_and(|name| name == test) {
        return true;
    }
    let mut child = Command::new(env::current_exe().expect("this test"));
    child.args(["--exact", &format!("alone::{test}"), "--nocapture"]).env(ALONE, test);
    let output = child.output().expect("the child");
    let words = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && words.contains("1 passed"), "{words}");
    false
}

/// How many descriptors and threads there are.
fn count() -> (usize, usize) {
    let of = |folder: &str| fs::read_dir(folder).expect(folder).count();
    (of("/proc/self/fd"), of("/proc/self/task"))
}

/// Waits until there are no more than so many.
async fn settled(before: (usize, usize), what: &str) {
    let begun = Instant::now();
    loop {
        let now = count();
        if now.0 <= before.0 && now.1 <= before.1 {
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{what}: {before:?} descriptors and threads, now {now:?}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Polls a future so often, and drops it. What it came to, if it ended.
async fn polled<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = Box::pin(future);
    for _ in 0..times {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        {
            return Some(output);
        }
        // The reactor must see what has happened.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    None
}

/// Clients whose connecting stops at some point, and what a peer does meanwhile.
async fn connect_given_up(world: &World, client: &str, times: usize) -> bool {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    let port = listener.local_addr().expect("an address").port();
    let peer = std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().ok()?;
        // In two parts, so that there is a point between them.
        peer.write_all(b"cxo1sa").ok()?;
        std::thread::sleep(Duration::from_millis(2));
        peer.write_all(b"ltsalt").ok()
    });
    let client = world.registry.client(client.replace("PORT", &port.to_string())).expect(client);
    let done =
        polled(client.connect(), times).await.map(|connected| connected.expect("it connects")).is_some();
    // Where nobody has come, somebody must.
    drop(TcpStream::connect((Ipv4Addr::LOCALHOST, port)));
    peer.join().expect("the peer");
    done
}

#[tokio::test]
async fn giving_up_leaves_nothing_behind() {
    if !alone("giving_up_leaves_nothing_behind") {
        return;
    }
    let world = World::new();
    for client in [
        "ctcp:127.0.0.1:PORT",
        "ctcp:127.0.0.1:PORT:stream=host",
        r"cxor:k:tcp\:127.0.0.1\:PORT",
        r"cxor:k:ctcp\:127.0.0.1\:PORT",
    ] {
        let mut before = None;
        let ended: Vec<bool> = {
            let mut ended = Vec::new();
            for times in (0..12).chain([100]) {
                ended.push(in_time(connect_given_up(&world, client, times)).await);
                // The first round has loaded the plugins.
                settled(*before.get_or_insert_with(count), client).await;
            }
            ended
        };
        // Within one machine the host's own sockets are connected when they are looked at first.
        let at_once = client.ends_with("stream=host");
        assert!(
            !ended[0] && ended[1] == at_once && ended[12],
            "{client}: {ended:?}: it is given up before its end, and not always"
        );
    }
    let before = count();
    {
        let full = FullBacklog::new();
        let with_backlog = count();
        for client in [full.client(""), format!("ctcp:127.0.0.1:{}:stream=host", full.address.port())] {
            let client = client.replace("tcp:", "ctcp:").replace("cctcp", "ctcp");
            for times in 0..4 {
                assert!(polled(world.try_connect(&client), times).await.is_none(), "the backlog is full");
                assert!(
                    polled(world.try_connect(&format!(r"cxor:k:{}", endpoints::quote_str(&client))), times)
                        .await
                        .is_none()
                );
            }
            settled(with_backlog, &client).await;
        }
    }
    settled(before, "a full backlog").await;
    for server in ["ctcp:127.0.0.1:0", r"cxor:k:ctcp\:127.0.0.1\:0", r"cxor:k:tcp\:0\:interface\=127.0.0.1"] {
        for times in 0..8 {
            let listening = world.registry.server(server).expect(server);
            if polled(listening.listen(), times.min(1)).await.is_some() {
                let listener = listening.listen().await.expect("it listens again");
                drop(polled(listener.accept(), times).await);
                let mut peer = TcpStream::connect((Ipv4Addr::LOCALHOST, port(&listener))).expect("connect");
                let incoming = in_time(listener.accept()).await.expect("accept");
                peer.write_all(&b"cxo1saltsalt"[..times + 2]).expect("write");
                let done = polled(async { incoming.await }, times).await;
                assert_eq!(
                    done.is_some(),
                    times > 0 && server.starts_with("ctcp"),
                    "{server}: the handshake is open"
                );
            }
            settled(before, server).await;
        }
    }
}

#[tokio::test]
async fn errors_leave_nothing_behind() {
    if !alone("errors_leave_nothing_behind") {
        return;
    }
    let world = World::new();
    let closed = crate::support::closed_port();
    let mut before = None;
    for _ in 0..20 {
        for client in
            ["ctcp:127.0.0.1:PORT", "ctcp:127.0.0.1:PORT:stream=host", r"cxor:k:ctcp\:127.0.0.1\:PORT"]
        {
            let error = world.try_connect(&client.replace("PORT", &closed.to_string())).await;
            assert_kind(&error.expect_err("nobody listens"), ErrorKind::ConnectionRefused);
        }
        let listener = world.listen(r"cxor:k:ctcp\:127.0.0.1\:0").await;
        let peer = TcpStream::connect((Ipv4Addr::LOCALHOST, port(&listener))).expect("connect");
        let incoming = listener.accept().await.expect("accept");
        drop(peer);
        assert_kind(&incoming.await.expect_err("it ended"), ErrorKind::HandshakeFailed);
        drop(listener);
        settled(*before.get_or_insert_with(count), "errors").await;
    }
}

#[tokio::test]
async fn many_connections_leave_nothing_behind() {
    if !alone("many_connections_leave_nothing_behind") {
        return;
    }
    let world = World::new();
    let mut before = None;
    for round in 0..30 {
        let listener = world.listen(r"cxor:k:ctcp\:127.0.0.1\:0").await;
        let (mut one, mut other) = world.pair(&listener).await;
        exchange(&mut one, &mut other).await;
        // In any order.
        match round % 3 {
            0 => drop((one, other, listener)),
            1 => drop((listener, other, one)),
            _ => drop((other, one, listener)),
        }
        settled(*before.get_or_insert_with(count), "connections").await;
    }
}

/// What cannot be accepted for lack of descriptors is accepted later.
#[tokio::test]
async fn a_lack_of_descriptors_passes() {
    if !alone("a_lack_of_descriptors_passes") {
        return;
    }
    let world = World::new();
    for server in ["ctcp:127.0.0.1:0", "ctcp:127.0.0.1:0:stream=host", r"cxor:k:ctcp\:127.0.0.1\:0"] {
        let listener = world.listen(server).await;
        let mut peer = TcpStream::connect((Ipv4Addr::LOCALHOST, port(&listener))).expect("connect");
        peer.write_all(b"cxo1saltsalt").expect("write");
        let limits = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(3), maximum: limits.maximum }).expect("a limit");
        let accepted = in_time(listener.accept()).await;
        setrlimit(Resource::Nofile, limits).expect("no such limit");
        assert_kind(
            &accepted.map(drop).expect_err("there is no descriptor left"),
            ErrorKind::ResourceExhausted,
        );
        let incoming = in_time(listener.accept()).await.expect("now there is");
        let mut connection: Connection = in_time(async { incoming.await }).await.expect("a connection");
        connection.write_all(b"here").await.expect("write");
        drop(peer);
        let _ = connection.read(&mut [0]).await;
    }
}

/// All of the traffic, with the plugins built to find wrong uses of memory, leaks of it, and undefined behaviour.
#[test]
#[ignore = "builds the plugins anew for two sanitizers; `tests/run --full` does it"]
fn sanitizers_find_nothing() {
    let runtime = |name: &str| {
        let path = compiler().arg(format!("-print-file-name={name}")).output().expect("a compiler").stdout;
        String::from_utf8(path).expect("UTF-8").trim().to_owned()
    };
    let (asan, ubsan) = (runtime("libasan.so"), runtime("libubsan.so"));
    let preload = format!("{asan}:{ubsan}");
    let run = |arguments: &[&str], flags: &str| {
        let mut child = Command::new(env::current_exe().expect("this test"));
        child.args(arguments).args(["--test-threads=2"]).env(FLAGS, flags).env("LD_PRELOAD", &preload);
        child.env("ASAN_OPTIONS", "exitcode=99:detect_leaks=1:detect_stack_use_after_return=1");
        child.env("UBSAN_OPTIONS", "print_stacktrace=1");
        let output = child.output().expect("the child");
        (output.status, String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let flags = "-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all";
    // Not those that run other programs, which would be looked at too.
    let skipped = ["--skip", "optimised", "--skip", "sanitizers", "--skip", "plugins_in_rust"];
    let parts = [&["transport::", "wrapper::", "streams::", "alone::"][..], &skipped].concat();
    let (status, words) = run(&parts, flags);
    assert!(status.success(), "{status}\n{words}");
    assert!(!words.contains("AddressSanitizer") && !words.contains("runtime error"), "{words}");
    assert!(words.contains("wrapper::the_protocol_is_as_described ... ok"), "{words}");
}
