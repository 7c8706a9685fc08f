//! Connections in memory, and how badly they can behave.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use endpoints_plugin_api::testing::{Link, TestHost, TestPlugin, Values};
use endpoints_plugin_api::{
    Argument, Arguments, Client, Connection, Error, ErrorKind, Host, Plugin, Reachable, Server, Stream,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A wrapper whose two sides greet each other, and which may put a stream of its own around the rest.
struct Greeting;

impl Plugin for Greeting {
    fn new(_host: Host) -> Result<Self, Error> {
        Ok(Self)
    }

    fn client(&self, _scheme: &str, arguments: &mut Arguments<'_>) -> Result<Client, Error> {
        Ok(Client::wrap(arguments.client("endpoint")?, greet))
    }

    fn server(&self, _scheme: &str, arguments: &mut Arguments<'_>) -> Result<Server, Error> {
        let reachable = |inner| Reachable::new("greeting").with_nested("endpoint", inner);
        Ok(Server::wrap_reachable(arguments.server("endpoint")?, greet, reachable))
    }
}

const HELLO: &[u8; 5] = b"hello";

async fn greet(mut connection: Connection) -> Result<Connection, Error> {
    connection.write_all(HELLO).await?;
    connection.flush().await?;
    let mut answer = [0; HELLO.len()];
    connection.read_exact(&mut answer).await?;
    if answer != *HELLO {
        return Err(Error::new(ErrorKind::HandshakeFailed, "the peer does not greet"));
    }
    Ok(connection.map_stream(|stream: Stream| stream))
}

fn plugin(host: &TestHost) -> TestPlugin {
    host.plugin::<Greeting>().unwrap()
}

fn client() -> Values {
    Values::new().client("endpoint", "far")
}

fn server() -> Values {
    Values::new().server("endpoint", "near")
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn both_sides_talk_to_the_test() {
    let host = TestHost::new();
    let plugin = plugin(&host);
    let mut far = host.listen("far").unwrap();
    let client = plugin.client("greeting", &client()).unwrap();
    let (connected, peer) = tokio::join!(client.connect(), async {
        let mut peer = far.accept().await.unwrap();
        peer.write_all(b"hello, plugin").await.unwrap();
        peer
    });
    let (mut connected, mut peer) = (connected.unwrap(), peer);
    assert_eq!(host.left_open(), ["a connection of far"]);
    let mut said = [0; 8];
    connected.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b", plugin");
    // Each direction ends by itself.
    connected.write_all(b", test").await.unwrap();
    connected.shutdown().await.unwrap();
    let mut heard = String::new();
    peer.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "hello, test");
    peer.write_all(b"bye").await.unwrap();
    drop(peer);
    let mut heard = String::new();
    connected.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "bye");
    drop(connected);
    assert!(host.left_open().is_empty(), "{host:?}");

    let mut listener = plugin.server("greeting", &server()).unwrap().listen().await.unwrap();
    let reachable = listener.reachable().remove(0);
    let inner = Reachable::new("memory").with("name", "near");
    assert_eq!(reachable.arguments, [("endpoint".to_owned(), Argument::Nested(inner))]);
    let mut peer = host.connect("near").unwrap();
    let incoming = listener.accept().await.unwrap();
    peer.write_all(HELLO).await.unwrap();
    let mut accepted = incoming.await.unwrap();
    accepted.write_all(b"!").await.unwrap();
    let mut heard = [0; 6];
    peer.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"hello!");
    assert_eq!(host.left_open(), ["a listener at near", "a connection of near"]);
    listener.close().await.unwrap();
    drop(accepted);
    assert!(host.left_open().is_empty(), "{host:?}");
    assert_eq!(host.connect("near").unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn the_plugin_talks_to_itself_through_bad_links() {
    for link in [
        Link::new(),
        Link::new().chunk(1),
        Link::new().pending(),
        // Less would not hold the greetings, which both sides send before they read.
        Link::new().capacity(HELLO.len()),
        Link::new().capacity(HELLO.len()).chunk(2).pending(),
    ] {
        let host = TestHost::new();
        host.link("near", link);
        let plugin = plugin(&host);
        let server = plugin.server("greeting", &server()).unwrap();
        let mut listener = server.listen().await.unwrap();
        let client = plugin.client("greeting", &client().client("endpoint", "near")).unwrap();
        let accepting = async { listener.accept().await?.await };
        let (mut connected, mut accepted) = tokio::try_join!(client.connect(), accepting).unwrap();
        let sending = async {
            connected.write_all(&[7; 1000]).await?;
            connected.shutdown().await
        };
        let mut read = Vec::new();
        let (sent, _) = tokio::join!(sending, accepted.read_to_end(&mut read));
        sent.unwrap();
        assert_eq!(read, [7; 1000]);
    }
}

#[tokio::test]
async fn chunks_and_waiting_are_really_there() {
    let host = TestHost::new();
    host.link("far", Link::new().chunk(2).pending().fact("peer.ip", "192.0.2.1:1"));
    struct Plain;
    impl Plugin for Plain {
        fn new(_host: Host) -> Result<Self, Error> {
            Ok(Self)
        }
        fn client(&self, _scheme: &str, arguments: &mut Arguments<'_>) -> Result<Client, Error> {
            arguments.client("endpoint")
        }
    }
    let plain = host.plugin::<Plain>().unwrap();
    let mut far = host.listen("far").unwrap();
    let mut connected = plain.client("plain", &client()).unwrap().connect().await.unwrap();
    assert_eq!(connected.facts().get("peer.ip"), Some(&b"192.0.2.1:1"[..]));
    let mut peer = far.accept().await.unwrap();
    peer.write_all(b"abc").await.unwrap();
    let mut bytes = [0; 8];
    for expected in [2, 1] {
        let mut reading = Box::pin(connected.read(&mut bytes));
        assert!(poll(&mut reading).is_pending(), "the first poll waits");
        assert_eq!(reading.await.unwrap(), expected);
    }
    let mut writing = Box::pin(connected.write(b"abc"));
    assert!(poll(&mut writing).is_pending());
    assert_eq!(writing.await.unwrap(), 2);
}

#[tokio::test]
async fn errors_come_when_they_are_told_to() {
    let host = TestHost::new();
    let plugin = plugin(&host);
    let client = plugin.client("greeting", &client()).unwrap();
    assert_eq!(client.connect().await.unwrap_err().kind(), ErrorKind::ConnectionRefused, "nobody listens");
    let mut far = host.listen("far").unwrap();
    assert_eq!(host.listen("far").unwrap_err().kind(), ErrorKind::AddressInUse);

    host.link("far", Link::new().connect_error(ErrorKind::Unreachable));
    assert_eq!(client.connect().await.unwrap_err().kind(), ErrorKind::Unreachable);
    host.link("far", Link::new().connect_hangs());
    assert!(poll(&mut Box::pin(client.connect())).is_pending());
    assert!(host.left_open().is_empty(), "what was cancelled is gone: {host:?}");

    // In the middle of the greeting.
    for link in [
        Link::new().read_error_after(3, io::ErrorKind::TimedOut),
        Link::new().write_error_after(3, io::ErrorKind::TimedOut),
    ] {
        host.link("far", link);
        let (connected, peer) = tokio::join!(client.connect(), async {
            let mut peer = far.accept().await.unwrap();
            // The plugin may have given up by now.
            let _ = peer.write_all(HELLO).await;
            peer
        });
        assert_eq!(connected.unwrap_err().kind(), ErrorKind::TimedOut);
        drop(peer);
    }
    host.link("far", Link::new());
    for (reset, kind) in [(true, ErrorKind::ConnectionReset), (false, ErrorKind::HandshakeFailed)] {
        let (connected, ()) = tokio::join!(client.connect(), async {
            let mut peer = far.accept().await.unwrap();
            peer.write_all(b"hel").await.unwrap();
            if reset {
                peer.reset();
            }
        });
        assert_eq!(connected.unwrap_err().kind(), kind);
    }
    assert!(host.left_open().is_empty(), "{host:?}");
}

#[tokio::test]
async fn a_silent_peer_holds_up_its_own_handshake_alone() {
    let host = TestHost::new();
    let plugin = plugin(&host);
    let mut listener = plugin.server("greeting", &server()).unwrap().listen().await.unwrap();
    let silent = host.connect("near").unwrap();
    let mut peer = host.connect("near").unwrap();
    peer.write_all(HELLO).await.unwrap();
    let mut held_up = Box::pin(listener.accept().await.unwrap().into_future());
    assert!(poll(&mut held_up).is_pending());
    listener.accept().await.unwrap().await.unwrap();
    drop(held_up);
    drop(silent);
    assert_eq!(host.left_open(), ["a listener at near"]);
}
