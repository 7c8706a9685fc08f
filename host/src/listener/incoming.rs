//! Connections that were accepted, before their handshake and while it goes on.

use std::fmt;
use std::future::{Future, IntoFuture, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use endpoints_plugin_api::abi::bytes::RBytes;
use endpoints_plugin_api::abi::conn::{Body, Handshaking, Taken};
use tokio::time::{Instant, sleep, sleep_until};

use crate::address::Address;
use crate::connection::{Connection, ConnectionInfo};
use crate::error::{Error, ErrorKind};
use crate::serve::{Stopping, Terms};

/// A connection that was accepted; its handshake, where it has one, is done by awaiting it.
///
/// Dropping it closes the connection.
#[must_use = "it is closed unless it is awaited"]
pub struct Incoming {
    pub(super) state: State,
    /// What whoever serves it holds it to.
    terms: Option<Box<Terms>>,
}

/// How long a handshake may go on when whoever serves it is told to stop.
const LAST_HANDSHAKES: Duration = Duration::from_secs(2);

pub(super) enum State {
    Ready(Connection),
    /// `early` is what is known before, encoded; few ask for it.
    Handshake {
        early: RBytes,
        handshake: Handshaking,
        scheme: Arc<str>,
    },
}

/// When a handshake is given up, and the length of time that it had.
#[derive(Clone, Copy)]
pub(crate) struct Limit {
    at: Instant,
    length: Duration,
}

impl Limit {
    /// So long from now; `None` where that never comes.
    pub(crate) fn from_now(length: Duration) -> Option<Self> {
        Instant::now().checked_add(length).map(|at| Self { at, length })
    }
}

impl Incoming {
    pub(super) fn new(state: State) -> Self {
        Self { state, terms: None }
    }

    pub(crate) fn on_terms(&mut self, terms: Terms) {
        self.terms = Some(Box::new(terms));
    }

    /// What is known before the handshake: at least the peer's address, where the transport has one.
    #[must_use]
    pub fn info(&self) -> ConnectionInfo {
        match &self.state {
            State::Ready(connection) => connection.info(),
            State::Handshake { early, .. } => ConnectionInfo::decode(early.as_slice()),
        }
    }

    /// What is known before its handshake, for whoever tells that this has failed.
    pub(crate) fn take_early(&mut self) -> Early {
        Early(match &mut self.state {
            State::Ready(_) => RBytes::EMPTY,
            State::Handshake { early, .. } => std::mem::take(early),
        })
    }

    /// Has the reactor of this thread watch its socket, in place of the one that did. Where a handshake is to come, its plugin has the
    /// socket, and all goes on as it is.
    pub(crate) fn watch_here(&mut self) {
        if let State::Ready(connection) = &mut self.state {
            connection.watch_here();
        }
    }

    /// Whether there is nothing left to wait for.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready(_))
    }

    /// Tells when whoever serves the connection is told to stop. Where nobody serves it, that never happens.
    ///
    /// A server whose connections stay open between requests ends them then, instead of having them cut at the end of the
    /// drain timeout.
    #[must_use]
    pub fn stopping(&self) -> Stopping {
        self.terms.as_ref().map_or_else(Stopping::never, |terms| terms.stopping.clone())
    }

    /// Does the handshake within a time limit, beside that of whoever serves it.
    ///
    /// # Errors
    /// Why the handshake failed; [`ErrorKind::TimedOut`] when the time is over; [`ErrorKind::Closed`] if it is served by
    /// [`Serve`](crate::serve::Serve), which was told to stop, and is not done two seconds after that;
    /// [`ErrorKind::ResourceExhausted`] if its peer, who is known only now, has as many connections as it may have.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub async fn establish(self, limit: Duration) -> Result<Connection, Error> {
        self.establishing(Limit::from_now(limit)).await
    }

    fn establishing(self, limit: Option<Limit>) -> Establishing {
        let Self { state, terms } = self;
        Establishing(match state {
            State::Ready(connection) => Progress::Ready(match terms {
                Some(terms) => terms.begin(connection),
                None => connection,
            }),
            State::Handshake { handshake, scheme, .. } => {
                let handshake = Shaking { handshake, scheme };
                if limit.is_none() && terms.is_none() {
                    Progress::Handshake(handshake)
                } else {
                    Progress::Limited(Box::pin(within(handshake, limit, terms)))
                }
            }
        })
    }

    pub(super) fn into_taken(self) -> Taken {
        match self.state {
            State::Ready(connection) => connection.into_taken(),
            State::Handshake { early, handshake, scheme } => {
                let done = Shaking { handshake, scheme };
                let handshake = Handshaking::new(async move {
                    done.await.map(Connection::into_taken).map_err(|error| error.to_api())
                });
                Taken {
                    body: Body::Handshake(handshake),
                    facts: ConnectionInfo::decode(early.as_slice()).encode().into(),
                    leftover: RBytes::EMPTY,
                }
            }
        }
    }
}

/// A handshake within the time limits that it has.
async fn within(
    handshake: Shaking,
    limit: Option<Limit>,
    terms: Option<Box<Terms>>,
) -> Result<Connection, Error> {
    let served = terms.as_ref().and_then(|terms| terms.limit);
    let limit = [limit, served].into_iter().flatten().min_by_key(|limit| limit.at);
    let over = async {
        match limit {
            Some(limit) => {
                sleep_until(limit.at).await;
                limit.length
            }
            None => pending().await,
        }
    };
    let stopped = async {
        match &terms {
            Some(terms) => terms.stopping.wait().await,
            None => pending().await,
        }
        sleep(LAST_HANDSHAKES).await;
    };
    let connection = tokio::select! {
        // What is done at once needs no timer.
        biased;
        established = handshake => established?,
        length = over => {
            let message = format!("the handshake of an accepted connection was not done within {length:?}");
            return Err(Error::new(ErrorKind::TimedOut, message));
        }
        () = stopped => {
            let message = "the handshake of an accepted connection was not done when serving was to stop";
            return Err(Error::new(ErrorKind::Closed, message));
        }
    };
    match terms {
        Some(terms) => {
            terms.admit(&connection)?;
            Ok(terms.begin(connection))
        }
        None => Ok(connection),
    }
}

/// What was known of a connection before its handshake; nothing where it had none.
pub(crate) struct Early(RBytes);

impl Early {
    pub(crate) fn peer_addr(&self) -> Option<Address> {
        ConnectionInfo::decode(self.0.as_slice()).peer_addr()
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("ready", &self.is_ready()).finish_non_exhaustive()
    }
}

impl IntoFuture for Incoming {
    type Output = Result<Connection, Error>;
    type IntoFuture = Establishing;

    fn into_future(self) -> Establishing {
        self.establishing(None)
    }
}

/// The handshake of an [`Incoming`], to be awaited. Dropping it closes the connection.
pub struct Establishing(Progress);

enum Progress {
    Ready(Connection),
    Handshake(Shaking),
    Limited(Pin<Box<dyn Future<Output = Result<Connection, Error>> + Send + Sync>>),
    Done,
}

/// A plugin's handshake.
#[derive(Debug)]
struct Shaking {
    handshake: Handshaking,
    scheme: Arc<str>,
}

impl Future for Shaking {
    type Output = Result<Connection, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let taken = ready!(Pin::new(&mut self.handshake).poll(cx));
        Poll::Ready(match taken {
            Ok(taken) => Connection::from_taken(taken, &self.scheme),
            Err(error) => Err(Error::from(error).with_scheme(&self.scheme)),
        })
    }
}

impl Future for Establishing {
    type Output = Result<Connection, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let done = match &mut self.0 {
            Progress::Handshake(handshake) => ready!(Pin::new(handshake).poll(cx)),
            Progress::Limited(handshake) => ready!(handshake.as_mut().poll(cx)),
            Progress::Ready(_) | Progress::Done => {
                return Poll::Ready(match std::mem::replace(&mut self.0, Progress::Done) {
                    Progress::Ready(connection) => Ok(connection),
                    _ => Err(Error::new(ErrorKind::Internal, "a handshake was awaited after its end")),
                });
            }
        };
        self.0 = Progress::Done;
        Poll::Ready(done)
    }
}

impl fmt::Debug for Establishing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Progress::Ready(_) => "Establishing(Ready)",
            Progress::Handshake(_) | Progress::Limited(_) => "Establishing(Handshake)",
            Progress::Done => "Establishing(Done)",
        })
    }
}
