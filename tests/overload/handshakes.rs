//! A thousand clients that do not get on with their handshakes are in nobody's way.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use endpoints::ClientEndpoint;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::harness::{LIMIT, Service, port, tcp};
use crate::load::{ANY, alone, echo, median};
use crate::support::{World, pki};

const MANY: usize = 1000;

/// How a client that gets on with it comes, and what one begins with that does not.
struct Front {
    server: String,
    client: fn(u16) -> String,
    first: &'static [u8],
    slow: &'static [u8],
}

#[test]
fn clients_that_say_nothing_or_little_make_nobody_wait() {
    let _alone = alone();
    let mut fronts = vec![Front {
        server: format!("haproxy:endpoint={}:timeout=3600", endpoints::quote_str(ANY)),
        client: |port| format!("tcp:127.0.0.1:{port}"),
        first: b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\n",
        slow: b"PROXY TCP4 192.0.2.1 192",
    }];
    if let Some(folder) = pki() {
        let certificate = folder.join("pki/server.pem");
        let certificate = endpoints::quote_str(certificate.to_str().expect("UTF-8")).into_owned();
        fronts.push(Front {
            server: format!("tls:certificate={certificate}:port=0:interface=127.0.0.1"),
            client: |port| {
                let trust = pki().expect("looked above").join("pki/trust");
                let trust = endpoints::quote_str(trust.to_str().expect("UTF-8")).into_owned();
                format!(r"tls:localhost:443:trustRoots={trust}:endpoint=tcp\:127.0.0.1\:{port}")
            },
            first: b"",
            // The beginning of a ClientHello.
            slow: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03012345",
        });
    }
    for front in fronts {
        let start = || {
            let service = Service::start(["forward", &front.server, &echo()]);
            let port = port(&service.description.replace('\\', ""));
            (service, port)
        };
        // The other one is left alone.
        let ((service, port), (control, quiet)) = (start(), start());
        let others: Vec<TcpStream> = (0..MANY).map(|_| tcp(port)).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let dripping = drip(others, front.slow, Arc::clone(&stop));
        thread::sleep(Duration::from_secs(1));
        // Far less than a second, and than what a thousand handshakes take. What else the machine does, both see.
        let mut measured = Vec::new();
        let is_near = (0..5).any(|_| {
            let [alone, beside] = latencies(&front, [quiet, port]);
            measured.push((alone, beside));
            beside < 3 * alone + Duration::from_millis(20)
        });
        stop.store(true, Ordering::SeqCst);
        let others = dripping.join().expect("they go on");
        assert!(is_near, "{}: alone and beside them {measured:?}", front.server);
        drop(others);
        service.stop();
        control.stop();
    }
}

/// Has half of them say a byte each second, and the others nothing.
fn drip(
    mut clients: Vec<TcpStream>,
    bytes: &'static [u8],
    stop: Arc<AtomicBool>,
) -> thread::JoinHandle<Vec<TcpStream>> {
    thread::spawn(move || {
        for byte in bytes.chunks(1) {
            let begun = Instant::now();
            for client in clients.iter_mut().step_by(2) {
                client.write_all(byte).expect("it is still waited for");
            }
            while begun.elapsed() < Duration::from_secs(1) {
                if stop.load(Ordering::SeqCst) {
                    return clients;
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
        clients
    })
}

/// What connecting and an answer take, in turn from one and the other.
fn latencies(front: &Front, ports: [u16; 2]) -> [Duration; 2] {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let world = World::built_in();
    let clients = ports.map(|port| world.registry.client((front.client)(port).as_str()).expect("a client"));
    let ask = |client: &ClientEndpoint| {
        let begun = Instant::now();
        let asking = async {
            let mut connection = client.connect().await.expect("connect");
            connection.write_all(&[front.first, b"ping"].concat()).await.expect("write");
            connection.flush().await.expect("write");
            connection.read_exact(&mut [0; 4]).await.expect("an answer");
        };
        runtime.block_on(async { timeout(LIMIT, asking).await.expect("an answer in time") });
        begun.elapsed()
    };
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..41 {
        for (client, times) in clients.iter().zip(&mut times) {
            times.push(ask(client));
        }
    }
    times.map(median)
}
