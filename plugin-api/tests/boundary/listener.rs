//! Listeners through the table: accepting, handshakes, and the end of listening.

use std::future::{Future, poll_fn};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use endpoints_plugin_api::abi::Sized0;
use endpoints_plugin_api::abi::conn::Taken;
use endpoints_plugin_api::abi::future::{Foreign as ForeignFuture, RUnit};
use endpoints_plugin_api::abi::listener::{Export, Foreign, RListener};
use endpoints_plugin_api::{
    Accept, Connection, Error, ErrorKind, Facts, Incoming, Listen, ListenContext, Listener, Reachable,
    Server, name,
};

/// Gives a connection each time it was told to.
#[derive(Clone, Default)]
struct Backlog(Arc<Mutex<(usize, Option<Waker>)>>);

impl Backlog {
    fn arrive(&self) {
        let mut state = self.0.lock().unwrap();
        state.0 += 1;
        if let Some(waker) = state.1.take() {
            waker.wake();
        }
    }
}

impl Accept for Backlog {
    async fn accept(&self) -> Result<Incoming, Error> {
        poll_fn(|cx| {
            let mut state = self.0.lock().unwrap();
            if state.0 == 0 {
                state.1 = Some(cx.waker().clone());
                return Poll::Pending;
            }
            state.0 -= 1;
            Poll::Ready(Ok(Incoming::ready(
                Connection::from_stream(tokio::io::empty()).with_fact(name::PEER_IP, "192.0.2.1:1"),
            )))
        })
        .await
    }

    fn addresses(&self) -> Facts {
        Facts::new().with(name::LOCAL_IP, "192.0.2.2:80")
    }

    fn reachable(&self) -> Vec<Reachable> {
        vec![Reachable::new("tcp").with("port", "80")]
    }
}

struct Endpoint(Backlog);

impl Listen for Endpoint {
    async fn listen(&self, _: ListenContext) -> Result<Listener, Error> {
        Ok(Listener::new(self.0.clone()))
    }
}

fn poll<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn ready<T>(polled: Poll<T>) -> T {
    let Poll::Ready(value) = polled else { panic!("it is ready") };
    value
}

#[test]
fn accepting_goes_on_after_its_future_was_dropped() {
    let backlog = Backlog::default();
    let mut listener = Listener::new(backlog.clone());
    assert!(poll(listener.accept()).is_pending());
    backlog.arrive();
    let mut incoming = ready(poll(listener.accept())).unwrap();
    assert_eq!(incoming.facts().get(name::PEER_IP), Some(&b"192.0.2.1:1"[..]));
    ready(poll(async { incoming.await })).unwrap();
    assert!(poll(listener.accept()).is_pending());
    assert_eq!(listener.addresses().get(name::LOCAL_IP), Some(&b"192.0.2.2:80"[..]));
    assert_eq!(listener.reachable(), [Reachable::new("tcp").with("port", "80")]);
    ready(poll(listener.close())).unwrap();
}

#[test]
fn a_wrappers_handshake_keeps_nobody_waiting() {
    let (backlog, shaken) = (Backlog::default(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&shaken);
    let handshake = move |connection: Connection| {
        let slow = count.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if slow {
                std::future::pending::<()>().await;
            }
            Ok(connection.with_fact("layer.fact", "x"))
        }
    };
    let server = Server::wrap_reachable(Server::new(Endpoint(backlog.clone())), handshake, |inner| {
        Reachable::new("outer").with_nested("endpoint", inner)
    });
    let mut listener = ready(poll(server.listen(ListenContext::default()))).unwrap();
    backlog.arrive();
    backlog.arrive();
    let first = ready(poll(listener.accept())).unwrap();
    let mut second = ready(poll(listener.accept())).unwrap();
    assert_eq!(shaken.load(Ordering::SeqCst), 0, "a handshake begins when it is awaited");
    assert_eq!(second.facts().get(name::PEER_IP), Some(&b"192.0.2.1:1"[..]), "known before the handshake");
    let mut first = pin!(first.into_future());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(first.as_mut().poll(&mut cx).is_pending());
    let mut connection = ready(poll(async { second.await })).unwrap();
    assert_eq!(connection.facts().get("layer.fact"), Some(&b"x"[..]));
    let inner = Reachable::new("tcp").with("port", "80");
    assert_eq!(listener.reachable(), [Reachable::new("outer").with_nested("endpoint", inner)]);
    assert_eq!(listener.addresses().get(name::LOCAL_IP), Some(&b"192.0.2.2:80"[..]));
}

#[test]
fn a_panic_in_a_handshake_or_while_accepting_is_an_error() {
    let backlog = Backlog::default();
    let server =
        Server::wrap(Server::new(Endpoint(backlog.clone())), |_| async { panic!("in the handshake") });
    let mut listener = ready(poll(server.listen(ListenContext::default()))).unwrap();
    backlog.arrive();
    let incoming = ready(poll(listener.accept())).unwrap();
    let error = ready(poll(async { incoming.await })).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panicked);
    assert!(poll(listener.accept()).is_pending(), "the listener lives on");

    struct Panics;
    impl Accept for Panics {
        async fn accept(&self) -> Result<Incoming, Error> {
            panic!("while accepting")
        }
    }
    let mut listener = Listener::new(Panics);
    for _ in 0..2 {
        assert_eq!(ready(poll(listener.accept())).unwrap_err().kind(), ErrorKind::Panicked);
    }
}

/// A listener whose every function panics but those that it cannot do without.
struct Hostile;

impl Export for Hostile {
    fn poll_accept(&mut self, _: &mut Context<'_>) -> Poll<Result<Taken, Error>> {
        panic!("in poll_accept")
    }

    fn addresses(&self) -> Vec<u8> {
        panic!("in addresses")
    }

    fn reachable(&self) -> Vec<u8> {
        panic!("in reachable")
    }

    fn take_socket(&mut self) -> Option<std::os::fd::OwnedFd> {
        panic!("in take_socket")
    }

    fn close(&mut self) -> Option<ForeignFuture<RUnit>> {
        Some(ForeignFuture::of(async {
            let mut unit = RUnit::absent();
            unit.error = Error::new(ErrorKind::Other, "a busy port").into();
            unit
        }))
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        panic!("in drop")
    }
}

fn export(listener: impl Export) -> Foreign {
    // SAFETY: just made.
    unsafe { Foreign::new(RListener::new(listener)) }
}

#[test]
fn panics_of_every_function_stay_inside() {
    let mut listener = export(Hostile);
    assert_eq!(listener.addresses().as_slice(), b"");
    assert_eq!(listener.reachable().as_slice(), b"");
    assert!(listener.take_socket().unwrap().is_none());
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(ready(listener.poll_accept(&mut cx)).unwrap_err().kind(), ErrorKind::Panicked);
    assert_eq!(ready(poll(listener.close())).unwrap_err().message(), "a busy port");
}

/// Tells when it is dropped, and that the address does not listen any more.
struct Guard(Arc<AtomicBool>, SocketAddr);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.store(TcpStream::connect(self.1).is_err(), Ordering::SeqCst);
    }
}

#[test]
fn a_listening_socket_is_closed_with_its_listener_and_before_its_guard() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let gone = Arc::new(AtomicBool::new(false));
    let guard = Guard(Arc::clone(&gone), address);
    let mut listener = Listener::from_socket(socket, vec![Reachable::new("tcp")], guard);
    assert_eq!(listener.reachable(), [Reachable::new("tcp")]);
    TcpStream::connect(address).unwrap();
    let error = ready(poll(listener.accept())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "the host accepts by itself");
    drop(listener);
    assert!(gone.load(Ordering::SeqCst));
}

#[test]
fn a_handshake_taken_apart_is_none_again() {
    let incoming =
        Incoming::handshake(Facts::new().with("a", "1"), async { Err(Error::new(ErrorKind::Closed, "x")) });
    struct Once(Mutex<Option<Incoming>>);
    impl Accept for Once {
        async fn accept(&self) -> Result<Incoming, Error> {
            self.0.lock().unwrap().take().ok_or_else(|| Error::new(ErrorKind::Closed, "the end"))
        }
    }
    let mut listener = Listener::new(Once(Mutex::new(Some(incoming))));
    let incoming = ready(poll(listener.accept())).unwrap();
    assert_eq!(ready(poll(async { incoming.await })).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(ready(poll(listener.accept())).unwrap_err().message(), "the end");
}
