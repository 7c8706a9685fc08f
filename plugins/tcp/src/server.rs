//! The server side of `tcp` and `tcp6`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use endpoints_plugin_api::{Error, Facts, Host, Listen, ListenContext, Listener, Reachable};

use crate::interface::Interface;
use crate::options::Options;
use crate::socket;

/// A way to listen.
#[derive(Debug)]
pub(crate) struct TcpServer {
    pub(crate) host: Host,
    pub(crate) interface: Interface,
    pub(crate) port: u16,
    pub(crate) backlog: i32,
    pub(crate) options: Options,
}

impl Listen for TcpServer {
    async fn listen(&self, _context: ListenContext) -> Result<Listener, Error> {
        let address = self.interface.resolve(&self.host, self.port).await?;
        let socket = socket::listen(address, self.backlog, &self.options)?;
        let bound = socket::bound_to(&socket)?;
        Ok(Listener::from_socket(socket, vec![reachable(bound)], ()))
    }

    fn describe(&self) -> Facts {
        match &self.interface {
            // An empty interface stands for one of these.
            Interface::Address(ip) if ip.is_unspecified() => Facts::new().with("interface", ip.to_string()),
            _ => Facts::new(),
        }
    }
}

/// The client description that reaches a listener from this machine.
fn reachable(bound: SocketAddr) -> Reachable {
    // A socket bound to ::ffff:192.0.2.1 is reached, as any of IPv4, by 192.0.2.1.
    let host = match bound.ip().to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.to_string(),
        ip => match bound {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{ip}%{}", v6.scope_id()),
            _ => ip.to_string(),
        },
    };
    Reachable::new("tcp").with("host", host).with("port", bound.port().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_reached_where_it_is_bound() {
        for (bound, host, port) in [
            ("0.0.0.0:80", "127.0.0.1", "80"),
            ("[::]:80", "::1", "80"),
            ("[::ffff:0.0.0.0]:80", "127.0.0.1", "80"),
            ("192.0.2.1:41213", "192.0.2.1", "41213"),
            ("[2001:db8::1]:80", "2001:db8::1", "80"),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1", "80"),
            ("[fe80::1%2]:80", "fe80::1%2", "80"),
        ] {
            let expected = Reachable::new("tcp").with("host", host).with("port", port);
            assert_eq!(reachable(bound.parse().unwrap()), expected, "{bound}");
        }
    }
}
