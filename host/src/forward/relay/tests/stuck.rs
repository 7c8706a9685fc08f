//! Directions whose reader takes nothing, between real sockets.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream as StdStream};
use std::os::unix::net::UnixStream as StdUnix;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustix::net::sockopt;
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;

use super::*;
use crate::stream::Bare;

const PIECE: usize = 16 * 1024;

/// That are sent to a relay that is stuck. Few, as the kernel wakes it after all when half of what `tcp_rmem` allows has come.
const PIECES: usize = 12;

/// As much as makes the buffers grow.
const MUCH: usize = 16 << 20;

/// Longer than any of these tests takes.
const LONG: Duration = Duration::from_secs(60);

/// A relay in a thread of its own.
struct Relay {
    runtime: Arc<Runtime>,
    meter: Arc<Meter>,
    relaying: JoinHandle<Result<(), Failure>>,
}

impl Relay {
    /// Relays between what the function makes of two sockets, for which `first` and `second` give what can be moved between.
    fn start<S, T>(
        sockets: (S, S),
        make: fn(S) -> io::Result<T>,
        (first, second): (Socket<T>, Socket<T>),
    ) -> Self
    where
        S: Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let (runtime, meter) = (Arc::new(runtime.unwrap()), Arc::<Meter>::default());
        let (its_runtime, its_meter) = (Arc::clone(&runtime), Arc::clone(&meter));
        let relaying = thread::spawn(move || {
            its_runtime.block_on(async {
                let (mut a, mut b) = (make(sockets.0).unwrap(), make(sockets.1).unwrap());
                let (mut relaying, mut traffic) = (Relaying::new(LIMITS), Traffic::default());
                let sockets = Sockets { first, second, close: true };
                let meter = Some(&*its_meter);
                let relayed =
                    poll_fn(|cx| relaying.poll(cx, (&mut a, &mut b), &sockets, &mut traffic, meter));
                tokio::time::timeout(LONG, relayed).await.expect("it comes to an end")
            })
        });
        Self { runtime, meter, relaying }
    }

    fn moved(&self) -> u64 {
        self.meter.traffic().bytes_in
    }

    /// How often its thread has gone to sleep.
    fn sleeps(&self) -> u64 {
        self.runtime.metrics().worker_park_count(0)
    }
}

/// The kernel moves what goes to such a socket.
const MOVED: Socket<TcpStream> = |socket| Some(Bare::Tcp(socket));

/// What goes to such a one is copied, as where TLS is in front.
const COPIED: Socket<TcpStream> = |_| None;

/// A relay of TCP, who sends to it, and who receives from it.
fn over_tcp(second: Socket<TcpStream>) -> (Relay, StdStream, StdStream) {
    let pair = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        near.set_nodelay(true).unwrap();
        near.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        near.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        let (far, _) = listener.accept().unwrap();
        far.set_nonblocking(true).unwrap();
        (near, far)
    };
    let ((sender, a), (receiver, b)) = (pair(), pair());
    (Relay::start((a, b), TcpStream::from_std, (MOVED, second)), sender, receiver)
}

/// Sends much, and takes it.
fn warm_up(sender: &mut StdStream, receiver: &mut StdStream) {
    thread::scope(|scope| {
        scope.spawn(|| sender.write_all(&vec![7; MUCH]).unwrap());
        receiver.read_exact(&mut vec![0; MUCH]).unwrap();
    });
}

/// Sends pieces, with time for each to be dealt with, as long as `go_on` says of how many there were; gives their number. The
/// buffers, which have grown, have room for them.
fn trickle(sender: &mut StdStream, mut go_on: impl FnMut(usize) -> bool) -> usize {
    let mut pieces = 0;
    while go_on(pieces) {
        sender.write_all(&[7; PIECE]).unwrap();
        pieces += 1;
        thread::sleep(Duration::from_millis(2));
    }
    pieces
}

/// Has the relay stuck, and gives how many pieces that took.
fn get_stuck(relay: &Relay, sender: &mut StdStream) -> usize {
    let (mut before, mut quiet) = (relay.moved(), 0);
    trickle(sender, |_| {
        let moved = relay.moved();
        quiet = if moved == before { quiet + 1 } else { 0 };
        before = moved;
        quiet < 10
    })
}

#[test]
fn what_comes_meanwhile_wakes_nobody() {
    wakes_nobody(MOVED);
    wakes_nobody(COPIED);
}

fn wakes_nobody(second: Socket<TcpStream>) {
    let (relay, mut sender, mut receiver) = over_tcp(second);
    warm_up(&mut sender, &mut receiver);
    let mut sleeps = 0;
    for is_last in [false, false, true] {
        let first = get_stuck(&relay, &mut sender);
        let before = relay.sleeps();
        trickle(&mut sender, |pieces| pieces < PIECES);
        sleeps += relay.sleeps() - before;
        if is_last {
            sender.shutdown(std::net::Shutdown::Write).unwrap();
        }
        receiver.read_exact(&mut vec![0; (first + PIECES) * PIECE]).unwrap();
    }
    assert!(sleeps <= PIECES as u64 / 2, "{sleeps} for three times {PIECES} pieces");
    assert_eq!(receiver.read(&mut [0]).unwrap(), 0, "the end that came meanwhile");
    drop(receiver);
    assert!(relay.relaying.join().unwrap().is_ok());
}

#[test]
fn a_single_byte_is_heard_afterwards() {
    is_heard(MOVED);
    is_heard(COPIED);
}

fn is_heard(second: Socket<TcpStream>) {
    let (relay, mut sender, mut receiver) = over_tcp(second);
    warm_up(&mut sender, &mut receiver);
    let first = get_stuck(&relay, &mut sender);
    receiver.read_exact(&mut vec![0; first * PIECE]).unwrap();
    for byte in 0..3 {
        sender.write_all(&[byte]).unwrap();
        let mut got = [9];
        receiver.read_exact(&mut got).unwrap();
        assert_eq!(got, [byte]);
    }
}

/// Closes with a reset (`SO_LINGER`, socket(7)).
fn reset(socket: StdStream) {
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).unwrap();
    drop(socket);
}

/// A relay that holds bytes which nobody takes, as in [`over_tcp`].
fn stuck_over_tcp(second: Socket<TcpStream>) -> (Relay, StdStream, StdStream) {
    let (relay, mut sender, mut receiver) = over_tcp(second);
    warm_up(&mut sender, &mut receiver);
    let sent = MUCH + get_stuck(&relay, &mut sender) * PIECE;
    assert!(relay.moved() < sent as u64, "it is not stuck");
    (relay, sender, receiver)
}

#[test]
fn a_reset_of_the_sender_comes_after_what_was_taken() {
    sender_resets(MOVED);
    sender_resets(COPIED);
}

fn sender_resets(second: Socket<TcpStream>) {
    let (relay, sender, mut receiver) = stuck_over_tcp(second);
    reset(sender);
    // The relay here closes what a real one resets.
    let received = io::copy(&mut receiver, &mut io::sink()).unwrap();
    drop(receiver);
    let failure = relay.relaying.join().unwrap().unwrap_err();
    assert_eq!((failure.error.kind(), failure.place), (io::ErrorKind::ConnectionReset, Place::ReadingFirst));
    assert!(failure.broken);
    assert_eq!(MUCH as u64 + received, relay.meter.traffic().bytes_in);
}

#[test]
fn a_reset_of_the_receiver_is_noticed() {
    receiver_resets(MOVED);
    receiver_resets(COPIED);
}

fn receiver_resets(second: Socket<TcpStream>) {
    let (relay, _sender, receiver) = stuck_over_tcp(second);
    reset(receiver);
    let failure = relay.relaying.join().unwrap().unwrap_err();
    assert_eq!(failure.error.kind(), io::ErrorKind::ConnectionReset);
    assert!(
        [Place::ReadingSecond, Place::WritingSecond].contains(&failure.place) && failure.broken,
        "{failure:?}"
    );
}

#[test]
fn unix_sockets_get_room_for_much() {
    let pair = || {
        let (near, far) = StdUnix::pair().unwrap();
        near.set_read_timeout(Some(LONG)).unwrap();
        near.set_write_timeout(Some(LONG)).unwrap();
        far.set_nonblocking(true).unwrap();
        (near, far)
    };
    let ((mut sender, a), (mut receiver, b)) = (pair(), pair());
    let watched = b.try_clone().unwrap();
    let room = || sockopt::socket_send_buffer_size(&watched).unwrap();
    sockopt::set_socket_send_buffer_size(&watched, 16 * 1024).unwrap();
    let before = room();
    let bare: Socket<UnixStream> = |socket| Some(Bare::Unix(socket));
    let relay = Relay::start((a, b), UnixStream::from_std, (bare, bare));
    sender.write_all(&[7]).unwrap();
    receiver.read_exact(&mut [0]).unwrap();
    assert_eq!(room(), before, "nothing is done for small messages");
    thread::scope(|scope| {
        scope.spawn(|| sender.write_all(&vec![7; MUCH]).unwrap());
        receiver.read_exact(&mut vec![0; MUCH]).unwrap();
    });
    assert!(room() >= 4 * before, "{} after {before}", room());
    drop((sender, receiver));
    assert!(relay.relaying.join().unwrap().is_ok());
}
