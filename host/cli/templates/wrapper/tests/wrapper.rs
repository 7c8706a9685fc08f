//! Both sides of the wrapper, in a host in memory.

use std::time::Duration;

use endpoints_plugin_api::testing::{Link, TestHost, Values};
use endpoints_plugin_api::{Connection, Error, ErrorKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use {{crate}}::Wrapper;

const SCHEME: &str = "{{name}}";

/// The arguments that both sides have. Hosts fill in defaults; here there is none, so tests give
/// every value.
fn common(word: &str) -> Values {
    Values::new()
        .text("word", word)
        .duration("timeout", Duration::from_secs(10))
}

/// Both sides, connected with each other over the name "inner" in memory.
async fn connect(host: &TestHost, word: &str) -> Result<(Connection, Connection), Error> {
    let plugin = host.plugin::<Wrapper>()?;
    let server = plugin.server(SCHEME, &common("hello").server("endpoint", "inner"))?;
    let client = plugin.client(SCHEME, &common(word).client("endpoint", "inner"))?;
    let mut listener = server.listen().await?;
    let accepting = async { listener.accept().await?.await };
    tokio::try_join!(client.connect(), accepting)
}

#[tokio::test]
async fn bytes_go_both_ways_until_each_ends() {
    let host = TestHost::new();
    let (mut connected, mut accepted) = connect(&host, "hello").await.expect("a connection");
    connected.write_all(b"there").await.expect("write");
    connected.shutdown().await.expect("shutdown");
    let mut heard = String::new();
    accepted.read_to_string(&mut heard).await.expect("read");
    assert_eq!(heard, "there");

    accepted.write_all(b"and back").await.expect("write");
    drop(accepted);
    let mut heard = String::new();
    connected.read_to_string(&mut heard).await.expect("read");
    assert_eq!(heard, "and back");
}

#[tokio::test]
async fn bytes_may_come_one_by_one() {
    let host = TestHost::new();
    host.link("inner", Link::new().chunk(1).pending());
    let (mut connected, _accepted) = connect(&host, "hello").await.expect("a connection");
    let facts = connected.facts();
    assert_eq!(facts.get(&format!("{SCHEME}.word")), Some(&b"hello"[..]));
}

#[tokio::test]
async fn another_word_is_refused_and_nothing_stays_open() {
    let host = TestHost::new();
    let error = connect(&host, "ahoy").await.expect_err("another word");
    assert_eq!(error.kind(), ErrorKind::HandshakeFailed, "{error}");
    assert!(host.left_open().is_empty(), "{host:?}");
}

#[tokio::test]
async fn a_word_of_two_lines_is_refused_before_anything_is_opened() {
    let host = TestHost::new();
    let error = connect(&host, "he\nllo").await.expect_err("two lines");
    assert_eq!(error.argument(), Some("word"));
}

// The clock stands still, and jumps where nothing else is to be done.
#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_given_up_in_time() {
    let host = TestHost::new();
    let plugin = host.plugin::<Wrapper>().expect("an instance");
    let _silent = host.listen("silent").expect("a listener");
    let values = common("hello").client("endpoint", "silent");
    let client = plugin.client(SCHEME, &values).expect("a client");
    let error = client.connect().await.expect_err("it says nothing");
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(host.left_open().is_empty(), "{host:?}");
}
