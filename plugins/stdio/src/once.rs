//! A listener that has one connection to give.

use std::sync::{Mutex, PoisonError};

use endpoints_plugin_api::{Accept, Connection, Error, ErrorKind, Incoming};

/// Gives its connection to the first who accepts, and tells everybody else that it is closed.
pub(crate) struct Once(Mutex<Option<Connection>>);

impl Once {
    pub(crate) fn new(connection: Connection) -> Self {
        Self(Mutex::new(Some(connection)))
    }
}

impl Accept for Once {
    async fn accept(&self) -> Result<Incoming, Error> {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        connection
            .map(Incoming::ready)
            .ok_or_else(|| Error::new(ErrorKind::Closed, "there is one connection only, which was accepted"))
    }
}
