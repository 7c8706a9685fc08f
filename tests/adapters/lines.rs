//! tokio-util's listener and codecs.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use crate::programs::{Place, Server};

#[test]
fn lines_come_back_in_capitals() {
    let place = Place::new();
    let server = Server::start(&place, "lines", &["tcp:0:interface=127.0.0.1"]);
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).expect("a connection");
    // Two in one piece, and one in two.
    stream.write_all(b"one\ntwo\nth").expect("sending");
    let mut lines = BufReader::new(stream.try_clone().expect("the same")).lines();
    let mut next = || lines.next().expect("a line").expect("text");
    assert_eq!([next(), next()], ["ONE", "TWO"]);
    stream.write_all(b"ree\n").expect("sending");
    assert_eq!(next(), "THREE");
}
