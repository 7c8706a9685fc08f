//! Endpoints over TCP: the schemes `tcp` (client and server) and `tcp6` (server).
//!
//! The manifest, `plugin.json`, says what they accept. Their two sides are in `client.rs` and `server.rs`;
//! what both ask of the operating system is in `socket.rs`.

mod attempts;
mod bind_address;
mod client;
mod interface;
mod options;
mod racing;
mod server;
mod socket;

use std::time::Duration;

use endpoints_plugin_api::{Arguments, Client, Error, ErrorKind, Host, Plugin, Server};

use crate::bind_address::BindAddress;
use crate::client::TcpClient;
use crate::interface::{Interface, Wanted};
use crate::options::Options;
use crate::server::TcpServer;

/// The plugin.
#[derive(Debug)]
pub struct Tcp {
    host: Host,
}

endpoints_plugin_api::export!(Tcp, "plugin.json");

impl Plugin for Tcp {
    fn new(host: Host) -> Result<Self, Error> {
        Ok(Self { host })
    }

    fn client(&self, _scheme: &str, arguments: &mut Arguments<'_>) -> Result<Client, Error> {
        let bind_address = arguments.opt_text("bindAddress")?.unwrap_or_default();
        Ok(Client::new(TcpClient {
            host: self.host.clone(),
            name: arguments.text("host")?.to_owned(),
            port: arguments.port("port")?,
            timeout: arguments.duration("timeout")?,
            attempt_delay: attempt_delay(arguments)?,
            bind_address: BindAddress::parse(bind_address)?,
            options: Options::parse(arguments)?,
        }))
    }

    fn server(&self, scheme: &str, arguments: &mut Arguments<'_>) -> Result<Server, Error> {
        let wanted = if scheme == "tcp6" { Wanted::V6Only } else { Wanted::V4First };
        let backlog = i32::try_from(arguments.integer("backlog")?).map_err(|_| {
            Error::new(
                ErrorKind::Internal,
                "the manifest lets a backlog pass that the system call cannot take",
            )
        })?;
        Ok(Server::new(TcpServer {
            host: self.host.clone(),
            interface: Interface::parse(arguments.text("interface")?, wanted)?,
            port: arguments.port("port")?,
            backlog,
            options: Options::parse(arguments)?,
        }))
    }
}

/// The least that RFC 8305, section 8, allows; what is shorter would start all attempts at once.
const SHORTEST_ATTEMPT_DELAY: Duration = Duration::from_millis(10);

fn attempt_delay(arguments: &Arguments<'_>) -> Result<Duration, Error> {
    match arguments.duration("attemptDelay")? {
        delay if delay < SHORTEST_ATTEMPT_DELAY => Err(Error::invalid_argument(
            "attemptDelay",
            format!("attemptDelay: {delay:?} is too short; give at least 10ms (RFC 8305, section 8)"),
        )),
        delay => Ok(delay),
    }
}
