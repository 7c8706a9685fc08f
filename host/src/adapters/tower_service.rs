//! Client endpoints as services: a request is an attempt to connect.

use std::task::{Context, Poll};

use tower_service::Service;

use crate::connection::Connection;
use crate::endpoint::{ClientEndpoint, ConnectContext};
use crate::error::Error;
use crate::service::BoxFuture;

/// Connects, as [`ClientEndpoint::connect`].
///
/// # Examples
///
/// ```
/// use endpoints::{ClientEndpoint, Connection};
/// use tower_service::Service;
///
/// fn is_connector(_: &impl Service<(), Response = Connection>) {}
///
/// let endpoint: ClientEndpoint = endpoints::client("unix:/run/app.sock")?;
/// is_connector(&endpoint);
/// # Ok::<(), endpoints::Error>(())
/// ```
impl Service<()> for ClientEndpoint {
    type Response = Connection;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Connection, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        let endpoint = self.clone();
        Box::pin(async move { endpoint.connect().await })
    }
}

/// Connects, as [`ClientEndpoint::connect_with`].
impl Service<ConnectContext> for ClientEndpoint {
    type Response = Connection;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Connection, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, context: ConnectContext) -> Self::Future {
        let endpoint = self.clone();
        Box::pin(async move { endpoint.connect_with(context).await })
    }
}
