//! Connections, and the descriptions of how listeners are reached, as they are handed over.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use endpoints_plugin_api::abi::Sized0;
use endpoints_plugin_api::abi::conn::{Body, Handshaking, RConn, Taken};
use endpoints_plugin_api::abi::stream::{Foreign as ForeignStream, RStream};
use endpoints_plugin_api::{Connection, Error, ErrorKind, Facts, Reachable, name};
use tokio::io::AsyncReadExt;

use crate::stream::Plain;

fn take(conn: RConn) -> Result<Taken, Error> {
    // SAFETY: valid, and owned.
    unsafe { conn.take() }
}

fn across(body: Body) -> Taken {
    let facts = Facts::new().with(name::PEER_NAME, "example.com:80").into_bytes().into();
    let taken = take(RConn::from(Ok(Taken { body, facts, leftover: b"early".to_vec().into() }))).unwrap();
    assert_eq!(taken.leftover.as_slice(), b"early");
    let facts = Facts::from_bytes(taken.facts.as_slice().to_vec());
    assert_eq!(facts.get(name::PEER_NAME), Some(&b"example.com:80"[..]));
    taken
}

fn kind(conn: RConn) -> (ErrorKind, String) {
    let error = take(conn).unwrap_err();
    (error.kind(), error.message().to_owned())
}

#[test]
#[cfg_attr(miri, ignore = "Miri reads no bytes from pairs of sockets")]
fn a_descriptor_stays_the_same_and_is_closed_once() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let number = ours.as_raw_fd();
    let Body::Fd(fd) = across(Body::Fd(ours.into())).body else { panic!("a descriptor went in") };
    assert_eq!(fd.as_raw_fd(), number);
    drop(fd);
    assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
}

#[test]
#[cfg_attr(miri, ignore = "Miri reads no bytes from pairs of sockets")]
fn a_pair_of_descriptors_keeps_its_directions() {
    for inherited in [false, true] {
        let ((read, mut to_read), (write, mut written)) =
            (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let body = across(Body::Pair { read: read.into(), write: write.into(), inherited }).body;
        let Body::Pair { read, write, inherited: still } = body else { panic!("a pair went in") };
        assert_eq!(still, inherited);
        to_read.write_all(b"r").unwrap();
        UnixStream::from(write).write_all(b"w").unwrap();
        let mut byte = [0];
        UnixStream::from(read).read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"r");
        written.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"w");
    }
}

#[test]
fn streams_and_handshakes_come_out() {
    // SAFETY: just made.
    let stream = unsafe { ForeignStream::new(RStream::new(Plain(tokio::io::empty()))) };
    assert!(matches!(across(Body::Stream(stream)).body, Body::Stream(_)));
    let late = async { Err(Error::new(ErrorKind::TimedOut, "late")) };
    let body = across(Body::Handshake(Handshaking::new(late))).body;
    let Body::Handshake(future) = body else { panic!("a handshake went in") };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(future).unwrap_err().kind(), ErrorKind::TimedOut);
    // One that comes to another one would never end.
    let nested = async { Ok(across(Body::Handshake(Handshaking::new(async { panic!("never polled") })))) };
    assert_eq!(runtime.block_on(Handshaking::new(nested)).unwrap_err().kind(), ErrorKind::Internal);
    let panics = Handshaking::new(async { panic!("in the handshake") });
    assert_eq!(runtime.block_on(panics).unwrap_err().kind(), ErrorKind::Panicked);
}

#[test]
fn what_is_no_connection_is_an_error() {
    let of = |kind| {
        let mut conn = RConn::absent();
        conn.kind = kind;
        conn.fd = [-1, -1];
        conn
    };
    for (conn, words) in [
        (of(0), "unknown kind 0"),
        (of(RConn::ERROR), "unknown kind 1"),
        (of(RConn::FD), "-1"),
        (of(RConn::FD_PAIR), "-1"),
        (of(RConn::STREAM), "unknown kind 4"),
        (of(RConn::HANDSHAKE), "unknown kind 5"),
        (of(6), "unknown kind 6"),
        (of(u32::MAX), "unknown kind"),
    ] {
        let (kind, message) = kind(conn);
        assert!(kind == ErrorKind::Internal && message.contains(words), "{message}");
    }
    let failed = RConn::from(Err(Error::new(ErrorKind::Unreachable, "no way")));
    assert_eq!(kind(failed), (ErrorKind::Unreachable, "no way".to_owned()));
}

#[test]
#[cfg_attr(miri, ignore = "Miri reads no bytes from pairs of sockets")]
fn half_a_pair_is_closed_and_one_for_both_is_not_closed_twice() {
    for both in [false, true] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut conn = RConn::absent();
        conn.kind = RConn::FD_PAIR;
        let fd = ours.into_raw_fd();
        conn.fd = [fd, if both { fd } else { -1 }];
        let (kind, message) = kind(conn);
        assert_eq!(kind, ErrorKind::Internal);
        assert_eq!(message.contains("twice"), both, "{message}");
        assert_eq!(theirs.read(&mut [0]).unwrap(), 0, "it was closed");
    }
}

#[tokio::test]
async fn bytes_that_were_given_back_come_first() {
    let mut connection = Connection::from_stream(tokio::io::join(&b"stream"[..], tokio::io::sink()));
    connection.unread(b"second ");
    connection.unread(b"first ");
    let mut two = [0; 2];
    connection.read_exact(&mut two).await.unwrap();
    let mut rest = String::new();
    connection.map_stream(|stream| stream).read_to_string(&mut rest).await.unwrap();
    assert_eq!((&two, rest.as_str()), (b"fi", "rst second stream"));
}

#[test]
fn facts_of_a_layer_stand_before_those_inside() {
    let inner = Connection::from_stream(tokio::io::empty()).with_fact("a", "inner").with_fact("b", "inner");
    let mut outer = inner.map_stream(|stream| stream).with_fact("a", "outer");
    let facts = outer.facts();
    let all: Vec<_> = facts.iter().collect();
    assert_eq!(all, [("a", &b"outer"[..]), ("b", b"inner"), ("a", b"inner")]);
}

#[test]
fn reachable_descriptions_keep_their_shape() {
    let all = vec![
        Reachable::new("tcp").with("host", "127.0.0.1").with("port", "80"),
        Reachable::new("unix").with("path", b"/tmp/\xff:=\\"),
        Reachable::new("pass").with("first", "").with_nested(
            "endpoint",
            Reachable::new("tls")
                .with_nested("endpoint", Reachable::new("tcp").with("port", "1"))
                .with("last", "x"),
        ),
    ];
    assert_eq!(Reachable::decode(&Reachable::encode(&all)), all);
    assert_eq!(Reachable::decode(&Facts::new()), []);
    // What precedes the first scheme, and a nested description that is none, are left out.
    let odd = Facts::new().with("stray", "1").with("", "tcp").with("@endpoint", "damaged").with("port", "1");
    assert_eq!(Reachable::decode(&odd), [Reachable::new("tcp").with("port", "1")]);
}

#[test]
fn descriptors_are_owned_by_who_took_them() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let conn = RConn::from(Ok(across(Body::Fd(ours.into()))));
    // SAFETY: the value owns it, and is not used again.
    drop(unsafe { OwnedFd::from_raw_fd(conn.fd[0]) });
}
