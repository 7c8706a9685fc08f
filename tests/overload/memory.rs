//! What a connection costs whose reader takes nothing.

use std::net::TcpListener as StdListener;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::harness::{Service, port};
use crate::load::{ANY, alone, describe};
use crate::process::{Process, wait_until};
use crate::support::{World, pki};

const CONNECTIONS: usize = 200;

/// Those of TLS, of which much takes longer.
const OF_TLS: usize = 50;

/// Of user memory; what the kernel holds is bounded by the buffers of the sockets and the pipes.
const MOST: usize = 256 * 1024;

/// What each moves before its reader stops, so that the kernel does it.
const BEFORE: usize = 1 << 20;

#[test]
fn a_reader_that_stalls_costs_little() {
    let _alone = alone();
    let mut fronts = vec![(ANY.to_owned(), false)];
    if let Some(folder) = pki() {
        let certificate = folder.join("pki/server.pem");
        let certificate = endpoints::quote_str(certificate.to_str().expect("UTF-8")).into_owned();
        fronts.push((format!("tls:certificate={certificate}:port=0:interface=127.0.0.1"), true));
    }
    for (server, is_tls) in fronts {
        // Small buffers, which the accepted sockets take over: hundreds of large ones are much for the machine.
        let listener = StdListener::bind("127.0.0.1:0").expect("a port");
        rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 64 * 1024).expect("smaller buffers");
        let service = Service::start(["forward", &server, &describe(&listener), "--workers", "2"]);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(stalled(&service, listener, is_tls));
        service.stop();
    }
}

async fn stalled(service: &Service, listener: StdListener, is_tls: bool) {
    let process = Process::of(service);
    let port = port(&service.description.replace('\\', ""));
    let client = if is_tls {
        let trust = pki().expect("looked above").join("pki/trust");
        let trust = endpoints::quote_str(trust.to_str().expect("UTF-8")).into_owned();
        format!(r"tls:localhost:443:trustRoots={trust}:endpoint=tcp\:127.0.0.1\:{port}")
    } else {
        format!("tcp:127.0.0.1:{port}")
    };
    let world = World::built_in();
    let client = world.registry.client(client.as_str()).expect("a client");
    listener.set_nonblocking(true).expect("a socket");
    let listener = TcpListener::from_std(listener).expect("a runtime");
    let connections = if is_tls { OF_TLS } else { CONNECTIONS };
    let mut near = Vec::new();
    let mut far = Vec::new();
    for _ in 0..connections {
        near.push(client.connect().await.expect("connect"));
        far.push(listener.accept().await.expect("the relay connects").0);
    }
    let before = process.memory();
    let mut writing = JoinSet::new();
    for mut near in near {
        writing.spawn(async move {
            let block = vec![7; 64 * 1024];
            let mut sent = 0_u64;
            // Until nothing goes any more.
            while let Ok(written) = tokio::time::timeout(Duration::from_secs(2), near.write(&block)).await {
                sent += written.expect("it is taken") as u64;
            }
            (near, sent)
        });
    }
    let mut reading = JoinSet::new();
    for mut far in far {
        reading.spawn(async move {
            far.read_exact(&mut vec![0; BEFORE]).await.expect("bytes");
            far
        });
    }
    let far = reading.join_all().await;
    let near = writing.join_all().await;
    let each = process.memory().saturating_sub(before) / connections;
    let pipes = process.pipes();
    println!("{each} bytes for each, {pipes} pipes");
    assert!(each <= MOST, "{each} bytes");
    assert!(if is_tls { pipes == 0 } else { (100..=128).contains(&pipes) }, "{pipes} pipes");
    // All of it comes, and nothing is held any more while nothing moves: the other direction stays open.
    let mut reading = JoinSet::new();
    for mut far in far {
        reading.spawn(async move {
            (tokio::io::copy(&mut far, &mut tokio::io::sink()).await.expect("bytes"), far)
        });
    }
    let mut ending = JoinSet::new();
    for (mut near, sent) in near {
        ending.spawn(async move {
            near.shutdown().await.expect("the end is passed on");
            (sent, near)
        });
    }
    let far = reading.join_all().await;
    let near = ending.join_all().await;
    let came = (BEFORE * connections) as u64 + far.iter().map(|(came, _)| came).sum::<u64>();
    assert_eq!(came, near.iter().map(|(sent, _)| sent).sum::<u64>());
    wait_until("pipes go back", || process.pipes() <= 2 * 8);
    let each = process.memory().saturating_sub(before) / connections;
    println!("{each} bytes for each afterwards");
    assert!(each <= MOST / 4, "{each} bytes");
}
