//! Errors as they cross the boundary.

use abi_stable::StableAbi;

use super::bytes::RBytes;
use crate::error::{Error, ErrorKind};

/// An error, or none where `kind` is 0.
#[repr(C)]
#[derive(Debug, StableAbi)]
pub struct RError {
    /// The number of the [`ErrorKind`]; 0: no error. A number that the reader does not know reads as other.
    pub kind: u32,
    /// The operating system's error number, 0 where there is none.
    pub os: i32,
    /// Whether a retry makes sense: 0 by the kind, 1 yes, 2 no.
    pub retry: u32,
    /// Zero, for later use.
    pub reserved: u32,
    /// One line for a person, UTF-8. A reader makes one of whatever is there.
    pub message: RBytes,
    /// The argument that is at fault, empty where none is.
    pub argument: RBytes,
}

impl RError {
    /// No error.
    pub const NONE: Self =
        Self { kind: 0, os: 0, retry: 0, reserved: 0, message: RBytes::EMPTY, argument: RBytes::EMPTY };

    /// The error, if there is one.
    #[must_use]
    pub fn into_error(self) -> Option<Error> {
        if self.kind == 0 {
            return None;
        }
        let mut error = Error::new(ErrorKind::from_code(self.kind), self.message.to_line());
        error.os = (self.os != 0).then_some(self.os);
        error.retryable = match self.retry {
            1 => Some(true),
            2 => Some(false),
            _ => None,
        };
        if !self.argument.as_slice().is_empty() {
            error.argument = Some(self.argument.to_line());
        }
        Some(error)
    }
}

impl From<Error> for RError {
    fn from(error: Error) -> Self {
        Self {
            kind: error.kind.code(),
            os: error.os.unwrap_or(0),
            retry: match error.retryable {
                None => 0,
                Some(true) => 1,
                Some(false) => 2,
            },
            reserved: 0,
            message: error.message.into(),
            argument: error.argument.map_or(RBytes::EMPTY, RBytes::from),
        }
    }
}
