//! The client endpoint: arguments, and the handshake over the proxy's connection.

#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use endpoints_plugin_api::{
    Arguments, Client, Connect, ConnectContext, Connection, Error, ErrorKind, Host, name,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::error::io_failed;
use crate::protocol::{Bound, Credentials, Handshake, Step, Target};

/// The fact that holds the address of the proxy's own socket towards the target, as the proxy tells it.
const BOUND: &str = "socks5.bound";

/// Makes the endpoint; opens nothing.
pub(crate) fn make(host: Host, arguments: &mut Arguments<'_>) -> Result<Client, Error> {
    let target = target(arguments.text("host")?, arguments.port("port")?)?;
    let credentials = credentials(arguments.opt_bytes("username"), arguments.opt_bytes("password"))?;
    let timeout = arguments.duration("timeout")?;
    if timeout.is_zero() {
        return Err(Error::invalid_argument(
            "timeout",
            "timeout: 0 leaves no time to connect: give more than 0",
        ));
    }
    // What is too long for the protocol is reported before anything opens.
    Handshake::new(target.clone(), credentials.clone())?;
    let proxy = arguments.client("proxy")?;
    Ok(Client::new(ThroughProxy { host, proxy, target, credentials, timeout }))
}

/// What the proxy is asked to connect to; a name goes to the proxy as it is written.
fn target(host: &str, port: u16) -> Result<Target, Error> {
    if port == 0 {
        return Err(Error::invalid_argument("port", "port: 0 cannot be connected to: give 1 to 65535"));
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(Target::Ip(SocketAddr::new(ip, port)));
    }
    if !host.is_ascii() {
        let message =
            format!("host: {host:?} is not ASCII: write an internationalised name in its xn-- form");
        return Err(Error::invalid_argument("host", message));
    }
    let strange = |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
    if let Some(c) = host.chars().find(strange) {
        let message = format!(
            "host: {host:?} is neither a name nor an IP address because of {c:?}: a name has letters, digits, '-', '.' \
             and '_'; an IPv6 address stands without brackets and zone"
        );
        return Err(Error::invalid_argument("host", message));
    }
    Ok(Target::Name { host: host.to_owned(), port })
}

fn credentials(username: Option<&[u8]>, password: Option<&[u8]>) -> Result<Option<Credentials>, Error> {
    match (username, password) {
        (Some(username), Some(password)) => Ok(Some(Credentials::new(username, password))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(alone("username", "password")),
        (None, Some(_)) => Err(alone("password", "username")),
    }
}

fn alone(given: &str, missing: &str) -> Error {
    let message = format!("{given} is given without {missing}: give both username and password, or neither");
    Error::invalid_argument(given, message)
}

struct ThroughProxy {
    host: Host,
    proxy: Client,
    target: Target,
    credentials: Option<Credentials>,
    /// For everything up to the end of the handshake.
    timeout: Duration,
}

impl Connect for ThroughProxy {
    async fn connect(&self, context: ConnectContext) -> Result<Connection, Error> {
        let handshake = Handshake::new(self.target.clone(), self.credentials.clone())?;
        let (connecting, sleep) = (self.proxy.connect(context), self.host.sleep(self.timeout));
        let (connection, bound) =
            establish(connecting, handshake, sleep, self.timeout).await.map_err(|error| {
                error.context(format_args!("connecting to {} by SOCKS5", shown(&self.target)))
            })?;
        let (peer, value) = match &self.target {
            Target::Ip(address) => (name::PEER_IP, address.to_string()),
            target @ Target::Name { .. } => (name::PEER_NAME, shown(target)),
        };
        // The last one added stands first.
        Ok(connection.with_fact(BOUND, bound.to_string()).with_fact(peer, value))
    }
}

fn shown(target: &Target) -> String {
    match target {
        Target::Ip(address) => address.to_string(),
        Target::Name { host, port } => format!("{host}:{port}"),
    }
}

/// Connects and shakes hands, unless `sleep`, which takes `limit`, ends before.
async fn establish(
    connecting: impl Future<Output = Result<Connection, Error>>,
    mut handshake: Handshake,
    sleep: impl Future<Output = ()>,
    limit: Duration,
) -> Result<(Connection, Bound), Error> {
    let late = |stage: &dyn Display| {
        Error::new(ErrorKind::TimedOut, format!("not done within {limit:?}: the time was over while {stage}"))
    };
    let mut sleep = pin!(sleep);
    let mut connection = before(sleep.as_mut(), connecting)
        .await
        .ok_or_else(|| late(&"connecting to the proxy"))?
        .map_err(|error| error.context("connecting to the proxy"))?;
    match before(sleep.as_mut(), shake_hands(&mut handshake, &mut connection)).await {
        Some(bound) => Ok((connection, bound?)),
        None => Err(late(&handshake.stage())),
    }
}

/// What `future` comes to, if it does so before `sleep` ends.
async fn before<F: Future>(mut sleep: Pin<&mut impl Future<Output = ()>>, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        sleep.as_mut().poll(cx).map(|()| None)
    })
    .await
}

/// Moves the bytes of `handshake` over `connection`, and none that come after them.
async fn shake_hands(handshake: &mut Handshake, connection: &mut Connection) -> Result<Bound, Error> {
    // A connection may be one that buffers, such as TLS.
    let mut unflushed = false;
    loop {
        let moved = match handshake.step() {
            Step::Write(bytes) => {
                unflushed = true;
                connection.write(bytes).await.map(Moved::Out)
            }
            Step::Read(_) if unflushed => {
                unflushed = false;
                connection.flush().await.map(|()| Moved::Nothing)
            }
            Step::Read(space) => connection.read(space).await.map(Moved::In),
            Step::Done(bound) => return Ok(bound),
            Step::Failed(error) => return Err(error.into()),
        };
        match moved.map_err(|error| io_failed(handshake, &error))? {
            Moved::Out(0) => {
                let message =
                    format!("the connection to the proxy takes no more bytes while {}", handshake.stage());
                return Err(Error::new(ErrorKind::ConnectionReset, message)
                    .with_retryable(handshake.ended().is_retryable()));
            }
            Moved::Out(n) => handshake.wrote(n),
            Moved::In(n) => handshake.filled(n)?,
            Moved::Nothing => {}
        }
    }
}

/// How many bytes went which way.
enum Moved {
    Out(usize),
    In(usize),
    Nothing,
}
