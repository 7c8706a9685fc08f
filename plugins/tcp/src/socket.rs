//! What is asked of the operating system: opening, binding, connecting and listening.

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use endpoints_plugin_api::{Error, ErrorKind};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::options::Options;

/// A socket whose connect was begun.
#[derive(Debug)]
pub(crate) enum Begun {
    /// It was done at once.
    Connected(OwnedFd),
    /// It is under way.
    Connecting(OwnedFd),
}

/// Begins to connect to `to`, from the address `from` where one is given.
///
/// # Errors
/// Why it cannot; the text does not name `to`.
pub(crate) fn begin_connect(
    to: SocketAddr,
    from: Option<SocketAddr>,
    options: &Options,
) -> Result<Begun, Error> {
    let socket = open(to)?;
    options.apply(&socket, to)?;
    if let Some(from) = from {
        bind_source(&socket, from)?;
    }
    match rustix::net::connect(&socket, &to) {
        Ok(()) => Ok(Begun::Connected(socket)),
        // An interrupted connect goes on in the background just as one that would block.
        Err(Errno::INPROGRESS | Errno::INTR) => Ok(Begun::Connecting(socket)),
        Err(errno) => Err(with_zone_hint(Error::from(io::Error::from(errno)), to)),
    }
}

/// Listens on `address`.
///
/// # Errors
/// Why it cannot, in full words.
pub(crate) fn listen(address: SocketAddr, backlog: i32, options: &Options) -> Result<OwnedFd, Error> {
    let doing = format_args!("cannot listen on {address}");
    let socket = open(address)
        .and_then(|socket| options.apply(&socket, address).map(|()| socket))
        .map_err(|error| error.context(doing))?;
    set_socket_reuseaddr(&socket, true)
        .and_then(|()| rustix::net::bind(&socket, &address))
        .and_then(|()| rustix::net::listen(&socket, backlog))
        .map_err(|errno| with_listen_hint(failed(doing, errno), address))?;
    Ok(socket)
}

/// The operating system's words for an error that has its number, whatever else its message says.
pub(crate) fn in_system_words(error: Error) -> Error {
    match error.raw_os_error() {
        Some(number) => {
            let words = Error::from(io::Error::from_raw_os_error(number));
            error.with_message(words.message())
        }
        None => error,
    }
}

fn open(address: SocketAddr) -> Result<OwnedFd, Error> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(family, SocketType::STREAM, flags, None)
        .map_err(|errno| failed("cannot open a socket", errno))
}

fn bind_source(socket: &OwnedFd, from: SocketAddr) -> Result<(), Error> {
    // A port of one's own stays taken for a minute after each connection, unless it may be used again.
    let reused = if from.port() == 0 { Ok(()) } else { set_socket_reuseaddr(socket, true) };
    reused.and_then(|()| rustix::net::bind(socket, &from)).map_err(|errno| {
        let error = failed(format_args!("cannot bind {from}"), errno);
        let error = with_zone_hint(error, from);
        match error.kind() {
            ErrorKind::AddressNotAvailable => hint(error, "bindAddress must be an address of this machine"),
            _ => error,
        }
    })
}

fn failed(doing: impl fmt::Display, errno: Errno) -> Error {
    Error::from_io(doing, &errno.into())
}

fn with_listen_hint(error: Error, address: SocketAddr) -> Error {
    match error.kind() {
        ErrorKind::PermissionDenied if address.port() < 1024 => {
            hint(error, "ports below 1024 need CAP_NET_BIND_SERVICE")
        }
        ErrorKind::AddressNotAvailable => hint(error, "interface must be an address of this machine"),
        _ => with_zone_hint(error, address),
    }
}

fn with_zone_hint(error: Error, address: SocketAddr) -> Error {
    match address {
        // EINVAL
        SocketAddr::V6(v6)
            if error.kind() == ErrorKind::InvalidArgument
                && v6.scope_id() == 0
                && is_link_local(*v6.ip()) =>
        {
            let zone = format!("a link-local address needs its zone, as in {}%eth0", v6.ip());
            hint(error, zone)
        }
        _ => error,
    }
}

/// RFC 4291, 2.5.6: `fe80::/10`. The method of std is newer than the compilers that plugins are promised to.
fn is_link_local(ip: Ipv6Addr) -> bool {
    ip.segments()[0] & 0xffc0 == 0xfe80
}

pub(crate) fn hint(error: Error, hint: impl fmt::Display) -> Error {
    let message = format!("{error} ({hint})");
    error.with_message(message)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// The address that a socket is bound to.
    ///
    /// # Errors
    /// If it is no internet socket.
    fn bound_to(socket: &OwnedFd) -> Result<SocketAddr, Error> {
        rustix::net::getsockname(socket)
            .and_then(SocketAddr::try_from)
            .map_err(|errno| failed("cannot tell the address that is listened on", errno))
    }

    #[test]
    fn listening_gives_a_free_port_and_refuses_one_that_is_taken() {
        let socket = listen(address("127.0.0.1:0"), 50, &Options::default()).unwrap();
        let bound = bound_to(&socket).unwrap();
        assert_ne!(bound.port(), 0);
        drop(TcpStream::connect(bound).unwrap());

        let error = listen(bound, 50, &Options::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddressInUse);
        assert_eq!(error.message(), format!("cannot listen on {bound}: Address already in use"));
    }

    #[test]
    fn sockets_are_closed_on_exec_and_do_not_block() {
        let socket = listen(address("127.0.0.1:0"), 0, &Options::default()).unwrap();
        assert!(rustix::io::fcntl_getfd(&socket).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        assert!(rustix::fs::fcntl_getfl(&socket).unwrap().contains(rustix::fs::OFlags::NONBLOCK));
    }

    #[test]
    fn an_address_of_another_machine_is_refused_with_the_reason() {
        let error = listen(address("192.0.2.1:0"), 50, &Options::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddressNotAvailable);
        assert!(error.message().ends_with("(interface must be an address of this machine)"), "{error}");
        let error = begin_connect(address("127.0.0.1:9"), Some(address("192.0.2.1:0")), &Options::default())
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddressNotAvailable);
        assert_eq!(
            error.message(),
            "cannot bind 192.0.2.1:0: Cannot assign requested address (bindAddress must be an address of this machine)"
        );
    }

    #[test]
    fn hints_keep_the_kind_and_the_number() {
        let denied = failed("cannot listen on 127.0.0.1:80", Errno::ACCESS);
        let error = with_listen_hint(denied.clone(), address("127.0.0.1:80"));
        assert_eq!(
            error.message(),
            "cannot listen on 127.0.0.1:80: Permission denied (ports below 1024 need CAP_NET_BIND_SERVICE)"
        );
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert_eq!(error.raw_os_error(), Some(Errno::ACCESS.raw_os_error()));
        assert_eq!(with_listen_hint(denied.clone(), address("127.0.0.1:1024")).message(), denied.message());

        let error = with_listen_hint(failed("x", Errno::INVAL), address("[fe80::1]:80"));
        assert_eq!(
            error.message(),
            "x: Invalid argument (a link-local address needs its zone, as in fe80::1%eth0)"
        );
        let error = with_listen_hint(failed("x", Errno::INVAL), address("[fe80::1%3]:80"));
        assert_eq!(error.message(), "x: Invalid argument");
        let error = with_listen_hint(failed("x", Errno::ADDRINUSE), address("[fe80::1]:80"));
        assert_eq!(error.message(), "x: Address already in use");
    }

    #[test]
    fn a_connect_from_a_port_of_ones_own_can_be_made_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let from = {
            let free = listen(address("127.0.0.2:0"), 1, &Options::default()).unwrap();
            bound_to(&free).unwrap()
        };
        for _ in 0..2 {
            let (Begun::Connected(socket) | Begun::Connecting(socket)) =
                begin_connect(to, Some(from), &Options::default()).unwrap();
            let (mut accepted, peer) = listener.accept().unwrap();
            assert_eq!(peer, from);
            accepted.write_all(b"x").unwrap();
            // The connecting side closes first, so its port is the one that lingers.
            drop(socket);
            drop(accepted);
        }
    }

    #[test]
    fn the_systems_words_replace_a_hosts() {
        let error = failed("the host says", Errno::CONNREFUSED);
        let plain = in_system_words(error);
        assert_eq!((plain.kind(), plain.message()), (ErrorKind::ConnectionRefused, "Connection refused"));
        let other = in_system_words(Error::new(ErrorKind::Internal, "no number"));
        assert_eq!(other.message(), "no number");
    }
}
