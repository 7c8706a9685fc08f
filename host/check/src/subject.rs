//! The scheme under test: descriptions that work, made from what its manifest declares, and connections of it.

use std::cell::Cell;
use std::time::Duration;

use endpoints::manifest::{Parameter, ParameterType, Role, Scheme, SchemeKind};
use endpoints::{ClientEndpoint, Connection, Error, ErrorKind, Listener, Registry, ServerEndpoint};
use tempfile::TempDir;

use crate::finding::{Finding, Step, Verdict, expect, fails, send, skips, step_limit, told, within};
use crate::memory;
use crate::registry::registry;
use crate::task::Task;
use crate::values::{Arguments, Values, stands_around};

/// A scheme of the plugin, in a registry of its own.
pub(crate) struct Subject {
    pub(crate) registry: Registry,
    pub(crate) scheme: Scheme,
    pub(crate) task: Task,
    /// One of its own, where the task's is another's.
    folder: Option<TempDir>,
    /// See [`Values::suffix`].
    suffix: String,
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
        // Now, so that it is no part of what a check looks at.
        registry.load(name).step("loading it and setting it up")?;
        let (manifest, _) = registry.manifest(name).step("finding the scheme")?;
        let scheme = manifest.plugin.schemes.iter().find(|scheme| *scheme.name == *name).cloned();
        let scheme =
            scheme.ok_or_else(|| Finding::Fails(format!("the scheme {name} is not in the manifest")))?;
        let suffix = format!("-{}", std::process::id());
        let task = task.clone();
        let mut subject = Self { registry, scheme, task, folder: None, suffix, names: Cell::new(0) };
        if subject.server().is_err() {
            // Not every text is free.
            subject.suffix.clear();
        }
        Ok(subject)
    }

    /// The same scheme in the same registry, with a value given for a parameter.
    pub(crate) fn given(&self, name: &str, value: &[u8]) -> Verdict<Self> {
        let mut task = self.task.clone();
        task.arguments.insert(0, (name.to_owned(), value.to_vec()));
        let folder = tempfile::tempdir_in(&task.folder).step("making a temporary folder")?;
        Ok(Self {
            registry: self.registry.clone(),
            scheme: self.scheme.clone(),
            task,
            folder: Some(folder),
            suffix: self.suffix.clone(),
            names: Cell::new(self.names.get()),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.scheme.name
    }

    /// Skips unless the scheme stands around another endpoint, which then is one in memory.
    pub(crate) fn needs_wrapper(&self) -> Verdict {
        if self.task.server.is_some() || self.task.client.is_some() {
            return skips("what it stands around was given, and is not in memory");
        }
        match self.is_around() {
            true => Ok(()),
            false => skips("it stands around no other endpoint that can be given"),
        }
    }

    /// Whether it stands around another endpoint, on each side that it has.
    pub(crate) fn is_around(&self) -> bool {
        let mut roles = self.scheme.client.iter().chain(&self.scheme.server);
        self.scheme.kind == SchemeKind::Wrapper && roles.all(stands_around)
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
        Values {
            scheme: &self.scheme,
            suffix: &self.suffix,
            folder: self.folder.as_ref().map_or(&*self.task.folder, TempDir::path),
            given: &self.task.arguments,
        }
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
        self.make_server(&arguments).map_err(|error| self.not_made(true, &error))
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

    /// Listens on an endpoint that works.
    pub(crate) async fn listen(&self) -> Verdict<Listener> {
        self.listen_around(&Self::inner(&self.fresh_name(), "")).await
    }

    pub(crate) async fn listen_around(&self, inner: &[u8]) -> Verdict<Listener> {
        let server = self.server_around(inner)?;
        within("listening", server.listen()).await?.step("listening")
    }

    /// A client endpoint with nobody to reach: a wrapper around `inner`.
    pub(crate) fn client_alone(&self, inner: &[u8]) -> Verdict<ClientEndpoint> {
        self.role(false)?;
        let arguments = self.values().client(inner)?;
        self.make_client(&arguments).map_err(|error| self.not_made(false, &error))
    }

    /// What it means that an endpoint cannot be made of the values that the manifest suggests: often that it needs a file.
    pub(crate) fn not_made(&self, server: bool, error: &Error) -> Finding {
        let (side, scheme) = (if server { "server" } else { "client" }, self.name());
        let values = match self.given_at_fault(server, error) {
            true => "with the values given by --argument",
            false => "of the examples in the manifest",
        };
        let message = format!(
            "no {side} endpoint can be made {values}: {}; give one that works with --{side} '{scheme}:…'",
            told(error)
        );
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::PermissionDenied => Finding::Skips(message),
            _ => Finding::Fails(message),
        }
    }

    /// Whether an error is about a value that was given, and not about an example of the manifest.
    pub(crate) fn given_at_fault(&self, server: bool, error: &Error) -> bool {
        let Ok(role) = self.role(server) else { return false };
        let given = |one: &Parameter| self.task.arguments.iter().any(|(name, _)| one.is_called(name));
        let own = error.scheme().is_none_or(|scheme| scheme == self.name());
        match error.argument().filter(|_| own).and_then(|name| role.parameter(name)) {
            Some(parameter) => {
                let needs_it = |one: &&Parameter| one.requires.contains(&parameter.name);
                given(parameter) || role.parameters.iter().filter(needs_it).any(given)
            }
            // It is about no value alone, or about an endpoint inside.
            None => role.parameters.iter().any(|one| given(one) && (own || is_nested(one.kind))),
        }
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
        let is_in_memory = self.is_around() && self.task.server.is_none();
        let inner = is_in_memory.then_some(&*inner);
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
    match tokio::time::timeout(step_limit(), both).await {
        Ok(both) => both,
        Err(_) => {
            fails(format!("connecting, and accepting the connection, did not end within {:?}", step_limit()))
        }
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
