//! The scheme under test: descriptions that work, made from what its manifest declares, and connections of it.

use std::cell::Cell;
use std::time::Duration;

use endpoints::manifest::{ParameterType, Role, Scheme, SchemeKind};
use endpoints::{ClientEndpoint, Connection, Error, ErrorKind, Listener, Registry, ServerEndpoint};
use tempfile::TempDir;

use crate::finding::{Finding, STEP, Step, Verdict, expect, fails, send, skips, told, within};
use crate::memory;
use crate::task::Task;
use crate::values::{Arguments, Values};

/// A scheme of the plugin, in a registry of its own.
pub(crate) struct Subject {
    pub(crate) registry: Registry,
    pub(crate) scheme: Scheme,
    pub(crate) task: Task,
    folder: TempDir,
    /// How many names in memory were given.
    names: Cell<u32>,
}

/// Both sides of a connection, and who accepted it.
pub(crate) struct Pair {
    pub(crate) near: Connection,
    pub(crate) far: Connection,
    pub(crate) listener: Listener,
    pub(crate) client: ClientEndpoint,
}

impl Subject {
    pub(crate) fn new(task: &Task) -> Verdict<Self> {
        let registry = registry(task).step("setting up a registry")?;
        let name = task.scheme.as_deref().unwrap_or_default();
        let (manifest, _) = registry.manifest(name).step("finding the scheme")?;
        let scheme = manifest.plugin.schemes.iter().find(|scheme| *scheme.name == *name).cloned();
        let scheme =
            scheme.ok_or_else(|| Finding::Fails(format!("the scheme {name} is not in the manifest")))?;
        let folder = tempfile::tempdir().step("making a temporary folder")?;
        Ok(Self { registry, scheme, task: task.clone(), folder, names: Cell::new(0) })
    }

    pub(crate) fn name(&self) -> &str {
        &self.scheme.name
    }

    /// Skips unless the scheme stands around another endpoint, which then is one in memory.
    pub(crate) fn needs_wrapper(&self) -> Verdict {
        match self.scheme.kind {
            SchemeKind::Wrapper if self.task.server.is_none() && self.task.client.is_none() => Ok(()),
            _ => skips("what it stands around was given, and is not in memory"),
        }
    }

    pub(crate) fn role(&self, server: bool) -> Verdict<&Role> {
        let (role, side) =
            if server { (&self.scheme.server, "server") } else { (&self.scheme.client, "client") };
        role.as_ref().ok_or_else(|| Finding::Skips(format!("the scheme has no {side} side")))
    }

    /// A name in memory that nobody has.
    pub(crate) fn fresh_name(&self) -> String {
        self.names.set(self.names.get() + 1);
        format!("n{}", self.names.get())
    }

    pub(crate) fn values(&self) -> Values<'_> {
        Values { scheme: &self.scheme, folder: self.folder.path() }
    }

    /// The endpoint in memory that a wrapper stands around; `conduct` are arguments more, as in `most=1:pending=1`.
    pub(crate) fn inner(name: &str, conduct: &str) -> Vec<u8> {
        let separator = if conduct.is_empty() { "" } else { ":" };
        format!("{}:name={name}{separator}{conduct}", memory::SCHEME).into_bytes()
    }

    /// A server endpoint that works.
    pub(crate) fn server(&self) -> Verdict<ServerEndpoint> {
        self.server_around(&Self::inner(&self.fresh_name(), ""))
    }

    /// The same, which stands around `inner` where it is a wrapper.
    pub(crate) fn server_around(&self, inner: &[u8]) -> Verdict<ServerEndpoint> {
        self.role(true)?;
        if let Some(given) = &self.task.server {
            return self.registry.server(given).step("making the server endpoint that was given");
        }
        let arguments = self.values().server(inner)?;
        self.make_server(&arguments).map_err(|error| not_made("server", self.name(), &error))
    }

    pub(crate) fn make_server(&self, arguments: &Arguments) -> Result<ServerEndpoint, Error> {
        let mut builder = self.registry.server_builder(self.name());
        for (name, value) in arguments {
            builder = builder.argument(name.clone(), endpoints::Value::bytes(value.clone()));
        }
        builder.build()
    }

    pub(crate) fn make_client(&self, arguments: &Arguments) -> Result<ClientEndpoint, Error> {
        let mut builder = self.registry.client_builder(self.name());
        for (name, value) in arguments {
            builder = builder.argument(name.clone(), endpoints::Value::bytes(value.clone()));
        }
        builder.build()
    }

    /// Listens on an endpoint that works. An address that somebody has is made another.
    pub(crate) async fn listen(&self) -> Verdict<Listener> {
        self.listen_around(&Self::inner(&self.fresh_name(), "")).await
    }

    pub(crate) async fn listen_around(&self, inner: &[u8]) -> Verdict<Listener> {
        let server = self.server_around(inner)?;
        let taken = match within("listening", server.listen()).await? {
            Err(error) if error.kind() == ErrorKind::AddressInUse && self.task.server.is_none() => error,
            listened => return listened.step("listening"),
        };
        let mut arguments = self.values().server(inner)?;
        if !self.values().make_unique(&mut arguments) {
            return fails(format!("listening failed: {}", told(&taken)));
        }
        let server = self.make_server(&arguments).map_err(|error| not_made("server", self.name(), &error))?;
        within("listening", server.listen()).await?.step("listening")
    }

    /// The client endpoint that reaches a listener: by what the listener tells, else by the arguments that both sides
    /// have in common.
    pub(crate) fn client_of(&self, listener: &Listener) -> Verdict<ClientEndpoint> {
        self.client_around(listener, None)
    }

    /// The same, which stands around `inner` where it is a wrapper.
    pub(crate) fn client_around(&self, listener: &Listener, inner: Option<&[u8]>) -> Verdict<ClientEndpoint> {
        if let Some(given) = &self.task.client {
            return self.registry.client(given).step("making the client endpoint that was given");
        }
        let Some(role) = &self.scheme.client else { return self.client_of_another(listener) };
        let mut arguments = self.values().client(inner.unwrap_or_default())?;
        for description in listener.reachable() {
            let own = description.scheme() == self.name().as_bytes();
            if own && inner.is_none() {
                // What it keeps to itself, such as a secret, comes from the server's own arguments below.
                if let Ok(client) = self.registry.client(description.text()) {
                    return Ok(client);
                }
            }
            if !own && inner.is_none() {
                // It tells how the endpoint inside is reached.
                let nested = role.parameters.iter().find(|parameter| is_nested(parameter.kind));
                if let Some(nested) = nested {
                    set(&mut arguments, &nested.name, description.text().to_vec());
                }
            }
            if own {
                for part in description.keywords() {
                    let name = part.key().unwrap_or_default().into_owned();
                    let nested = role.parameter(&name).is_some_and(|parameter| is_nested(parameter.kind));
                    if !(nested && inner.is_some()) {
                        set(&mut arguments, &name, part.value().into_owned());
                    }
                }
            }
        }
        self.make_client(&arguments).map_err(|error| not_made("client", self.name(), &error))
    }

    /// The client endpoint that reaches a listener whose scheme has no client side.
    fn client_of_another(&self, listener: &Listener) -> Verdict<ClientEndpoint> {
        let told = listener.reachable();
        match told.first() {
            Some(description) => self
                .registry
                .client(description.text())
                .step("making the client endpoint that a listener tells"),
            None => skips(
                "the scheme has no client side, and its listener does not tell how it is reached; give --client",
            ),
        }
    }

    /// A client endpoint with nobody to reach: a wrapper around `inner`.
    pub(crate) fn client_alone(&self, inner: &[u8]) -> Verdict<ClientEndpoint> {
        self.role(false)?;
        let arguments = self.values().client(inner)?;
        self.make_client(&arguments).map_err(|error| not_made("client", self.name(), &error))
    }

    /// A listener, and a connection to it.
    pub(crate) async fn pair(&self) -> Verdict<Pair> {
        self.pair_with("", "").await
    }

    /// The same, where the endpoints in memory that a wrapper stands around behave as said.
    pub(crate) async fn pair_with(&self, client: &str, server: &str) -> Verdict<Pair> {
        let name = self.fresh_name();
        let listener = self.listen_around(&Self::inner(&name, server)).await?;
        let inner = Self::inner(&name, client);
        let inner = (self.scheme.kind == SchemeKind::Wrapper).then_some(&*inner);
        let client = self.client_around(&listener, inner)?;
        let (near, far) = connect(&client, &listener).await?;
        Ok(Pair { near, far, listener, client })
    }
}

pub(crate) fn is_nested(kind: ParameterType) -> bool {
    matches!(kind, ParameterType::Client | ParameterType::Server | ParameterType::Rest)
}

pub(crate) fn set(arguments: &mut Arguments, name: &str, value: Vec<u8>) {
    match arguments.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) => *known = value,
        None => arguments.push((name.to_owned(), value)),
    }
}

/// Connects and accepts, with the handshakes of both sides.
pub(crate) async fn connect(
    client: &ClientEndpoint,
    listener: &Listener,
) -> Verdict<(Connection, Connection)> {
    let accepting = async {
        let incoming = listener.accept().await.step("accepting")?;
        incoming.await.step("the handshake of an accepted connection")
    };
    let connecting = async { client.connect().await.step("connecting") };
    let both = async { tokio::try_join!(connecting, accepting) };
    match tokio::time::timeout(STEP, both).await {
        Ok(both) => both,
        Err(_) => fails(format!("connecting, and accepting the connection, did not end within {STEP:?}")),
    }
}

impl Pair {
    /// Sends a little both ways.
    pub(crate) async fn greet(&mut self) -> Verdict {
        send(&mut self.near, b"ping", "from the client").await?;
        expect(&mut self.far, b"ping", "what the client sent").await?;
        send(&mut self.far, b"pong!", "from the server").await?;
        expect(&mut self.near, b"pong!", "what the server sent").await
    }
}

/// The registry of a check: the file, the built-in schemes that it does not provide, and connections in memory.
pub(crate) fn registry(task: &Task) -> Result<Registry, Error> {
    let mut builder = Registry::builder()
        .default_plugin_path(false)
        .plugin_file(&task.file)
        .allow_abort(true)
        .compiled_in(&memory::PLUGIN);
    for directory in &task.plugin_path {
        builder = builder.plugin_path(directory);
    }
    for scheme in &task.schemes {
        if is_built_in(scheme) {
            builder = builder.without_built_in(scheme.clone());
        }
    }
    builder.build()
}

fn is_built_in(scheme: &str) -> bool {
    let built_in = Registry::builder().default_plugin_path(false).build();
    built_in.is_ok_and(|registry| registry.manifest(scheme).is_ok())
}

/// What it means that an endpoint cannot be made of the values that the manifest suggests: often that it needs a file.
fn not_made(side: &str, scheme: &str, error: &Error) -> Finding {
    let message = format!(
        "no {side} endpoint can be made of the examples in the manifest: {}; give one that works with --{side} '{scheme}:…'",
        told(error)
    );
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::PermissionDenied => Finding::Skips(message),
        _ => Finding::Fails(message),
    }
}

/// Waits a moment for what ends by itself.
pub(crate) async fn settle(condition: impl Fn() -> bool) -> bool {
    for _ in 0..200 {
        if condition() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    condition()
}
