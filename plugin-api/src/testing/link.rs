//! How well connections behave.

use std::io;

use crate::error::{Error, ErrorKind};
use crate::facts::Facts;

/// How the connections of a name in memory behave to the plugin. Without further words: well.
#[derive(Clone, Debug)]
pub struct Link {
    pub(super) capacity: usize,
    pub(super) chunk: usize,
    pub(super) pending: bool,
    pub(super) read_error: Option<(usize, io::ErrorKind)>,
    pub(super) write_error: Option<(usize, io::ErrorKind)>,
    pub(super) connecting: Connecting,
    pub(super) facts: Facts,
}

/// What becomes of the plugin's attempts to connect.
#[derive(Clone, Debug)]
pub(super) enum Connecting {
    Works,
    Fails(Error),
    Hangs,
}

impl Link {
    /// Connections that work.
    #[must_use]
    pub fn new() -> Self {
        Self {
            capacity: 64 * 1024,
            chunk: usize::MAX,
            pending: false,
            read_error: None,
            write_error: None,
            connecting: Connecting::Works,
            facts: Facts::new(),
        }
    }

    /// Holds so many bytes in each direction (at least one, at first 65536) until the other end reads; then writing has to
    /// wait.
    #[must_use]
    pub fn capacity(self, bytes: usize) -> Self {
        Self { capacity: bytes.max(1), ..self }
    }

    /// No read and no write of the plugin's takes more than so many bytes (at least one).
    #[must_use]
    pub fn chunk(self, bytes: usize) -> Self {
        Self { chunk: bytes.max(1), ..self }
    }

    /// Every other poll of the plugin's has to wait, if only for a moment.
    #[must_use]
    pub fn pending(self) -> Self {
        Self { pending: true, ..self }
    }

    /// Once the plugin has read so many bytes, further reads fail.
    #[must_use]
    pub fn read_error_after(self, bytes: usize, kind: io::ErrorKind) -> Self {
        Self { read_error: Some((bytes, kind)), ..self }
    }

    /// Once the plugin has written so many bytes, further writes fail.
    #[must_use]
    pub fn write_error_after(self, bytes: usize, kind: io::ErrorKind) -> Self {
        Self { write_error: Some((bytes, kind)), ..self }
    }

    /// The plugin's attempts to connect fail like this. (Where nobody listens, they are refused anyway.)
    #[must_use]
    pub fn connect_error(self, kind: ErrorKind) -> Self {
        let error = Error::new(kind, format!("the link says that connecting fails: {kind}"));
        Self { connecting: Connecting::Fails(error), ..self }
    }

    /// The plugin's attempts to connect never end.
    #[must_use]
    pub fn connect_hangs(self) -> Self {
        Self { connecting: Connecting::Hangs, ..self }
    }

    /// The plugin is told this about each connection, such as a [`PEER_IP`](crate::name::PEER_IP).
    #[must_use]
    pub fn fact(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.facts.push(name, value);
        self
    }
}

impl Default for Link {
    fn default() -> Self {
        Self::new()
    }
}
