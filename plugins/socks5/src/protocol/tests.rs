//! The handshake against scripted proxies: every state, every split of the bytes, every way to fail.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;

/// The longest thing ever asked for: a name of 255 bytes and the port.
const LONGEST_READ: usize = 257;

/// Everything the proxy has to say until a login is accepted, and a successful reply for 1.2.3.4:258.
const LOGIN_THEN_V4: &[u8] = b"\x05\x02\x01\x00\x05\x00\x00\x01\x01\x02\x03\x04\x01\x02";

fn name(host: &str, port: u16) -> Target {
    Target::Name { host: host.to_owned(), port }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn plain() -> Handshake {
    Handshake::new(name("example.com", 80), None).unwrap()
}

fn with_login() -> Handshake {
    Handshake::new(name("example.com", 80), Some(Credentials::new("user", "secret"))).unwrap()
}

/// How a handshake with a scripted proxy went.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    result: Result<Bound, ProtocolError>,
    sent: Vec<u8>,
    /// How many of the proxy's bytes were taken from the stream.
    taken: usize,
    /// The length of each message or part of a message that was asked for.
    asked: Vec<usize>,
}

/// Runs a handshake with a proxy that has said all of `incoming` in advance and then ends the stream.
///
/// Each write and read moves at most as many bytes as the next of `sizes`, which are used over and over.
fn run(mut handshake: Handshake, incoming: &[u8], sizes: &[usize]) -> Run {
    let mut sizes = sizes.iter().copied().cycle();
    let (mut sent, mut taken, mut asked, mut left) = (Vec::new(), 0, Vec::new(), 0);
    let result = loop {
        let size = sizes.next().unwrap();
        match handshake.step() {
            Step::Write(bytes) => {
                assert_eq!(left, 0, "a write before the read was complete");
                let n = bytes.len().min(size);
                sent.extend_from_slice(&bytes[..n]);
                handshake.wrote(n);
            }
            Step::Read(space) => {
                assert!(!space.is_empty());
                if left == 0 {
                    left = space.len();
                    asked.push(left);
                }
                assert_eq!(space.len(), left, "the rest of a read is what was asked for less what came");
                let n = space.len().min(size).min(incoming.len() - taken);
                space[..n].copy_from_slice(&incoming[taken..taken + n]);
                taken += n;
                left -= n;
                if let Err(error) = handshake.filled(n) {
                    assert!(matches!(handshake.step(), Step::Failed(again) if again == error));
                    assert_eq!(handshake.filled(1), Err(error.clone()));
                    assert_eq!(handshake.ended(), error);
                    break Err(error);
                }
            }
            Step::Done(bound) => break Ok(bound),
            Step::Failed(error) => panic!("`filled` did not return {error:?}"),
        }
    };
    Run { result, sent, taken, asked }
}

fn at_once(handshake: Handshake, incoming: &[u8]) -> Run {
    run(handshake, incoming, &[usize::MAX])
}

fn failure(handshake: Handshake, incoming: &[u8]) -> ProtocolError {
    at_once(handshake, incoming).result.expect_err("the handshake fails")
}

/// A successful reply as a proxy encodes it. Written apart from the code under test.
fn reply(bound: &Bound) -> Vec<u8> {
    let (kind, address, port) = match bound {
        Bound::Ip(SocketAddr::V4(v4)) => (1, v4.ip().octets().to_vec(), v4.port()),
        Bound::Ip(SocketAddr::V6(v6)) => (4, v6.ip().octets().to_vec(), v6.port()),
        Bound::Name { host, port } => {
            (3, [&[u8::try_from(host.len()).unwrap()], host.as_bytes()].concat(), *port)
        }
    };
    [&[5, 0, 0, kind], address.as_slice(), &port.to_be_bytes()].concat()
}

fn bounds() -> Vec<Bound> {
    let named = |host: String| Bound::Name { host, port: 0xFFFE };
    vec![
        Bound::Ip(address("1.2.3.4:258")),
        Bound::Ip(address("[2001:db8::1]:258")),
        named(String::new()),
        named("proxy.example".to_owned()),
        named("n".repeat(255)),
    ]
}

#[test]
fn every_state_in_turn() {
    let mut handshake = with_login();
    let mut script: &[u8] = LOGIN_THEN_V4;
    let expected = [
        (Stage::Method, "Write(4 bytes)"),
        (Stage::Method, "Read(2 bytes)"),
        (Stage::Authentication, "Write(13 bytes)"),
        (Stage::Authentication, "Read(2 bytes)"),
        (Stage::Request, "Write(18 bytes)"),
        (Stage::Request, "Read(4 bytes)"),
        (Stage::Request, "Read(6 bytes)"),
        (Stage::Established, "Done(Ip(1.2.3.4:258))"),
    ];
    for (stage, step) in expected {
        assert_eq!(handshake.stage(), stage);
        assert_eq!(handshake.ended(), ProtocolError::Ended { stage });
        assert_eq!(format!("{:?}", handshake.step()), step);
        // Asking again changes nothing.
        assert_eq!(format!("{:?}", handshake.step()), step);
        match handshake.step() {
            Step::Write(bytes) => {
                let n = bytes.len();
                handshake.wrote(n);
            }
            Step::Read(space) => {
                let n = std::io::Read::read(&mut script, space).unwrap();
                handshake.filled(n).unwrap();
            }
            Step::Done(_) | Step::Failed(_) => assert!(script.is_empty()),
        }
    }
}

#[test]
fn the_bytes_sent() {
    let v4_reply = b"\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00";
    let sent = |target| at_once(Handshake::new(target, None).unwrap(), v4_reply).sent;
    assert_eq!(sent(name("example.com", 443)), b"\x05\x01\x00\x05\x01\x00\x03\x0bexample.com\x01\xbb");
    assert_eq!(
        sent(Target::Ip(address("192.0.2.7:80"))),
        b"\x05\x01\x00\x05\x01\x00\x01\xc0\x00\x02\x07\x00\x50"
    );
    let v6 = b"\x05\x01\x00\x05\x01\x00\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x50";
    assert_eq!(sent(Target::Ip(address("[2001:db8::1]:80"))), v6);
    // A literal is never left to the proxy's resolver.
    assert_eq!(sent(name("2001:db8::1", 80)), v6);
    assert_eq!(sent(name("192.0.2.7", 80)), sent(Target::Ip(address("192.0.2.7:80"))));

    let request = b"\x05\x01\x00\x03\x0bexample.com\x00\x50";
    let login = [&b"\x05\x02\x00\x02\x01\x04user\x06secret"[..], request].concat();
    assert_eq!(at_once(with_login(), LOGIN_THEN_V4).sent, login);
    // A proxy that needs no authentication does not get to see the credentials.
    assert_eq!(at_once(with_login(), v4_reply).sent, [&b"\x05\x02\x00\x02"[..], request].concat());
}

#[test]
fn reads_exactly_the_reply_for_every_address_type() {
    for bound in bounds() {
        let reply = reply(&bound);
        for (handshake, answers) in [(plain(), &b"\x05\x00"[..]), (with_login(), b"\x05\x02\x01\x00")] {
            let script = [answers, &reply].concat();
            let stream = [&script[..], b"the target's own bytes"].concat();
            let run = at_once(handshake, &stream);
            assert_eq!(run.result, Ok(bound.clone()));
            assert_eq!(run.taken, script.len());
            assert_eq!(run.asked.iter().sum::<usize>(), script.len());
        }
    }
    let asked = |bound| at_once(plain(), &[b"\x05\x00", &reply(bound)[..]].concat()).asked;
    let [v4, v6, empty, short, long] = &bounds()[..] else { panic!("five kinds") };
    assert_eq!(asked(v4), [2, 4, 6]);
    assert_eq!(asked(v6), [2, 4, 18]);
    assert_eq!(asked(empty), [2, 4, 1, 2]);
    assert_eq!(asked(short), [2, 4, 1, 15]);
    assert_eq!(asked(long), [2, 4, 1, LONGEST_READ]);
}

#[test]
fn every_split_gives_the_same() {
    for bound in bounds() {
        let script = [b"\x05\x02\x01\x00", &reply(&bound)[..]].concat();
        let whole = at_once(with_login(), &script);
        assert_eq!(whole.result, Ok(bound));
        for size in 1..=script.len() {
            assert_eq!(run(with_login(), &script, &[size]), whole, "pieces of {size}");
            assert_eq!(run(with_login(), &script, &[size, 1]), whole, "pieces of {size} and 1");
        }
    }
}

#[test]
fn an_end_of_the_stream_at_every_byte() {
    for length in 0..LOGIN_THEN_V4.len() {
        let stage = match length {
            0..2 => Stage::Method,
            2..4 => Stage::Authentication,
            _ => Stage::Request,
        };
        let error = failure(with_login(), &LOGIN_THEN_V4[..length]);
        assert_eq!(error, ProtocolError::Ended { stage }, "after {length} bytes");
        assert_eq!(error.is_retryable(), stage != Stage::Authentication);
    }
    assert!(at_once(with_login(), LOGIN_THEN_V4).result.is_ok());
}

#[test]
fn servers_that_do_not_speak_socks5() {
    for (incoming, hint) in [
        (&b"HTTP/1.1 400 Bad Request"[..], "looks like HTTP"),
        (b"SSH-2.0-OpenSSH", "looks like SSH"),
        (b"\x04\x5b", "looks like SOCKS4"),
        (b"\x00\x5b", "looks like SOCKS4"),
        (b"\x15\x03\x01", "looks like TLS"),
        (b"\xabcd", "byte 0xab"),
    ] {
        let error = failure(plain(), incoming);
        assert_eq!(error, ProtocolError::NotSocks5 { stage: Stage::Method, version: incoming[0] });
        assert!(error.to_string().contains(hint), "{error}");
    }
    let error = failure(plain(), b"\x05\x00\x04\x00\x00\x01");
    assert_eq!(error, ProtocolError::NotSocks5 { stage: Stage::Request, version: 4 });
    assert!(error.to_string().contains("byte 0x04"), "{error}");
}

#[test]
fn methods_that_cannot_be_used() {
    let no_method = |credentials_given| ProtocolError::NoAcceptableMethod { credentials_given };
    assert_eq!(failure(plain(), b"\x05\xff"), no_method(false));
    assert_eq!(failure(with_login(), b"\x05\xff"), no_method(true));
    assert!(no_method(false).to_string().contains("give a user name"));
    assert!(!no_method(true).to_string().contains("give a user name"));

    let not_offered = |method| ProtocolError::MethodNotOffered { method };
    assert_eq!(failure(plain(), b"\x05\x02"), not_offered(2));
    assert_eq!(failure(plain(), b"\x05\x01"), not_offered(1));
    assert_eq!(failure(with_login(), b"\x05\x01"), not_offered(1));
    assert!(not_offered(2).to_string().contains("user name"));
    assert!(not_offered(1).to_string().contains("0x01"));
}

#[test]
fn refused_logins() {
    let error = failure(with_login(), b"\x05\x02\x01\x7f");
    assert_eq!(error, ProtocolError::AuthenticationRefused { status: 0x7f });
    assert!(error.to_string().contains("0x7f"), "{error}");
    let error = failure(with_login(), b"\x05\x02\x05\x00");
    assert_eq!(error, ProtocolError::AuthenticationVersion { version: 5 });
}

#[test]
fn refused_requests() {
    let expected = [
        (1, Reply::GeneralFailure, true),
        (2, Reply::NotAllowed, false),
        (3, Reply::NetworkUnreachable, true),
        (4, Reply::HostUnreachable, true),
        (5, Reply::ConnectionRefused, true),
        (6, Reply::TtlExpired, true),
        (7, Reply::CommandNotSupported, false),
        (8, Reply::AddressTypeNotSupported, false),
        (9, Reply::Unknown(9), false),
        (255, Reply::Unknown(255), false),
    ];
    for (code, reply, retryable) in expected {
        // The header is enough: nothing more may come, and the address type may be garbage.
        let run = at_once(plain(), &[5, 0, 5, code, 0, 0x77]);
        let error = ProtocolError::Refused { reply };
        assert_eq!(error.is_retryable(), retryable, "{reply:?}");
        assert_eq!(run.result, Err(error));
        assert_eq!(run.asked, [2, 4]);
    }
    assert_eq!(Reply::from_code(0), None);
}

#[test]
fn oddities_in_a_successful_reply() {
    for address_type in [0, 2, 5, 0xFF] {
        let error = failure(plain(), &[5, 0, 5, 0, 0, address_type]);
        assert_eq!(error, ProtocolError::BadAddressType { address_type });
    }
    // The reserved byte may be anything.
    assert!(at_once(plain(), b"\x05\x00\x05\x00\xff\x01\0\0\0\0\0\0").result.is_ok());
    // A name may be anything, but does not reach a terminal as it is.
    let bound = at_once(plain(), b"\x05\x00\x05\x00\x00\x03\x03\xff\x1b\n\x00\x07").result.unwrap();
    assert_eq!(bound, Bound::Name { host: "\u{FFFD}\x1b\n".to_owned(), port: 7 });
    assert_eq!(bound.to_string(), "\u{FFFD}\\u{1b}\\n:7");
}

#[test]
fn lengths_are_limited_and_secrets_not_shown() {
    let new = |host: usize, username: usize, password: usize| {
        let credentials = Credentials::new("S".repeat(username), "S".repeat(password));
        Handshake::new(name(&"h".repeat(host), 1), Some(credentials)).map(|_| ())
    };
    assert_eq!(new(1, 1, 1), Ok(()));
    assert_eq!(new(255, 255, 255), Ok(()));
    for (lengths, field) in [
        ([0, 1, 1], Field::TargetName),
        ([256, 1, 1], Field::TargetName),
        ([1, 0, 1], Field::Username),
        ([1, 256, 1], Field::Username),
        ([1, 1, 0], Field::Password),
        ([1, 1, 256], Field::Password),
    ] {
        let error = new(lengths[0], lengths[1], lengths[2]).unwrap_err();
        let expected = match lengths.contains(&0) {
            true => ProtocolError::Empty { field },
            false => ProtocolError::TooLong { field },
        };
        assert_eq!(error, expected);
        assert!(error.to_string().starts_with(&field.to_string()), "{error}");
        assert!(!error.to_string().contains("SS"), "{error}");
        assert!(!error.is_retryable());
    }
}

#[test]
fn debug_masks_secrets() {
    let credentials = Credentials::new("alice", "hunter2");
    assert_eq!(format!("{credentials:?}"), "Credentials { username: ***, password: *** }");
    let mut handshake = Handshake::new(name("example.com", 80), Some(credentials)).unwrap();
    handshake.wrote(4);
    let Step::Read(space) = handshake.step() else { panic!("the method is read") };
    space.copy_from_slice(b"\x05\x02");
    handshake.filled(2).unwrap();
    // The buffer now holds both in the clear; as numbers they would begin with 97, 108 and 104, 117.
    assert!(matches!(handshake.step(), Step::Write(b"\x01\x05alice\x07hunter2")));
    let shown = format!("{:?}", handshake.step()) + &format!("{handshake:?} {handshake:#?}");
    for secret in ["alice", "hunter2", "97", "104"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn errors_are_one_line() {
    let replies = (1..=9).filter_map(Reply::from_code).map(|reply| ProtocolError::Refused { reply });
    let stages = [Stage::Method, Stage::Authentication, Stage::Request, Stage::Established];
    let ends = stages.map(|stage| ProtocolError::Ended { stage });
    let versions = (0..=255).map(|version| ProtocolError::NotSocks5 { stage: Stage::Method, version });
    for error in replies.chain(ends).chain(versions) {
        let text = error.to_string();
        assert!(!text.is_empty() && !text.contains(['\n', '\r']) && !text.contains("  "), "{text:?}");
    }
}

#[test]
#[should_panic(expected = "only 3 were offered")]
fn more_written_than_offered() {
    plain().wrote(4);
}

#[test]
#[should_panic(expected = "the step was Write(3 bytes)")]
fn filled_out_of_turn() {
    let _ = plain().filled(1);
}

/// A proxy's bytes: arbitrary, but often well-formed as far as needed to reach the later states.
fn incoming() -> impl Strategy<Value = Vec<u8>> {
    let method = prop_oneof![Just(vec![]), Just(vec![5, 0]), Just(vec![5, 2, 1, 0])];
    let header = prop_oneof![
        Just(vec![]),
        prop::sample::select(vec![1u8, 3, 4]).prop_map(|kind| vec![5, 0, 0, kind]),
        any::<u8>().prop_map(|code| vec![5, code, 0, 1]),
    ];
    (method, header, prop::collection::vec(any::<u8>(), 0..300))
        .prop_map(|(method, header, rest)| [method, header, rest].concat())
}

proptest! {
    #[test]
    fn arbitrary_servers(incoming in incoming(), sizes in prop::collection::vec(1..300usize, 1..8)) {
        for handshake in [plain, with_login] {
            let whole = at_once(handshake(), &incoming);
            prop_assert!(whole.asked.iter().all(|asked| (1..=LONGEST_READ).contains(asked)));
            prop_assert!(whole.asked.len() <= 5);
            if whole.result.is_ok() {
                prop_assert_eq!(whole.asked.iter().sum::<usize>(), whole.taken);
            }
            prop_assert_eq!(run(handshake(), &incoming, &sizes), whole);
        }
    }
}
