//! The client side of the SOCKS5 handshake (RFC 1928, with the user name and password of RFC 1929), without I/O.
//!
//! A [`Handshake`] says what to write and how many bytes to read next; the caller moves the bytes. It asks only for
//! bytes that the protocol says must come, so nothing beyond the handshake is ever taken from the stream: when it is
//! [done](Step::Done), the stream is the bare connection to the target and there are no leftover bytes to carry.
//!
//! Only the CONNECT command is spoken. The authentication methods are "none" (0x00) and, where credentials are
//! given, "user name and password" (0x02).
#![forbid(unsafe_code)]

mod bound;
mod error;
mod request;
#[cfg(test)]
mod tests;

use std::fmt;
use std::mem;

use self::bound::AddressType;

pub use self::bound::Bound;
pub use self::error::{Field, ProtocolError, Reply, Stage};
pub use self::request::{Credentials, Target};

/// The protocol version in the first byte of every RFC 1928 message.
const VERSION: u8 = 5;
/// The version of the user name and password sub-negotiation, RFC 1929 section 2.
const LOGIN_VERSION: u8 = 1;
/// The method "no authentication required", RFC 1928 section 3.
const METHOD_NONE: u8 = 0x00;
/// The method "user name and password", RFC 1928 section 3.
const METHOD_LOGIN: u8 = 0x02;
/// The proxy's answer that it accepts none of the methods, RFC 1928 section 3.
const METHOD_NO_ACCEPTABLE: u8 = 0xFF;

/// One SOCKS5 handshake, from the greeting to the proxy's reply to the CONNECT request.
///
/// Ask for the next [`step`](Self::step), do it, report how far it went with [`wrote`](Self::wrote) or
/// [`filled`](Self::filled), and repeat until [`Step::Done`]. Writes and reads may be partial.
///
/// `Debug` never shows the bytes to be sent, as they may hold credentials.
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
///
/// use endpoints_plugin_socks5::protocol::{Handshake, Step, Target};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let target = Target::Name { host: "example.com".to_owned(), port: 80 };
/// let mut handshake = Handshake::new(target, None)?;
///
/// // What the proxy sends: the method, the reply, and then the first bytes from the target.
/// let mut incoming: &[u8] = b"\x05\x00\x05\x00\x00\x01\x7f\x00\x00\x01\x04\x38hello";
/// let mut outgoing = Vec::new();
/// let bound = loop {
///     match handshake.step() {
///         Step::Write(bytes) => {
///             let n = outgoing.write(bytes)?;
///             handshake.wrote(n);
///         }
///         Step::Read(space) => {
///             let n = incoming.read(space)?;
///             handshake.filled(n)?;
///         }
///         Step::Done(bound) => break bound,
///         Step::Failed(error) => return Err(error.into()),
///     }
/// };
/// assert_eq!(bound.to_string(), "127.0.0.1:1080");
/// assert_eq!(outgoing, b"\x05\x01\x00\x05\x01\x00\x03\x0bexample.com\x00\x50");
/// assert_eq!(incoming, b"hello");
/// # Ok(())
/// # }
/// ```
pub struct Handshake {
    state: State,
    failure: Option<ProtocolError>,
    /// What is being written or read in this state; never both at once.
    buffer: Vec<u8>,
    /// How much of `buffer` is already written or filled. Less than its length until the handshake is done or has failed.
    progress: usize,
    /// The encoded credentials, until they are sent.
    login: Option<Vec<u8>>,
    /// The encoded CONNECT request, until it is sent.
    request: Vec<u8>,
}

/// What the caller of a [`Handshake`] must do next.
///
/// `Debug` shows the number of bytes, not the bytes, as they may hold credentials.
// Exhaustive on purpose: a caller that cannot do one of the steps cannot complete a handshake.
pub enum Step<'a> {
    /// Write some of these bytes, then report how many with [`Handshake::wrote`]. Never empty.
    Write(&'a [u8]),
    /// Fill this from its start, as far as bytes are at hand, then report how many with [`Handshake::filled`]. Never
    /// empty, never longer than 257 bytes, and never more than the proxy has to send at this point.
    Read(&'a mut [u8]),
    /// The proxy has connected to the target; all further bytes on the stream are the target's.
    Done(Bound),
    /// The handshake has failed, with the error [`Handshake::filled`] returned; close the connection.
    Failed(ProtocolError),
}

#[derive(Debug)]
enum State {
    WriteGreeting,
    ReadMethod,
    WriteLogin,
    ReadLoginStatus,
    WriteRequest,
    ReadReplyHeader,
    ReadNameLength,
    ReadAddress(AddressType),
    Done(Bound),
}

impl Handshake {
    /// Prepares a handshake that asks the proxy to connect to `target`.
    ///
    /// Without credentials the greeting offers only the method "none"; with them it also offers "user name and
    /// password", and the proxy chooses.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::Empty`] or [`ProtocolError::TooLong`] if the target's name, the user name or the password is
    /// not 1 to 255 bytes long.
    pub fn new(target: Target, credentials: Option<Credentials>) -> Result<Self, ProtocolError> {
        let request = target.into_request()?;
        let login = credentials.map(Credentials::into_login).transpose()?;
        let greeting = match login {
            Some(_) => vec![VERSION, 2, METHOD_NONE, METHOD_LOGIN],
            None => vec![VERSION, 1, METHOD_NONE],
        };
        Ok(Self { state: State::WriteGreeting, failure: None, buffer: greeting, progress: 0, login, request })
    }

    /// What to do next.
    ///
    /// Asking again without a report in between gives the same step.
    pub fn step(&mut self) -> Step<'_> {
        if let Some(error) = &self.failure {
            return Step::Failed(error.clone());
        }
        match &self.state {
            State::WriteGreeting | State::WriteLogin | State::WriteRequest => {
                Step::Write(&self.buffer[self.progress..])
            }
            State::ReadMethod
            | State::ReadLoginStatus
            | State::ReadReplyHeader
            | State::ReadNameLength
            | State::ReadAddress(_) => Step::Read(&mut self.buffer[self.progress..]),
            State::Done(bound) => Step::Done(bound.clone()),
        }
    }

    /// Reports that the first `n` bytes of [`Step::Write`] are written.
    ///
    /// # Panics
    ///
    /// If the present step is not [`Step::Write`], or `n` is more than it offered.
    pub fn wrote(&mut self, n: usize) {
        let offered = match self.step() {
            Step::Write(bytes) => bytes.len(),
            step => panic!("`wrote` was called when the step was {step:?}"),
        };
        assert!(n <= offered, "{n} bytes written, but only {offered} were offered");
        self.progress += n;
        if n < offered {
            return;
        }
        match self.state {
            State::WriteGreeting => self.read(State::ReadMethod, 2),
            State::WriteLogin => self.read(State::ReadLoginStatus, 2),
            _ => self.read(State::ReadReplyHeader, 4),
        }
    }

    /// Reports that the first `n` bytes of [`Step::Read`] are filled.
    ///
    /// As with [`std::io::Read::read`], 0 means that the stream has ended. After a failure, returns the same error
    /// again.
    ///
    /// # Errors
    ///
    /// The proxy refused, broke the protocol, or ended the stream; the handshake cannot go on. A refusal is reported
    /// as soon as it is known, so bytes that follow it in the reply may be left unread.
    ///
    /// # Panics
    ///
    /// If the present step is [`Step::Write`] or [`Step::Done`], or `n` is more than was asked for.
    pub fn filled(&mut self, n: usize) -> Result<(), ProtocolError> {
        let asked = match self.step() {
            Step::Read(space) => space.len(),
            Step::Failed(error) => return Err(error),
            step => panic!("`filled` was called when the step was {step:?}"),
        };
        assert!(n <= asked, "{n} bytes filled, but only {asked} were asked for");
        self.progress += n;
        let result = match n {
            0 => Err(self.ended()),
            _ if n < asked => Ok(()),
            _ => self.received(),
        };
        if let Err(error) = &result {
            self.failure = Some(error.clone());
        }
        result
    }

    /// The error for a stream that ends, in either direction, at the present state.
    ///
    /// If the handshake has failed already, this is that failure.
    #[must_use]
    pub fn ended(&self) -> ProtocolError {
        self.failure.clone().unwrap_or_else(|| ProtocolError::Ended { stage: self.stage() })
    }

    /// How far the handshake has come; after a failure, where it failed.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self.state {
            State::WriteGreeting | State::ReadMethod => Stage::Method,
            State::WriteLogin | State::ReadLoginStatus => Stage::Authentication,
            State::WriteRequest | State::ReadReplyHeader | State::ReadNameLength | State::ReadAddress(_) => {
                Stage::Request
            }
            State::Done(_) => Stage::Established,
        }
    }

    /// Acts on a completely filled buffer.
    fn received(&mut self) -> Result<(), ProtocolError> {
        let bytes = mem::take(&mut self.buffer);
        match self.state {
            State::ReadMethod => self.method(exactly(&bytes)),
            State::ReadLoginStatus => self.login_status(exactly(&bytes)),
            State::ReadReplyHeader => self.reply_header(exactly(&bytes)),
            State::ReadNameLength => {
                let [length] = exactly(&bytes);
                self.read_address(AddressType::Name, usize::from(length));
                Ok(())
            }
            State::ReadAddress(kind) => {
                self.state = State::Done(Bound::decode(kind, &bytes));
                Ok(())
            }
            State::WriteGreeting | State::WriteLogin | State::WriteRequest | State::Done(_) => {
                unreachable!("nothing is read in this state")
            }
        }
    }

    /// The proxy's choice of a method, RFC 1928 section 3.
    fn method(&mut self, [version, method]: [u8; 2]) -> Result<(), ProtocolError> {
        self.check_version(version)?;
        let login = self.login.take();
        match (method, login) {
            (METHOD_NONE, _) => self.write_request(),
            (METHOD_LOGIN, Some(login)) => self.write(State::WriteLogin, login),
            (METHOD_NO_ACCEPTABLE, login) => {
                return Err(ProtocolError::NoAcceptableMethod { credentials_given: login.is_some() });
            }
            (method, _) => return Err(ProtocolError::MethodNotOffered { method }),
        }
        Ok(())
    }

    /// The proxy's verdict on the credentials, RFC 1929 section 2.
    fn login_status(&mut self, [version, status]: [u8; 2]) -> Result<(), ProtocolError> {
        if version != LOGIN_VERSION {
            return Err(ProtocolError::AuthenticationVersion { version });
        }
        if status != 0 {
            return Err(ProtocolError::AuthenticationRefused { status });
        }
        self.write_request();
        Ok(())
    }

    /// The fixed part of the reply to the request, RFC 1928 section 6. The reserved byte is not looked at, as there is
    /// nothing that could be done about it.
    fn reply_header(
        &mut self,
        [version, reply, _reserved, address_type]: [u8; 4],
    ) -> Result<(), ProtocolError> {
        self.check_version(version)?;
        // Before the address type: of a refusal, proxies are known to send no more than this, or garbage.
        if let Some(reply) = Reply::from_code(reply) {
            return Err(ProtocolError::Refused { reply });
        }
        match AddressType::from_code(address_type) {
            Some(AddressType::V4) => self.read_address(AddressType::V4, 4),
            Some(AddressType::V6) => self.read_address(AddressType::V6, 16),
            Some(AddressType::Name) => self.read(State::ReadNameLength, 1),
            None => return Err(ProtocolError::BadAddressType { address_type }),
        }
        Ok(())
    }

    fn check_version(&self, version: u8) -> Result<(), ProtocolError> {
        match version {
            VERSION => Ok(()),
            _ => Err(ProtocolError::NotSocks5 { stage: self.stage(), version }),
        }
    }

    fn write_request(&mut self) {
        let request = mem::take(&mut self.request);
        self.write(State::WriteRequest, request);
    }

    fn write(&mut self, state: State, bytes: Vec<u8>) {
        self.state = state;
        self.buffer = bytes;
        self.progress = 0;
    }

    /// Reads an address of `length` bytes and the port behind it.
    fn read_address(&mut self, kind: AddressType, length: usize) {
        self.read(State::ReadAddress(kind), length + 2);
    }

    fn read(&mut self, state: State, length: usize) {
        self.state = state;
        self.buffer = vec![0; length];
        self.progress = 0;
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake")
            .field("state", &self.state)
            .field("failure", &self.failure)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(bytes) => write!(f, "Write({} bytes)", bytes.len()),
            Self::Read(space) => write!(f, "Read({} bytes)", space.len()),
            Self::Done(bound) => f.debug_tuple("Done").field(bound).finish(),
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
        }
    }
}

/// The bytes of a buffer that was made for exactly `N` of them.
fn exactly<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the buffer has the length its state asked for")
}
