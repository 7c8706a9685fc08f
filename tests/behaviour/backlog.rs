//! How many connections wait to be accepted where a description does not say.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use endpoints::service::ServerService;
use endpoints::{Address, Listener, quote_str};

const LOCAL: &str = "tcp:0:interface=127.0.0.1";

/// Connects until one has to wait, or there are so many; gives how many those are.
async fn wait_in(address: SocketAddr, most: usize) -> usize {
    let connect = move || TcpStream::connect_timeout(&address, Duration::from_millis(300));
    let waiting = move || std::iter::from_fn(|| connect().ok()).take(most).collect::<Vec<_>>().len();
    tokio::task::spawn_blocking(waiting).await.expect("it ends")
}

fn bound(addresses: &[Address]) -> SocketAddr {
    addresses[0].ip().expect("a port")
}

async fn listen(server: &str) -> Listener {
    endpoints::server(server).expect("a description").listen().await.expect("it listens")
}

#[tokio::test]
async fn it_is_50_until_another_is_set() {
    let listener = listen(LOCAL).await;
    let address = bound(listener.addresses());
    assert_eq!(wait_in(address, 200).await, 51, "the kernel lets one more wait");
    listener.set_default_backlog(150).expect("more");
    // What waited has gone away, and waits all the same.
    assert_eq!(wait_in(address, 200).await, 100);
}

#[tokio::test]
async fn it_is_set_beneath_wrappers() {
    let listener = listen(&format!("haproxy:endpoint={}", quote_str(LOCAL))).await;
    listener.set_default_backlog(150).expect("more");
    assert_eq!(wait_in(bound(listener.addresses()), 200).await, 151);
}

#[tokio::test]
async fn what_a_description_says_stays() {
    let listener = listen(&format!("{LOCAL}:backlog=3")).await;
    listener.set_default_backlog(150).expect("nothing is to be done");
    assert_eq!(wait_in(bound(listener.addresses()), 200).await, 4);
}

#[tokio::test]
async fn services_have_it_from_the_beginning() {
    let server = endpoints::server(LOCAL).expect("a description");
    let service = ServerService::builder(server).default_backlog(150).handle(async |_, _| {});
    service.bind().await.expect("it listens");
    assert_eq!(wait_in(bound(&service.addresses()), 200).await, 151);
}
