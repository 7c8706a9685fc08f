//! Bytes that are put back, and descriptors that are not what they should be.

use std::future::poll_fn;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use endpoints_plugin_api::abi::services::Watched as _;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::services::Watch;

/// How long what ends at once may take.
const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_socket_that_is_not_being_connected_is_an_error() {
    for family in [AddressFamily::UNIX, AddressFamily::INET] {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None).expect("a socket");
        let connected = Stream::connecting(socket).expect("it is watched").connected();
        let error = tokio::time::timeout(SOON, connected).await.expect("it ends").expect_err("an error");
        assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
    }
}

#[tokio::test]
async fn an_operation_that_never_ends_on_what_is_hung_up_leaves_others_their_turn() {
    let (near, far) = std::os::unix::net::UnixStream::pair().expect("a pair");
    near.set_nonblocking(true).expect("an option");
    drop(far);
    let watch = Watch::new(near.as_raw_fd()).expect("it is watched");
    let mut never = || Err(io::ErrorKind::WouldBlock.into());
    let waiting = poll_fn(|cx| watch.poll_io(cx, false, &mut never));
    // The time limit has its turn.
    assert!(tokio::time::timeout(Duration::from_millis(20), waiting).await.is_err());
}

#[test]
fn bytes_that_are_put_back_twice_come_in_order() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    runtime.block_on(async {
        let (near, mut far) = UnixStream::pair().unwrap();
        far.write_all(b" and the rest").await.unwrap();
        drop(far);
        let mut stream = Stream::new(Carrier::Unix(near));
        stream.put_back(b"XYZ");
        let mut first = [0];
        stream.read_exact(&mut first).await.unwrap();
        // What an outer wrapper read and gives back comes before what is left of the inner one's.
        stream.put_back(&first);
        let mut all = String::new();
        stream.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "XYZ and the rest");
    });
}
