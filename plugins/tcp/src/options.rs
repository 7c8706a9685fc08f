//! Options of sockets that go beyond Twisted's: what is not asked for is left as the system has it.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use endpoints_plugin_api::{Arguments, Error, ErrorKind};
use socket2::{SockRef, TcpKeepalive};

/// What to set on each socket: one that connects, or one that listens, whose connections inherit it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    nodelay: Option<bool>,
    /// The idle time before the first probe; zero: off.
    keepalive: Option<Duration>,
    ttl: Option<u8>,
    mark: Option<u32>,
    device: Option<String>,
    /// The listening side alone.
    reuseport: bool,
    v6only: Option<bool>,
}

/// The most that `TCP_KEEPIDLE` takes.
const LONGEST_KEEPALIVE: Duration = Duration::from_secs(32_767);

/// The longest name of a network device, `IFNAMSIZ` without the NUL.
const LONGEST_DEVICE: usize = 15;

impl Options {
    /// # Errors
    /// What the manifest cannot say about the values.
    pub(crate) fn parse(arguments: &Arguments<'_>) -> Result<Self, Error> {
        let flag = |name| arguments.opt_integer(name).map(|number| number != 0);
        Ok(Self {
            nodelay: flag("nodelay"),
            keepalive: arguments.opt_duration("keepalive").map(keepalive).transpose()?,
            ttl: arguments.opt_integer("ttl").and_then(|ttl| u8::try_from(ttl).ok()),
            mark: arguments.opt_integer("mark").and_then(|mark| u32::try_from(mark).ok()),
            device: arguments.opt_text("device")?.map(device).transpose()?,
            reuseport: flag("reuseport").unwrap_or(false),
            v6only: flag("v6only"),
        })
    }

    /// Sets them on a socket for, or at, `address`, before it is bound or connected.
    ///
    /// # Errors
    /// Which of them the operating system refuses, and why.
    pub(crate) fn apply(&self, socket: &OwnedFd, address: SocketAddr) -> Result<(), Error> {
        if *self == Self::default() {
            return Ok(());
        }
        let socket = SockRef::from(socket);
        let refused = |argument: &'static str| {
            move |error| {
                let error = Error::from_io(format_args!("cannot set {argument}"), &error);
                match argument {
                    "mark" if error.kind() == ErrorKind::PermissionDenied => {
                        crate::socket::hint(error, "mark needs CAP_NET_ADMIN or CAP_NET_RAW")
                    }
                    "device" if error.kind() == ErrorKind::PermissionDenied => {
                        crate::socket::hint(error, "device needs CAP_NET_RAW")
                    }
                    _ => error,
                }
            }
        };
        if let Some(nodelay) = self.nodelay {
            socket.set_tcp_nodelay(nodelay).map_err(refused("nodelay"))?;
        }
        match self.keepalive {
            None => {}
            Some(Duration::ZERO) => socket.set_keepalive(false).map_err(refused("keepalive"))?,
            Some(idle) => {
                let keepalive = TcpKeepalive::new().with_time(idle);
                socket.set_tcp_keepalive(&keepalive).map_err(refused("keepalive"))?;
            }
        }
        if let Some(ttl) = self.ttl {
            if address.is_ipv6() {
                socket.set_unicast_hops_v6(ttl.into()).map_err(refused("ttl"))?;
            }
            // An IPv6 socket uses it for the IPv4 addresses that it takes too.
            socket.set_ttl_v4(ttl.into()).map_err(refused("ttl"))?;
        }
        if let Some(mark) = self.mark {
            socket.set_mark(mark).map_err(refused("mark"))?;
        }
        if let Some(device) = &self.device {
            socket.bind_device(Some(device.as_bytes())).map_err(refused("device")).map_err(|error| {
                match error.raw_os_error() {
                    Some(ENODEV) => error.clone().with_message(format!("device: there is no {device:?}")),
                    _ => error,
                }
            })?;
        }
        if self.reuseport {
            socket.set_reuse_port(true).map_err(refused("reuseport"))?;
        }
        match self.v6only {
            Some(v6only) if address.is_ipv6() => {
                socket.set_only_v6(v6only).map_err(refused("v6only"))?;
            }
            Some(_) => {
                let message = format!("v6only is given, but {} is an IPv4 address", address.ip());
                return Err(Error::invalid_argument("v6only", message));
            }
            None => {}
        }
        Ok(())
    }
}

const ENODEV: i32 = 19;

fn keepalive(idle: Duration) -> Result<Duration, Error> {
    // The kernel counts whole seconds.
    if idle.subsec_nanos() != 0 || idle > LONGEST_KEEPALIVE {
        return Err(Error::invalid_argument(
            "keepalive",
            format!("keepalive: {idle:?} is not accepted; give whole seconds from 1 to 32767, or 0 for none"),
        ));
    }
    Ok(idle)
}

fn device(name: &str) -> Result<String, Error> {
    if name.is_empty() || name.len() > LONGEST_DEVICE || name.contains(['/', '\0', ' ']) {
        return Err(Error::invalid_argument(
            "device",
            format!(
                "device: {name:?} is no name of a network device; one has 1 to {LONGEST_DEVICE} bytes, as in eth0"
            ),
        ));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::listen;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_listening_socket_has_what_was_asked_for() {
        let options = Options {
            nodelay: Some(true),
            keepalive: Some(Duration::from_secs(77)),
            ttl: Some(42),
            reuseport: true,
            ..Options::default()
        };
        for at in ["127.0.0.1:0", "[::1]:0"] {
            let socket = listen(address(at), 5, &options).unwrap();
            let socket = SockRef::from(&socket);
            assert!(
                socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap() && socket.reuse_port().unwrap()
            );
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(77));
            assert_eq!(socket.ttl_v4().unwrap(), 42);
            if at.starts_with('[') {
                assert_eq!(socket.unicast_hops_v6().unwrap(), 42);
            }
        }
        let socket = listen(address("127.0.0.1:0"), 5, &Options::default()).unwrap();
        assert!(!SockRef::from(&socket).keepalive().unwrap());
    }

    #[test]
    fn an_ipv6_socket_takes_ipv4_or_not() {
        for v6only in [true, false] {
            let options = Options { v6only: Some(v6only), ..Options::default() };
            let socket = listen(address("[::]:0"), 5, &options).unwrap();
            assert_eq!(SockRef::from(&socket).only_v6().unwrap(), v6only);
            let error = listen(address("127.0.0.1:0"), 5, &options).unwrap_err();
            assert_eq!((error.kind(), error.argument()), (ErrorKind::InvalidArgument, Some("v6only")));
        }
    }

    #[test]
    fn values_that_no_socket_takes_are_refused() {
        assert_eq!(keepalive(Duration::from_secs(32_767)).unwrap(), Duration::from_secs(32_767));
        assert_eq!(keepalive(Duration::ZERO).unwrap(), Duration::ZERO);
        for idle in [Duration::from_millis(500), Duration::from_secs(32_768)] {
            assert_eq!(keepalive(idle).unwrap_err().argument(), Some("keepalive"));
        }
        assert_eq!(device("eth0").unwrap(), "eth0");
        for name in ["", "a-name-of-16-byte", "a/b", "a b"] {
            assert_eq!(device(name).unwrap_err().argument(), Some("device"), "{name}");
        }
    }

    #[test]
    fn a_device_that_is_not_there_is_named() {
        let options = Options { device: Some("nonesuch0".into()), ..Options::default() };
        let error = listen(address("127.0.0.1:0"), 5, &options).unwrap_err();
        assert!(error.message().contains("nonesuch0") || error.message().contains("CAP_NET_RAW"), "{error}");
    }
}
