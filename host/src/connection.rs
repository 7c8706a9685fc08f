//! Connections: a stream of bytes, and facts about it in layers.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use endpoints_plugin_api::abi::bytes::RBytes;
use endpoints_plugin_api::abi::conn::{Body, Taken};
use endpoints_plugin_api::{Facts, name};
use smallvec::SmallVec;

use crate::address::Address;
use crate::error::{Error, ErrorKind};
use crate::stream::{Carried, Carrier, Pair, Stream, uncarry};

mod idle;
mod proxy;
mod span;
mod tls;
mod transfer;

use idle::Watch;
pub use proxy::{ProxySsl, ProxyTlv};
pub use tls::TlsFacts;

/// An established connection.
///
/// Reads and writes through tokio's [`AsyncRead`](tokio::io::AsyncRead) and [`AsyncWrite`](tokio::io::AsyncWrite). Shutting
/// down ends the sending direction alone; the peer's bytes can still be read. Dropping it closes the connection.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    known: Box<Known>,
    /// Where there is an idle limit.
    idle: Option<Box<Watch>>,
}

/// What is known about a connection before its socket is asked. Apart, as connections are moved about.
#[derive(Debug, Default)]
struct Known {
    /// Outermost first; the addresses of a socket are looked up when they are asked for.
    told: SmallVec<[Told; 1]>,
    /// The peer's address, where accepting or connecting told it.
    peer: Option<Address>,
    /// This side's address, once somebody has asked for it, as few do.
    local: OnceLock<Option<Box<Address>>>,
}

/// What is known about a connection, in layers: the outermost wrapper first, the transport last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionInfo {
    layers: Vec<Layer>,
}

/// What a provider told of a connection, kept as it came until somebody asks: the facts of its own layer, and those of the
/// layers below that only it knows of.
#[derive(Debug)]
struct Told {
    scheme: Arc<str>,
    facts: Box<[u8]>,
}

impl Told {
    fn layers(&self) -> impl Iterator<Item = Layer> {
        let mut layers = Facts::split_layers(&self.facts);
        let own = layers.next().map(|(_, facts)| Layer { scheme: Arc::clone(&self.scheme), facts });
        own.into_iter().chain(layers.map(Layer::from))
    }
}

/// What one layer of a connection tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    scheme: Arc<str>,
    facts: Facts,
}

/// The process at the other end of a Unix socket, as it was when it connected (seen by the server) or began to listen
/// (seen by the client): Linux' `SO_PEERCRED`, unix(7).
///
/// The user and the group cannot be forged, and are fit to decide by. The number of the process is fit for logs: a socket
/// may be handed to another process, and the number given to another once that process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Credentials {
    /// The process; `None` where it cannot be seen from this process's PID namespace.
    pub pid: Option<u32>,
    /// Its effective user. One that this process's user namespace does not know shows as 65534 (nobody).
    pub uid: u32,
    /// Its effective group, likewise.
    pub gid: u32,
}

impl Layer {
    /// The scheme that the facts come from.
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The facts in the order in which they were told, those with an unknown name too.
    pub fn facts(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.facts.iter()
    }

    /// The first fact of that name.
    #[must_use]
    pub fn fact(&self, name: &str) -> Option<&[u8]> {
        self.facts.get(name)
    }

    /// This side's address, as far as this layer knows.
    #[must_use]
    pub fn local_addr(&self) -> Option<Address> {
        self.facts.local_addr()
    }

    /// The peer's address, as far as this layer knows.
    #[must_use]
    pub fn peer_addr(&self) -> Option<Address> {
        self.facts.peer_addr()
    }

    /// Who is at the other end of the Unix socket, as far as this layer knows.
    #[must_use]
    pub fn peer_credentials(&self) -> Option<Credentials> {
        self.facts.peer_credentials()
    }
}

impl ConnectionInfo {
    /// The layers, outermost first.
    #[must_use]
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// This side's address: what the outermost layer that knows one says.
    #[must_use]
    pub fn local_addr(&self) -> Option<Address> {
        self.layers.iter().find_map(Layer::local_addr)
    }

    /// The peer's address: what the outermost layer that knows one says.
    #[must_use]
    pub fn peer_addr(&self) -> Option<Address> {
        self.layers.iter().find_map(Layer::peer_addr)
    }

    /// The process at the other end of a Unix socket: what the outermost layer that knows one says.
    ///
    /// Where a proxy is reached through a Unix socket, that is the proxy.
    #[must_use]
    pub fn peer_credentials(&self) -> Option<Credentials> {
        self.layers.iter().find_map(Layer::peer_credentials)
    }

    /// The first fact of that name, from the outermost layer that has one.
    #[must_use]
    pub fn fact(&self, name: &str) -> Option<&[u8]> {
        self.layers.iter().find_map(|layer| layer.fact(name))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        encode(self.layers.iter().map(|layer| (&*layer.scheme, layer.facts.as_bytes())), 0).into_bytes()
    }

    /// Takes the layers of the encoded form; facts before the first one are left out.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        Self { layers: Facts::split_layers(bytes).skip(1).map(Layer::from).collect() }
    }
}

impl From<(&[u8], Facts)> for Layer {
    fn from((scheme, facts): (&[u8], Facts)) -> Self {
        Self { scheme: String::from_utf8_lossy(scheme).into(), facts }
    }
}

/// Layers as they are sent across, with room for so many bytes more.
fn encode<'a>(layers: impl Iterator<Item = (&'a str, &'a [u8])> + Clone, more: usize) -> Facts {
    let mark = 2 * size_of::<u32>() + name::LAYER.len();
    let sizes = layers.clone().map(|(scheme, facts)| mark + scheme.len() + facts.len());
    let mut encoded = Facts::with_capacity(sizes.sum::<usize>() + more);
    for (scheme, facts) in layers {
        encoded.push(name::LAYER, scheme);
        encoded.append_bytes(facts);
    }
    encoded
}

impl Connection {
    pub(crate) fn new(stream: Stream, peer: Option<Address>) -> Self {
        Self { stream, known: Box::new(Known { peer, ..Known::default() }), idle: None }
    }

    pub(crate) fn with_layer(self, scheme: &Arc<str>) -> Self {
        self.with_told(scheme, Box::default())
    }

    fn with_told(mut self, scheme: &Arc<str>, facts: Box<[u8]>) -> Self {
        self.known.told.insert(0, Told { scheme: Arc::clone(scheme), facts });
        self
    }

    /// Takes over what a provider of `scheme` made.
    pub(crate) fn from_taken(taken: Taken, scheme: &Arc<str>) -> Result<Self, Error> {
        let facts = readable(taken.facts.as_slice());
        let mut own_only = false;
        let mut connection = match taken.body {
            Body::Fd(socket) => Self::new(Stream::from_socket(socket)?, None),
            Body::Stream(stream) => match uncarry(stream) {
                Ok(connection) => {
                    // What is below, this process knows better than the plugin.
                    own_only = true;
                    connection
                }
                Err(stream) => Self::new(Stream::new(Carrier::Plugin(stream)), None),
            },
            Body::Pair { read, write, inherited } => {
                let failed = |error: io::Error| {
                    Error::from(endpoints_plugin_api::Error::from_io(
                        "the descriptors that a plugin handed over cannot be used",
                        &error,
                    ))
                };
                let pair = Pair::new(read, write, inherited).map_err(failed)?;
                Self::new(Stream::new(Carrier::Pair(Box::new(pair))), None)
            }
            Body::Handshake(_) => {
                return Err(Error::new(
                    ErrorKind::Internal,
                    "a plugin handed over a handshake in place of a connection",
                ));
            }
        };
        connection.stream.put_back(taken.leftover.as_slice());
        let facts = if own_only { own_layer(facts) } else { facts.into() };
        Ok(connection.with_told(scheme, facts))
    }

    /// Lends the connection to a plugin.
    pub(crate) fn into_taken(self) -> Taken {
        Taken {
            body: Body::Stream(Carried(self).into_foreign()),
            facts: RBytes::EMPTY,
            leftover: RBytes::EMPTY,
        }
    }

    /// What is known about the connection.
    ///
    /// The addresses of a socket are asked from the operating system here, so they are missing once the peer has reset
    /// the connection, unless accepting it told them. So are the credentials of a Unix socket's peer, which stay.
    #[must_use]
    pub fn info(&self) -> ConnectionInfo {
        let mut layers: Vec<Layer> = self.known.told.iter().flat_map(Told::layers).collect();
        if let Some(transport) = layers.last_mut() {
            let known = transport.facts.clone();
            self.add_socket(&known, &mut transport.facts);
        }
        ConnectionInfo { layers }
    }

    /// As [`info`](Self::info), as it is sent across.
    pub(crate) fn encoded_info(&self) -> Vec<u8> {
        let layers = self.known.told.iter().map(|told| (&*told.scheme, &*told.facts));
        let mut facts = encode(layers, USUAL_FACTS);
        if let Some(transport) = self.known.told.last() {
            let known = Facts::split_layers(&transport.facts).last();
            self.add_socket(&known.unwrap_or_default().1, &mut facts);
        }
        facts.into_bytes()
    }

    /// Adds to `facts` what the socket tells and the transport's layer, which has told `known`, does not.
    fn add_socket(&self, known: &Facts, facts: &mut Facts) {
        if self.stream.socket().is_none() {
            return;
        }
        if known.local_addr().is_none() {
            let local = self.known.local.get_or_init(|| self.stream.local_addr().map(Box::new));
            if let Some(local) = local {
                local.tell(true, facts);
            }
        }
        if known.peer_addr().is_none() {
            match &self.known.peer {
                Some(peer) => peer.tell(false, facts),
                None => {
                    if let Some(peer) = self.stream.peer_addr() {
                        peer.tell(false, facts);
                    }
                }
            }
        }
        if known.peer_credentials().is_none() {
            facts.extend_credentials(self.stream.peer_credentials());
        }
    }

    /// Closes the connection so that the peer takes it for broken, not for ended: a TCP socket is reset (`SO_LINGER` 0).
    /// Where it is no TCP socket it is just closed.
    pub fn abort(self) {
        self.reset_on_close();
    }

    /// Has closing do what [`abort`](Self::abort) does.
    pub(crate) fn reset_on_close(&self) {
        self.stream.reset_on_close();
    }

    /// Has the reactor of this thread watch its socket, where it has one.
    pub(crate) fn watch_here(&mut self) {
        self.stream.watch_here();
    }

    /// Whether the bytes go through a socket of this process's own reactor, with no plugin between.
    #[must_use]
    pub fn is_socket(&self) -> bool {
        self.stream.is_socket()
    }

    /// The bare socket, non-blocking and no longer watched by the reactor.
    ///
    /// # Errors
    /// Gives the connection back where it is no bare socket, or bytes were read ahead that would be lost.
    pub fn into_socket(self) -> Result<OwnedFd, Self> {
        let Self { stream, known, idle } = self;
        stream.into_socket().map_err(|stream| Self { stream, known, idle })
    }
}

/// Bytes of two IPv4 addresses as facts; others need more.
const USUAL_FACTS: usize = 80;

/// Without what a plugin has written that nobody can read, before something is put behind it.
fn readable(facts: &[u8]) -> &[u8] {
    &facts[..Facts::readable(facts)]
}

/// Without what stands for layers below.
fn own_layer(facts: &[u8]) -> Box<[u8]> {
    Facts::split_layers(facts).next().map(|(_, own)| own.into_bytes().into()).unwrap_or_default()
}

/// What sockets tell, among facts.
trait SocketFacts {
    fn local_addr(&self) -> Option<Address>;
    fn peer_addr(&self) -> Option<Address>;
    fn peer_credentials(&self) -> Option<Credentials>;
    fn extend_credentials(&mut self, credentials: Option<Credentials>);
}

impl SocketFacts for Facts {
    fn local_addr(&self) -> Option<Address> {
        address(self, &[name::LOCAL_IP, name::LOCAL_UNIX])
    }

    fn peer_addr(&self) -> Option<Address> {
        address(self, &[name::PEER_IP, name::PEER_UNIX, name::PEER_NAME])
    }

    fn peer_credentials(&self) -> Option<Credentials> {
        let number = |name| std::str::from_utf8(self.get(name)?).ok()?.parse().ok();
        Some(Credentials {
            pid: number(name::PEER_PID),
            uid: number(name::PEER_UID)?,
            gid: number(name::PEER_GID)?,
        })
    }

    fn extend_credentials(&mut self, credentials: Option<Credentials>) {
        let Some(Credentials { pid, uid, gid }) = credentials else { return };
        if let Some(pid) = pid {
            self.push(name::PEER_PID, pid.to_string());
        }
        self.push(name::PEER_UID, uid.to_string());
        self.push(name::PEER_GID, gid.to_string());
    }
}

fn address(facts: &Facts, names: &[&str]) -> Option<Address> {
    let known = |(name, value)| if names.contains(&name) { Address::from_fact(name, value) } else { None };
    facts.iter().find_map(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_cannot_be_read_hides_nothing_behind_it() {
        let (near, _far) = std::os::unix::net::UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let mut facts = Facts::new().with("a", "b").into_bytes();
        facts.extend([9, 0, 0, 0, b'x']);
        let taken = Taken { body: Body::Fd(near.into()), facts: facts.into(), leftover: RBytes::EMPTY };
        let connection = Connection::from_taken(taken, &"scheme".into()).unwrap();
        let info = connection.info();
        assert_eq!(info.fact("a"), Some(&b"b"[..]));
        assert_eq!(info.peer_addr(), Some(Address::UnixUnnamed));
        assert_eq!(ConnectionInfo::decode(&connection.encoded_info()), info);
    }
}
