//! Bytes that are put back, and descriptors that are not what they should be.

use std::future::poll_fn;
use std::io::{self, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::task::Waker;
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
async fn what_was_accepted_is_used_before_the_reactor_has_seen_it() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut far = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    far.write_all(b"first").unwrap();
    let (near, _) = listener.accept().unwrap();
    near.set_nonblocking(true).unwrap();
    let mut stream = Stream::accepted(Carrier::Tcp(TcpStream::from_std(near).unwrap()));
    let mut cx = Context::from_waker(Waker::noop());
    let mut room = [MaybeUninit::uninit(); 8];
    let mut read = ReadBuf::uninit(&mut room);
    read.put_slice(b"<");
    assert!(matches!(Pin::new(&mut stream).poll_read(&mut cx, &mut read), Poll::Ready(Ok(()))));
    assert_eq!(read.filled(), b"<first");
    assert!(matches!(Pin::new(&mut stream).poll_write(&mut cx, b"answer"), Poll::Ready(Ok(6))));
    // As it does when another reactor takes the socket over.
    far.write_all(b"more").unwrap();
    stream.watch_here();
    read.clear();
    assert!(matches!(Pin::new(&mut stream).poll_read(&mut cx, &mut read), Poll::Ready(Ok(()))));
    assert_eq!(read.filled(), b"more");
    read.clear();
    // From then on it is the reactor that says when.
    assert!(Pin::new(&mut stream).poll_read(&mut cx, &mut read).is_pending());
    far.write_all(b"2").unwrap();
    let mut second = [0];
    tokio::time::timeout(SOON, stream.read_exact(&mut second)).await.unwrap().unwrap();
    assert_eq!(second, *b"2");
}

/// As a port is looked at by those who only want to know whether somebody listens.
#[tokio::test]
async fn what_was_accepted_may_have_ended_or_say_nothing_yet() {
    let accepted = |far: std::os::unix::net::UnixStream, near: std::os::unix::net::UnixStream| {
        near.set_nonblocking(true).unwrap();
        (far, Stream::accepted(Carrier::Unix(UnixStream::from_std(near).unwrap())))
    };
    let (far, near) = std::os::unix::net::UnixStream::pair().unwrap();
    let (far, mut stream) = accepted(far, near);
    drop(far);
    let ended = tokio::time::timeout(SOON, stream.read(&mut [0; 8])).await.unwrap();
    assert_eq!(ended.unwrap(), 0);
    let (far, near) = std::os::unix::net::UnixStream::pair().unwrap();
    let (mut far, mut stream) = accepted(far, near);
    let mut byte = [0];
    let reading = stream.read_exact(&mut byte);
    let writing = async {
        tokio::task::yield_now().await;
        far.write_all(b"x").unwrap();
    };
    let (read, ()) = tokio::time::timeout(SOON, async { tokio::join!(reading, writing) }).await.unwrap();
    read.unwrap();
    assert_eq!(byte, *b"x");
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
