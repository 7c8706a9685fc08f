//! How those who use connections learn that they are to end.

use std::future::pending;

use tokio::sync::watch;

/// Tells when whoever serves a connection, or keeps it up, is told to stop: from then on it has the drain timeout, or the close
/// timeout, to end by itself.
///
/// [`Incoming::stopping`](crate::Incoming::stopping) gives it, and a [`ServerService`](crate::service::ServerService) or
/// [`ClientService`](crate::service::ClientService) hands it to the function that uses a connection; cheap to clone.
///
/// # Examples
///
/// A connection that stays open between requests ends once the one under way is answered:
///
/// ```no_run
/// # async fn answer(connection: &mut endpoints::Connection, request: &str) -> std::io::Result<()> { Ok(()) }
/// use endpoints::Incoming;
/// use tokio::io::{AsyncBufReadExt, BufReader};
///
/// async fn serve(incoming: Incoming) -> std::io::Result<()> {
///     let stopping = incoming.stopping();
///     let mut connection = BufReader::new(incoming.await?);
///     let mut request = String::new();
///     loop {
///         request.clear();
///         tokio::select! {
///             read = connection.read_line(&mut request) => if read? == 0 { return Ok(()) },
///             () = stopping.wait() => return Ok(()),
///         }
///         answer(connection.get_mut(), &request).await?;
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Stopping(Option<watch::Receiver<bool>>);

/// Told when the value is `true`, or whoever would send it is gone: for handlers that are called otherwise than by a service,
/// such as in a test.
impl From<watch::Receiver<bool>> for Stopping {
    fn from(told: watch::Receiver<bool>) -> Self {
        Self::new(told)
    }
}

impl Stopping {
    pub(crate) fn new(told: watch::Receiver<bool>) -> Self {
        Self(Some(told))
    }

    /// One that is never told: for handlers that are called otherwise than by a service.
    #[must_use]
    pub fn never() -> Self {
        Self(None)
    }

    /// Whether it has been told to stop, or serving is over.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        // Whoever would say so may be gone without a word.
        self.0.as_ref().is_some_and(|told| *told.borrow() || told.has_changed().is_err())
    }

    /// Waits until it is told to stop, or serving is over.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn wait(&self) {
        match self.0.clone() {
            // An error says the same: whoever would say so is gone.
            Some(mut told) => drop(told.wait_for(|told| *told).await),
            None => pending().await,
        }
    }
}
