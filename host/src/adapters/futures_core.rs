//! Connections as a stream.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use crate::connection::Connection;
use crate::error::{Error, ErrorKind};
use crate::listener::Established;

/// The connections, as [`Established::accept`] gives them. It ends where the listener has no more to give
/// ([`ErrorKind::Closed`]); any other error is its last item.
impl Stream for Established {
    type Item = Result<Connection, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match ready!(self.poll_accept(cx)) {
            Ok(connection) => Poll::Ready(Some(Ok(connection))),
            Err(error) if error.kind() == ErrorKind::Closed => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }
}
