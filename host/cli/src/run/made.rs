//! Services whose endpoints are made, nothing opened.

use std::ffi::OsString;
use std::path::Path;

use endpoints::{ClientEndpoint, Error, Explanation, Registry, ServerEndpoint};
use toml::Spanned;

use super::file::{self, Several, Source};
use crate::standard::are_standard_streams;

/// A service of the file, and its endpoints.
pub(super) struct Made {
    pub(super) written: file::Service,
    pub(super) from: From,
    pub(super) to: To,
}

/// Where connections come from.
pub(super) enum From {
    Listen(ServerEndpoint),
    /// At least one.
    Connect(Vec<ClientEndpoint>),
}

/// What is done with them.
#[derive(Clone)]
pub(super) enum To {
    Forward(ClientEndpoint),
    Exec(Vec<OsString>),
    Echo,
}

/// Reads a file, and makes all endpoints of it.
pub(super) fn read(path: &Path, registry: &Registry) -> Result<Vec<Made>, Error> {
    let (text, services) = file::read(path)?;
    let source = Source::new(path, &text);
    services.into_iter().map(|written| make(written, &source, registry)).collect()
}

fn make(written: file::Service, source: &Source<'_>, registry: &Registry) -> Result<Made, Error> {
    let place = |span, setting: &str| {
        let name = written.name.as_ref();
        format!("{}: service {name:?}: {setting}", source.place(span))
    };
    let client = |description: &str, span, setting: &str| {
        registry.client(description).map_err(|error| error.context(place(span, setting)))
    };
    let from = match (&written.listen, &written.connect) {
        (Some(listen), _) => {
            let server = registry.server(listen.as_ref());
            From::Listen(server.map_err(|error| error.context(place(listen.span(), "listen")))?)
        }
        (None, Some(connect)) => {
            let clients = match connect.as_ref() {
                Several::One(one) => vec![client(one, connect.span(), "connect")?],
                Several::More(more) => {
                    let each = more.iter().map(|one| client(one.as_ref(), one.span(), "connect"));
                    each.collect::<Result<_, _>>()?
                }
            };
            From::Connect(clients)
        }
        // The file was checked.
        (None, None) => From::Connect(Vec::new()),
    };
    let to = match (&written.forward, &written.exec) {
        (Some(forward), _) => To::Forward(client(forward.as_ref(), forward.span(), "forward")?),
        (None, Some(exec)) => To::Exec(exec.as_ref().iter().map(OsString::from).collect()),
        (None, None) => To::Echo,
    };
    Ok(Made { written, from, to })
}

impl Made {
    pub(super) fn name(&self) -> &str {
        self.written.name.as_ref()
    }

    pub(super) fn uses_standard_streams(&self) -> bool {
        let from = match &self.from {
            From::Listen(server) => are_standard_streams(&server.explain()),
            From::Connect(clients) => clients.iter().any(|client| are_standard_streams(&client.explain())),
        };
        from || matches!(&self.to, To::Forward(client) if are_standard_streams(&client.explain()))
    }

    /// What it listens on, where that is a socket that the process was handed.
    pub(super) fn inherited(&self) -> Option<String> {
        fn inherited(endpoint: &Explanation) -> bool {
            matches!(&*endpoint.scheme, "systemd" | "fd" | "stdio")
                || endpoint.inner.iter().any(|(_, inner)| inherited(inner))
        }
        match &self.from {
            From::Listen(server) if inherited(&server.explain()) => Some(server.to_string()),
            _ => None,
        }
    }
}

/// The value of a setting.
pub(super) fn value<T: Copy>(setting: Option<&Spanned<T>>) -> Option<T> {
    setting.map(|setting| *setting.as_ref())
}
