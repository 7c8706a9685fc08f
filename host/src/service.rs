//! Services: what a program starts, keeps running and stops again.

use std::future::Future;
use std::pin::Pin;

use crate::error::Error;

mod backoff;
#[cfg(test)]
mod chance;
mod client;
mod group;
mod server;
mod signal;

pub use backoff::{Backoff, RetryPolicy};
pub use client::{ClientService, ClientServiceBuilder, ClientState, Order};
pub use group::ServiceGroup;
pub use server::{ServerService, ServerServiceBuilder, ServerState};

/// A future behind a pointer, as the methods of [`Service`] give it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Something that is started and stopped, any number of times.
pub trait Service: Send + Sync {
    /// What logs and errors call it.
    fn name(&self) -> String;

    /// Does what needs privileges, such as opening a port below 1024: [`start`](Self::start) needs them no more then.
    /// Nothing is served yet.
    ///
    /// Does nothing where the service needs none, is bound already, or runs.
    ///
    /// # Errors
    /// Why it cannot.
    ///
    /// # Cancel safety
    /// Dropping the future gives it up.
    fn bind(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }

    /// Starts it, binding first where that has not been done. Does nothing where it runs.
    ///
    /// # Errors
    /// Why it cannot; it is stopped then.
    ///
    /// # Cancel safety
    /// Dropping the future gives it up, unless it has started.
    fn start(&self) -> BoxFuture<'_, Result<(), Error>>;

    /// Stops it, and waits until it has stopped. Does nothing where it does not run.
    ///
    /// # Errors
    /// What went wrong on the way; it has stopped all the same.
    ///
    /// # Cancel safety
    /// It is told to stop when the future is first polled; dropping the future then stops the waiting alone.
    fn stop(&self) -> BoxFuture<'_, Result<(), Error>>;

    /// Waits until it ends without having been told to, for ever where that does not happen: `Ok` if it had nothing more to
    /// do. Tells so to all who wait, and to those who ask afterwards, until it is started or stopped again.
    ///
    /// # Errors
    /// Why it could not go on.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    fn ended(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(std::future::pending())
    }
}

impl<S: Service + ?Sized> Service for std::sync::Arc<S> {
    fn name(&self) -> String {
        (**self).name()
    }

    fn bind(&self) -> BoxFuture<'_, Result<(), Error>> {
        (**self).bind()
    }

    fn start(&self) -> BoxFuture<'_, Result<(), Error>> {
        (**self).start()
    }

    fn stop(&self) -> BoxFuture<'_, Result<(), Error>> {
        (**self).stop()
    }

    fn ended(&self) -> BoxFuture<'_, Result<(), Error>> {
        (**self).ended()
    }
}
