//! Streams that are there already, or come from a program: the schemes `stdio`, `fd` and `exec`.
//!
//! `descriptor.rs` adopts descriptors that were handed down, standard input and output among them; `exec.rs` runs
//! programs.

mod descriptor;
mod exec;
mod once;
mod sys;

use endpoints_plugin_api::{Arguments, Client, Error, ErrorKind, Host, Plugin, Server};

use crate::descriptor::Descriptors;

/// The plugin.
#[derive(Debug)]
pub struct Stdio {
    host: Host,
}

endpoints_plugin_api::export!(Stdio, "plugin.json");

impl Plugin for Stdio {
    fn new(host: Host) -> Result<Self, Error> {
        Ok(Self { host })
    }

    fn client(&self, scheme: &str, arguments: &mut Arguments<'_>) -> Result<Client, Error> {
        match scheme {
            "fd" => Ok(Client::new(Descriptors::from_arguments(arguments)?)),
            "exec" => Ok(Client::new(exec::Program::from_arguments(&self.host, arguments)?)),
            _ => Err(Error::new(ErrorKind::Internal, format!("{scheme} has no client side here"))),
        }
    }

    fn server(&self, scheme: &str, arguments: &mut Arguments<'_>) -> Result<Server, Error> {
        match scheme {
            "stdio" => Ok(Server::new(Descriptors::STANDARD)),
            "fd" => Ok(Server::new(Descriptors::from_arguments(arguments)?)),
            _ => Err(Error::new(ErrorKind::Internal, format!("{scheme} has no server side here"))),
        }
    }
}
