//! A listener that does the handshakes itself.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep};

use super::{Incoming, Listener, State};
use crate::connection::Connection;
use crate::error::{Error, ErrorKind};
use crate::serve::Failures;

/// A [`Listener`] that does the handshakes itself, and gives connections that are ready for use; made by
/// [`Listener::into_established`].
///
/// This is for servers that want one connection after another, such as `axum::serve`. Each handshake goes on in a task of
/// its own, so a slow peer delays nobody; there are [so many](Self::max_handshakes) at a time, and none takes longer than
/// [so long](Self::handshake_timeout). A handshake that fails, and an error of accepting that may pass, are
/// [told](Self::on_error) and end nothing.
///
/// Dropping it stops listening and closes the connections whose handshakes are not done.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> Result<(), endpoints::Error> {
/// let listener = endpoints::server("tls:/etc/ssl/site.pem:443")?.listen().await?;
/// let mut established = listener.into_established();
/// loop {
///     let connection = established.accept().await?;
///     tokio::spawn(async move { drop(connection) });
/// }
/// # }
/// ```
pub struct Established {
    listener: Listener,
    handshakes: JoinSet<Result<Connection, Error>>,
    most: usize,
    limit: Duration,
    on_error: Arc<dyn Fn(&Error) + Send + Sync>,
    /// Errors of accepting in a row.
    failures: Failures,
    /// After an error of accepting.
    pause: Option<Pin<Box<Sleep>>>,
    /// Why no more connections will come.
    over: Option<Error>,
}

impl Listener {
    /// Has the handshakes done by the listener: at most 1024 at a time, none longer than 10 s.
    #[must_use]
    pub fn into_established(self) -> Established {
        Established {
            listener: self,
            handshakes: JoinSet::new(),
            most: 1024,
            limit: Duration::from_secs(10),
            on_error: Arc::new(|error| tracing::debug!(%error, "no connection of what was accepted")),
            failures: Failures::default(),
            pause: None,
            over: None,
        }
    }
}

impl Established {
    /// Does at most so many handshakes at a time, at least one; whoever comes then waits in the backlog.
    #[must_use]
    pub fn max_handshakes(mut self, most: usize) -> Self {
        self.most = most.max(1);
        self
    }

    /// Gives up a handshake that takes longer. The description's own limit holds beside it.
    #[must_use]
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Calls `tell` for every error that ends nothing: a handshake that failed, accepting that may go better after the
    /// pause that is made then. It must not block. Unless given, they go to the log (`tracing`, level debug).
    #[must_use]
    pub fn on_error(mut self, tell: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        self.on_error = Arc::new(tell);
        self
    }

    /// The listener: its addresses, and how it is reached.
    #[must_use]
    pub fn listener(&self) -> &Listener {
        &self.listener
    }

    /// Waits for the next connection, its handshake done.
    ///
    /// # Errors
    /// Why no more will come: [`ErrorKind::Closed`] where the listener has none to give, as that of `stdio` after its
    /// one; [`ErrorKind::PluginPanicked`], once, where its plugin can do no more.
    ///
    /// # Cancel safety
    /// No connection is lost when the future is dropped.
    pub async fn accept(&mut self) -> Result<Connection, Error> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// As [`accept`](Self::accept), for those who poll. One task at a time is woken.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept).
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Connection, Error>> {
        loop {
            match self.handshakes.poll_join_next(cx) {
                Poll::Ready(Some(Ok(Ok(connection)))) => return Poll::Ready(Ok(connection)),
                Poll::Ready(Some(Ok(Err(error)))) => {
                    (self.on_error)(&error);
                    continue;
                }
                Poll::Ready(Some(Err(panic))) => {
                    let message = format!("a handshake failed: {panic}");
                    (self.on_error)(&Error::new(ErrorKind::Internal, message));
                    continue;
                }
                Poll::Ready(None) => {
                    if let Some(error) = self.over.take() {
                        let closed =
                            Error::new(ErrorKind::Closed, "the listener has no more connections to give");
                        self.over = Some(closed);
                        return Poll::Ready(Err(error));
                    }
                }
                Poll::Pending => {
                    if self.over.is_some() || self.handshakes.len() >= self.most {
                        return Poll::Pending;
                    }
                }
            }
            if let Some(connection) = ready!(self.poll_incoming(cx)) {
                return Poll::Ready(Ok(connection));
            }
        }
    }

    /// Accepts once; gives the connection where it has no handshake.
    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Connection>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        match ready!(self.listener.poll_accept(cx)) {
            Ok(Incoming { state: State::Ready(connection), .. }) => {
                self.failures = Failures::default();
                return Poll::Ready(Some(connection));
            }
            Ok(incoming) => {
                self.failures = Failures::default();
                self.handshakes.spawn(incoming.establish(self.limit));
            }
            Err(error) if matches!(error.kind(), ErrorKind::Closed | ErrorKind::PluginPanicked) => {
                self.over = Some(error);
            }
            Err(error) => {
                (self.on_error)(&error);
                self.pause = Some(Box::pin(sleep(self.failures.pause())));
            }
        }
        Poll::Ready(None)
    }

    /// Stops listening and waits until that is done, as [`Listener::close`]; connections whose handshakes are not done are
    /// closed.
    ///
    /// # Errors
    /// As for [`Listener::close`].
    ///
    /// # Cancel safety
    /// Listening ends also when the future is dropped.
    pub async fn close(mut self) -> Result<(), Error> {
        self.handshakes.shutdown().await;
        self.listener.close().await
    }
}

impl fmt::Debug for Established {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Established")
            .field("listener", &self.listener)
            .field("handshakes", &self.handshakes.len())
            .finish_non_exhaustive()
    }
}
