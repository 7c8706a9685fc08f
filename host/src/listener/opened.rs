//! The sockets that one call of `listen` has opened, on whatever level, so that other threads can listen on them too.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use endpoints_plugin_api::Reachable;
use rustix::net::listen;

use super::{Acceptor, Listener, Socket, accepting};
use crate::arguments::Argument;
use crate::endpoint::Endpoint;
use crate::error::{Error, ErrorKind};

/// What one call of `listen` has opened.
#[derive(Default)]
pub(crate) struct Opened(Mutex<Vec<One>>);

/// A socket that was opened for an endpoint, which is kept by whoever listens.
struct One {
    endpoint: Weak<Endpoint>,
    socket: Weak<Socket>,
    reachable: Vec<Reachable>,
}

/// What listening is about that goes on in this thread.
#[derive(Clone)]
struct Listening {
    opened: Arc<Opened>,
    /// It was opened before, and is to be listened on once more.
    again: bool,
}

thread_local! {
    static LISTENING: RefCell<Option<Listening>> = const { RefCell::new(None) };
}

/// Listens, and notes what is opened.
pub(crate) async fn noting<T>(listen: impl Future<Output = T>) -> T {
    within(Listening { opened: Arc::default(), again: false }, listen).await
}

/// Listens once more on what was opened.
pub(super) async fn again<T>(opened: &Arc<Opened>, listen: impl Future<Output = T>) -> T {
    within(Listening { opened: Arc::clone(opened), again: true }, listen).await
}

/// A plugin that stands around an endpoint has that listen while it is polled itself, on the same thread.
async fn within<T>(listening: Listening, listen: impl Future<Output = T>) -> T {
    /// Puts back what was there before, also after a panic.
    struct Before(Option<Listening>);
    impl Drop for Before {
        fn drop(&mut self) {
            LISTENING.set(self.0.take());
        }
    }

    let mut listen = pin!(listen);
    poll_fn(|cx| {
        let _before = Before(LISTENING.replace(Some(listening.clone())));
        listen.as_mut().poll(cx)
    })
    .await
}

/// What this thread notes at the moment.
pub(super) fn current() -> Arc<Opened> {
    LISTENING
        .with_borrow(|listening| listening.as_ref().map(|one| Arc::clone(&one.opened)))
        .unwrap_or_default()
}

/// A listener on a socket that was opened for this endpoint before, where that is what is asked for now.
///
/// # Errors
/// If the endpoint had no socket, or it is closed, or descriptors are short.
pub(crate) fn once_more(endpoint: &Arc<Endpoint>) -> Option<Result<Listener, Error>> {
    let listening = LISTENING.with_borrow(Option::clone).filter(|listening| listening.again)?;
    let failed = |error: &io::Error| {
        endpoints_plugin_api::Error::from_io("the socket cannot be listened on once more", error).into()
    };
    match listening.opened.socket_of(endpoint) {
        Some((socket, reachable)) => Some(
            socket
                .map_err(|error| failed(&error))
                .and_then(|socket| Listener::on(socket, reachable, Arc::clone(endpoint))),
        ),
        // It stands around one that may have.
        None if !endpoint.nested.is_empty() => None,
        None => {
            let message = "it listens in a way of its own, which no other thread can share";
            Some(Err(Error::new(ErrorKind::Unsupported, message)))
        }
    }
}

impl Opened {
    pub(super) fn note(&self, endpoint: &Arc<Endpoint>, acceptor: &Acceptor, reachable: &[Reachable]) {
        let Acceptor::Socket(socket) = acceptor else { return };
        let socket = Arc::downgrade(socket);
        let endpoint = Arc::downgrade(endpoint);
        let one = One { endpoint, socket, reachable: reachable.to_vec() };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(one);
    }

    /// Has the sockets queue so many connections whose endpoints have an argument for that, which is not given.
    fn set_default_backlog(&self, backlog: u32) -> io::Result<()> {
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        let opened = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for one in &*opened {
            let Some(endpoint) = one.endpoint.upgrade() else { continue };
            let is_default =
                |argument: &Argument<'_, '_>| argument.parameter.name == "backlog" && !argument.given;
            if endpoint.arguments().iter().any(is_default) {
                one.socket.upgrade().map(|socket| listen(&*socket, backlog)).transpose()?;
            }
        }
        Ok(())
    }

    fn socket_of(&self, endpoint: &Arc<Endpoint>) -> Option<(io::Result<OwnedFd>, Vec<Reachable>)> {
        let opened = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let one = opened.iter().find(|one| one.endpoint.as_ptr() == Arc::as_ptr(endpoint))?;
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        let socket = one.socket.upgrade().ok_or_else(gone);
        let socket = socket.and_then(|socket| socket.as_fd().try_clone_to_owned());
        Some((socket, one.reachable.clone()))
    }
}

impl Listener {
    fn on(socket: OwnedFd, reachable: Vec<Reachable>, endpoint: Arc<Endpoint>) -> Result<Self, Error> {
        let (acceptor, address) = accepting(socket)?;
        Ok(Self {
            acceptor,
            keeper: None,
            reachable,
            addresses: vec![address],
            endpoint,
            peers_are_told: false,
            opened: current(),
        })
    }

    /// Lets so many connections wait to be accepted where the description does not say how many: with a scheme that has a
    /// parameter `backlog`, as `tcp` and `unix`, also around which others stand, and whose argument is not given. The system
    /// may have a limit below that, as Linux' `net.core.somaxconn`.
    ///
    /// Sockets that were opened by others, as those of `systemd`, are left as they are.
    ///
    /// # Errors
    /// Why the system refuses it.
    pub fn set_default_backlog(&self, backlog: u32) -> Result<(), Error> {
        self.opened.set_default_backlog(backlog).map_err(|error| {
            let error = endpoints_plugin_api::Error::from_io("the backlog cannot be changed", &error);
            Error::from(error).with_scheme(self.endpoint.scheme())
        })
    }

    /// Listens once more where this one listens, for another thread: what comes is accepted by one or the other. It must be
    /// closed before this one, who keeps what belongs to the address.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where it is no socket that is listened on; why there can be no other one.
    ///
    /// # Cancel safety
    /// What was opened is closed when the future is dropped. It does not keep this listener.
    pub(crate) fn another(&self) -> impl Future<Output = Result<Self, Error>> + Send + use<> {
        let (endpoint, opened) = (Arc::clone(&self.endpoint), Arc::clone(&self.opened));
        let (addresses, peers_are_told) = (self.addresses.clone(), self.peers_are_told);
        async move {
            let mut another = again(&opened, endpoint.listen()).await?;
            // A plugin may have it listen on another thread, where nobody knows that this is no new call.
            if another.addresses != addresses {
                let message = "listening once more is listening elsewhere";
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
            another.peers_are_told = peers_are_told;
            Ok(another)
        }
    }
}
