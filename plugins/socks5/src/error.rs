//! Failed handshakes in the terms of the plugin API.

use std::io;

use endpoints_plugin_api::{Error, ErrorKind};

use crate::protocol::{Field, Handshake, ProtocolError, Reply, Stage};

impl From<ProtocolError> for Error {
    fn from(error: ProtocolError) -> Self {
        let message = error.to_string();
        match argument_of(&error) {
            Some(argument) => Self::invalid_argument(argument, format!("{argument}: {message}")),
            None => Self::new(kind_of(&error), message).with_retryable(error.is_retryable()),
        }
    }
}

/// The error for I/O with the proxy that failed during the handshake.
pub(crate) fn io_failed(handshake: &Handshake, error: &io::Error) -> Error {
    let stage = handshake.stage();
    let failed = Error::from_io(format_args!("the connection to the proxy failed while {stage}"), error);
    match failed.kind() {
        // A reset is an end of the stream by another name: some proxies refuse credentials so.
        ErrorKind::ConnectionReset => failed.with_retryable(handshake.ended().is_retryable()),
        _ => failed,
    }
}

/// The argument of the description that a field of the request is made from.
fn argument_of(error: &ProtocolError) -> Option<&'static str> {
    match error {
        ProtocolError::Empty { field } | ProtocolError::TooLong { field } => Some(match field {
            Field::TargetName => "host",
            Field::Username => "username",
            Field::Password => "password",
        }),
        _ => None,
    }
}

fn kind_of(error: &ProtocolError) -> ErrorKind {
    match error {
        ProtocolError::Empty { .. } | ProtocolError::TooLong { .. } => ErrorKind::InvalidArgument,
        ProtocolError::NoAcceptableMethod { .. } | ProtocolError::AuthenticationRefused { .. } => {
            ErrorKind::AuthenticationFailed
        }
        // Whoever hangs up on credentials refuses them, as far as anyone can tell.
        ProtocolError::Ended { stage: Stage::Authentication } => ErrorKind::AuthenticationFailed,
        ProtocolError::NotSocks5 { .. }
        | ProtocolError::MethodNotOffered { .. }
        | ProtocolError::AuthenticationVersion { .. }
        | ProtocolError::BadAddressType { .. }
        | ProtocolError::Ended { .. } => ErrorKind::HandshakeFailed,
        ProtocolError::Refused { reply } => match reply {
            Reply::NotAllowed => ErrorKind::PermissionDenied,
            Reply::NetworkUnreachable | Reply::HostUnreachable | Reply::TtlExpired => ErrorKind::Unreachable,
            Reply::ConnectionRefused => ErrorKind::ConnectionRefused,
            Reply::CommandNotSupported | Reply::AddressTypeNotSupported => ErrorKind::Unsupported,
            Reply::GeneralFailure | Reply::Unknown(_) => ErrorKind::Other,
        },
    }
}
