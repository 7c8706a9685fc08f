//! The protocol, without I/O: rustls, and the bytes that it does not keep.

use std::io;
use std::mem;
use std::ops::Deref;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, UnbufferedConnectionCommon, UnbufferedStatus, WriteTraffic};
use rustls::{CommonState, Error, InvalidMessage, ProtocolVersion};
use tokio::io::ReadBuf;

use super::buffers::{KEPT, Outgoing, Waiting};

/// A client's or a server's side of a connection.
pub(crate) trait Side:
    Deref<Target = UnbufferedConnectionCommon<Self::Data>> + Send + Unpin + 'static
{
    type Data;

    /// Goes on until there is something to do.
    fn process<'c, 'i>(&'c mut self, records: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    /// Whether the handshake is done, and what this side has said last are tickets, if anything: the other side does not wait
    /// for these.
    fn ends_with_tickets(state: &CommonState) -> bool;
}

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, records: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(records)
    }

    fn ends_with_tickets(_: &CommonState) -> bool {
        false
    }
}

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, records: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(records)
    }

    fn ends_with_tickets(state: &CommonState) -> bool {
        !state.is_handshaking() && state.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }
}

/// One side, and what waits to go on.
pub(super) struct Session<S> {
    side: S,
    /// Records that cannot be worked on yet: the beginning of one, or those of a message whose end has not come. rustls has
    /// decrypted some of them where they lie, and wants to see them again just so.
    kept: Waiting,
    /// Decrypted, and not read.
    pub(super) plaintext: Waiting,
    /// What the connection is broken by.
    failure: Option<Box<Error>>,
    /// The other side has said that this is its end.
    is_ended: bool,
}

impl<S: Side> Session<S> {
    pub(super) fn new(side: S) -> Self {
        Self { side, kept: Waiting::default(), plaintext: Waiting::default(), failure: None, is_ended: false }
    }

    pub(super) fn state(&self) -> &CommonState {
        &self.side
    }

    /// Whether the other side has ended well.
    pub(super) fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// How many bytes have been kept.
    pub(super) fn kept(&self) -> usize {
        self.kept.bytes().len()
    }

    /// The bytes of memory that are held beside the state of rustls.
    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.kept.allocated() + self.plaintext.allocated()
    }

    /// # Errors
    /// If the connection is broken.
    pub(super) fn check(&self) -> io::Result<()> {
        match &self.failure {
            None => Ok(()),
            Some(error) => Err(io::Error::new(io::ErrorKind::InvalidData, Error::clone(error))),
        }
    }

    /// Takes what has come: at the front of `records` there is room for what was [kept](Self::kept) before it. What is
    /// decrypted goes to `buf`, and waits where that has no room; what there is to say in answer goes to `out`.
    pub(super) fn receive(&mut self, records: &mut [u8], buf: &mut ReadBuf<'_>, out: &mut Outgoing<'_>) {
        let kept = mem::take(&mut self.kept);
        records[..kept.bytes().len()].copy_from_slice(kept.bytes());
        drop(kept);
        let (done, _) = self.process(records, buf, out, |_, _| ());
        let left = &records[done..];
        // What follows the end does not count (RFC 8446, section 6.1).
        if self.is_ended || self.failure.is_some() {
            return;
        }
        if left.len() > KEPT {
            self.fail(InvalidMessage::HandshakePayloadTooLarge.into(), out);
        } else {
            self.kept.push(left);
        }
    }

    /// Encrypts `bytes`, all of them, as records of application data.
    ///
    /// # Errors
    /// If the connection has ended, or its keys have been used up.
    pub(super) fn encrypt(&mut self, bytes: &[u8], out: &mut Outgoing<'_>) -> io::Result<()> {
        self.send(Some(bytes), out)
    }

    /// Says that this is the end.
    ///
    /// # Errors
    /// As those of [`encrypt`](Self::encrypt).
    pub(super) fn close(&mut self, out: &mut Outgoing<'_>) -> io::Result<()> {
        self.send(None, out)
    }

    /// Sends data, or where there is none the end of it.
    fn send(&mut self, bytes: Option<&[u8]>, out: &mut Outgoing<'_>) -> io::Result<()> {
        // rustls writes only after it has looked at all that has come, of which nothing is complete.
        let mut kept = mem::take(&mut self.kept);
        let (done, written) =
            self.process(kept.bytes_mut(), &mut ReadBuf::new(&mut []), out, |traffic, out| {
                out.append(|room| match bytes {
                    Some(bytes) => traffic.encrypt(bytes, room),
                    None => traffic.queue_close_notify(room),
                })
            });
        kept.consume(done);
        self.kept = kept;
        self.check()?;
        written.ok_or(io::ErrorKind::BrokenPipe)?.map_err(io::Error::other)
    }

    /// Works on records as far as they are complete, then lets `write` write. The number of bytes that are done with.
    fn process<T>(
        &mut self,
        records: &mut [u8],
        buf: &mut ReadBuf<'_>,
        out: &mut Outgoing<'_>,
        write: impl FnOnce(&mut WriteTraffic<'_, S::Data>, &mut Outgoing<'_>) -> T,
    ) -> (usize, Option<T>) {
        let mut done = 0;
        loop {
            let UnbufferedStatus { mut discard, state, .. } = self.side.process(&mut records[done..]);
            let failure = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
                    match traffic.next_record() {
                        None => break None,
                        Some(Ok(record)) => {
                            discard += record.discard;
                            let (now, later) =
                                record.payload.split_at(record.payload.len().min(buf.remaining()));
                            buf.put_slice(now);
                            self.plaintext.push(later);
                        }
                        Some(Err(error)) => break Some(error),
                    }
                },
                Ok(ConnectionState::EncodeTlsData(data)) => {
                    out.encode(data).err().map(|error| Error::General(error.to_string()))
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.is_ended = true;
                    None
                }
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let written = write(&mut traffic, out);
                    return (done + discard, Some(written));
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => {
                    return (done + discard, None);
                }
                // Early data, which is never offered and never taken.
                Ok(state) => Some(Error::General(format!("unexpected state {state:?}"))),
                Err(error) => Some(error),
            };
            done += discard;
            if let Some(error) = failure {
                self.fail(error, out);
                return (records.len(), None);
            }
        }
    }

    /// Notes why the connection is broken, and lets rustls tell the other side.
    fn fail(&mut self, error: Error, out: &mut Outgoing<'_>) {
        self.failure = Some(Box::new(error));
        while self.side.wants_write() {
            // What is to be sent comes before anything else, so nothing that has come is looked at.
            let Ok(ConnectionState::EncodeTlsData(data)) = self.side.process(&mut []).state else { break };
            if out.encode(data).is_err() {
                break;
            }
        }
    }
}
