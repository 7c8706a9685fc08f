//! Endpoints: descriptions that were checked, nothing opened.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use endpoints_plugin_api as api;
use endpoints_plugin_api::abi::conn::Taken;
use endpoints_plugin_api::abi::endpoint::{Export, Foreign, REndpoint};
use endpoints_plugin_api::abi::host::{CLIENT, SERVER};
use endpoints_plugin_api::abi::instance::Given;
use endpoints_plugin_api::abi::listener::RListener;

use crate::arguments::{self, Argument};
use crate::connection::{Connection, ConnectionInfo};
use crate::error::{Error, ErrorKind};
use crate::grammar::Description;
use crate::hints;
use crate::listener::Listener;
use crate::manifest::{ParameterType, Role, Scheme};
use crate::provider::SchemeEntry;
use crate::registry::Registry;
use crate::secrets::{about, masked};

mod making;

use self::making::Preamble;

/// Which side of a connection an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoleKind {
    /// It connects.
    Client,
    /// It listens.
    Server,
}

impl RoleKind {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }

    fn code(self) -> u32 {
        match self {
            Self::Client => CLIENT,
            Self::Server => SERVER,
        }
    }

    pub(crate) fn from_code(code: u32) -> Option<Self> {
        match code {
            CLIENT => Some(Self::Client),
            SERVER => Some(Self::Server),
            _ => None,
        }
    }

    pub(crate) fn of(self, scheme: &Scheme) -> Option<&Role> {
        match self {
            Self::Client => scheme.client.as_ref(),
            Self::Server => scheme.server.as_ref(),
        }
    }
}

/// What both kinds of endpoints are.
pub(crate) struct Endpoint {
    pub(crate) role: RoleKind,
    pub(crate) description: Description,
    pub(crate) entry: SchemeEntry,
    /// By parameter name.
    pub(crate) nested: Vec<(String, Arc<Endpoint>)>,
    /// Whether it is a preamble around an encrypting endpoint, and stands beneath that in truth: what is nested does
    /// everything.
    is_exchanged: bool,
    foreign: Foreign,
    /// Kept, so that what the plugin was lent lives as long.
    pub(crate) registry: Registry,
}

/// Makes the outermost endpoint of a text.
pub(crate) fn make(registry: &Registry, role: RoleKind, text: &[u8]) -> Result<Arc<Endpoint>, Error> {
    let description = parse(registry, text)?;
    make_parsed(registry, role, description, 0, None).map_err(|error| about(registry, role, text, error))
}

/// Makes an endpoint for a plugin, which may be making one itself.
pub(crate) fn make_for_plugin(
    registry: &Registry,
    role: RoleKind,
    text: &[u8],
) -> Result<Arc<Endpoint>, Error> {
    let description = parse(registry, text)?;
    let made = make_parsed(registry, role, description, 0, making::take_beneath())
        .map_err(|error| about(registry, role, text, error))?;
    making::note(&made);
    Ok(made)
}

/// Parses a text; the error shows it without what is a secret on either side.
pub(crate) fn parse(registry: &Registry, text: &[u8]) -> Result<Description, Error> {
    Description::parse(text).map_err(|error| {
        let shown = masked(registry, RoleKind::Server, &masked(registry, RoleKind::Client, text));
        Error::from(error).about(shown)
    })
}

/// The deepest nesting of descriptions; each level of escaping doubles the backslashes, so nobody comes near it.
pub(crate) const DEEPEST: usize = 16;

fn make_parsed(
    registry: &Registry,
    role: RoleKind,
    description: Description,
    depth: usize,
    beneath: Option<Arc<Preamble>>,
) -> Result<Arc<Endpoint>, Error> {
    if depth > DEEPEST {
        let message = format!("descriptions are nested more than {DEEPEST} deep");
        return Err(Error::new(ErrorKind::InvalidArgument, message).at(description.scheme_span()));
    }
    let entry = registry.find(&description.scheme()).map_err(|error| {
        let meant = match error.kind() {
            ErrorKind::UnknownScheme => hints::instead_of(&description, role == RoleKind::Server),
            _ => None,
        };
        let error = error.at(description.scheme_span());
        match meant {
            // A scheme that is spelled like it would be the wrong hint.
            Some(meant) => error.meaning(format_args!("did you mean {meant}?")),
            None => error,
        }
    })?;
    let scheme = entry.scheme();
    let Some(declared) = role.of(scheme) else {
        let message = format!("{} has no {} side", scheme.name, role.name());
        return Err(Error::new(ErrorKind::WrongRole, message)
            .with_scheme(&scheme.name)
            .at(description.scheme_span()));
    };
    let checked = arguments::check(&description, declared)?;
    if let Some(instead) = &scheme.deprecated {
        tracing::warn!("{} is deprecated: {instead}", scheme.name);
    }
    if let Some(around) = checked.iter().find(|argument| scheme.preamble && encrypts(registry, argument)) {
        let preamble =
            Preamble { role, description: description.clone(), entry: entry.clone(), outer: beneath };
        let inner = make_nested(registry, role, around, depth, Some(Arc::new(preamble)))
            .map_err(|error| misplaced(error, around, scheme, declared))?;
        let name = around.parameter.name.clone();
        drop(checked);
        let foreign = Foreign::of(Arc::new(Nested(Arc::clone(&inner))));
        let nested = vec![(name, inner)];
        let registry = registry.clone();
        return Ok(Arc::new(Endpoint {
            role,
            description,
            entry,
            nested,
            is_exchanged: true,
            foreign,
            registry,
        }));
    }
    let (mut inside, mut outside) = if scheme.encrypts { (beneath, None) } else { (None, beneath) };
    let mut nested = Vec::new();
    let mut given = Vec::with_capacity(checked.len());
    for argument in &checked {
        let endpoint = if argument.is_nested() {
            let inner = make_nested(registry, role, argument, depth, inside.take())
                .map_err(|error| misplaced(error, argument, scheme, declared))?;
            let exported = Foreign::of(Arc::new(Nested(Arc::clone(&inner))));
            nested.push((argument.parameter.name.clone(), inner));
            Some(exported)
        } else {
            None
        };
        given.push(Given {
            name: &argument.parameter.name,
            value: &argument.value,
            number: argument.number,
            given: argument.given,
            endpoint,
        });
    }
    let made = entry.provider.instance(&registry.0.services).and_then(|instance| {
        let made = making::watched(inside, || instance.endpoint(role.code(), &scheme.name, &mut given));
        nested.extend(made.asked_for.into_iter().map(|inner| (IMPLICIT.to_owned(), inner)));
        // Nothing stands inside.
        outside = outside.take().or(made.beneath);
        Ok(made.result?)
    });
    let foreign = made.map_err(|error| at_argument(error, &checked).with_scheme(&scheme.name))?;
    drop(given);
    drop(checked);
    let registry = registry.clone();
    let made =
        Arc::new(Endpoint { role, description, entry, nested, is_exchanged: false, foreign, registry });
    match outside {
        Some(preamble) => put_around(&preamble, &made),
        None => Ok(made),
    }
}

/// What an endpoint that a plugin asked for by itself is called, in place of an argument's name.
const IMPLICIT: &str = "endpoint";

/// Whether the endpoint that an argument describes encrypts what goes through it.
fn encrypts(registry: &Registry, argument: &Argument<'_, '_>) -> bool {
    argument.is_nested()
        && Description::parse(argument.value.as_ref())
            .ok()
            .and_then(|description| registry.find(&description.scheme()).ok())
            .is_some_and(|entry| entry.scheme().encrypts)
}

/// Puts a preamble, whose description tells of another endpoint inside, around `inner`.
fn put_around(preamble: &Preamble, inner: &Arc<Endpoint>) -> Result<Arc<Endpoint>, Error> {
    let Preamble { role, description, entry, outer } = preamble;
    let scheme = entry.scheme();
    let internal =
        || Error::new(ErrorKind::Internal, "a preamble lost its arguments").with_scheme(&scheme.name);
    let checked = arguments::check(description, role.of(scheme).ok_or_else(internal)?)?;
    let registry = inner.registry.clone();
    let mut nested = Vec::new();
    let mut given: Vec<_> = checked
        .iter()
        .map(|argument| Given {
            name: &argument.parameter.name,
            value: &argument.value,
            number: argument.number,
            given: argument.given,
            endpoint: argument.is_nested().then(|| {
                nested.push((argument.parameter.name.clone(), Arc::clone(inner)));
                Foreign::of(Arc::new(Nested(Arc::clone(inner))))
            }),
        })
        .collect();
    let made = entry
        .provider
        .instance(&registry.0.services)
        .and_then(|instance| Ok(instance.endpoint(role.code(), &scheme.name, &mut given)?));
    let foreign = made.map_err(|error| error.with_scheme(&scheme.name))?;
    drop(given);
    let (role, entry, description) = (*role, entry.clone(), description.clone());
    drop(checked);
    let made =
        Arc::new(Endpoint { role, description, entry, nested, is_exchanged: false, foreign, registry });
    match outer {
        Some(outer) => put_around(outer, &made),
        None => Ok(made),
    }
}

/// Points at the argument that a plugin names in its error.
fn at_argument(error: Error, checked: &[Argument<'_, '_>]) -> Error {
    let span = error.argument().and_then(|name| {
        let argument = checked.iter().find(|argument| argument.parameter.is_called(name))?;
        argument.part.map(|part| part.span())
    });
    match span {
        Some(span) => error.at(span),
        None => error,
    }
}

/// Tells that an argument which the endpoint inside does not take is one of the wrapper's own, in whose description all
/// that follows belongs to the one inside.
fn misplaced(error: Error, argument: &Argument<'_, '_>, scheme: &Scheme, declared: &Role) -> Error {
    let outer = error.argument().filter(|name| argument.is_rest() && declared.parameter(name).is_some());
    match outer.filter(|_| error.kind() == ErrorKind::UnknownArgument).map(str::to_owned) {
        None => error,
        Some(name) => {
            let (scheme, inner) = (&scheme.name, &argument.parameter.name);
            error.meaning(format_args!(
                "to give {name} to {scheme}, write {scheme}:{inner}=…:{name}=… with each colon inside {inner} as \\:"
            ))
        }
    }
}

fn make_nested(
    registry: &Registry,
    role: RoleKind,
    argument: &Argument<'_, '_>,
    depth: usize,
    beneath: Option<Arc<Preamble>>,
) -> Result<Arc<Endpoint>, Error> {
    let role = match argument.parameter.kind {
        ParameterType::Client => RoleKind::Client,
        ParameterType::Server => RoleKind::Server,
        _ => role,
    };
    let located = |error: Error| error.relocate(|span| argument.locate(span));
    let description = Description::parse(argument.value.as_ref())
        .map_err(|error| located(Error::from(error).context(&argument.parameter.name)))?;
    make_parsed(registry, role, description, depth + 1, beneath).map_err(located)
}

impl Endpoint {
    pub(crate) fn scheme(&self) -> &Arc<str> {
        &self.entry.scheme().name
    }

    pub(crate) fn declared(&self) -> Option<&Role> {
        self.role.of(self.entry.scheme())
    }

    /// The arguments, checked anew; they were found good when the endpoint was made.
    pub(crate) fn arguments(&self) -> Vec<Argument<'_, '_>> {
        self.declared().and_then(|role| arguments::check(&self.description, role).ok()).unwrap_or_default()
    }

    /// What the plugin says about its arguments.
    pub(crate) fn described(&self) -> api::Facts {
        api::Facts::from_bytes(self.foreign.describe().as_slice().to_vec())
    }

    /// Whether a scheme on any level tells its peer about the connection that is being relayed.
    pub(crate) fn passes_origin_on(&self) -> bool {
        self.entry.scheme().preamble || self.nested.iter().any(|(_, inner)| inner.passes_origin_on())
    }

    /// The endpoint that connects or listens.
    fn acting(self: &Arc<Self>) -> &Arc<Self> {
        match self.nested.first() {
            Some((_, inner)) if self.is_exchanged => inner.acting(),
            _ => self,
        }
    }

    fn connect_raw(
        self: &Arc<Self>,
        context: ConnectContext,
    ) -> impl Future<Output = Result<Connection, Error>> + Send + use<> {
        self.acting().connect_itself(context)
    }

    fn connect_itself(
        self: &Arc<Self>,
        context: ConnectContext,
    ) -> impl Future<Output = Result<Connection, Error>> + Send + use<> {
        let time_left = context.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let origin = context.origin.map(|info| info.encode()).unwrap_or_default();
        let connecting = self.foreign.connect(time_left, &origin);
        let this = Arc::clone(self);
        async move {
            let scheme = this.scheme();
            let connected = match connecting.await {
                // A descriptor goes to the reactor, which a plugin's own thread is not in.
                Ok(taken) => this.within(|| Connection::from_taken(taken, scheme)),
                Err(error) => Err(error.into()),
            };
            connected.map_err(|error| error.with_scheme(scheme))
        }
    }

    /// Calls `f` where there is a runtime, also on a thread of a plugin's own.
    fn within<R>(&self, f: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
        self.registry.0.services.within(f).unwrap_or_else(|error| Err(error.into()))
    }

    async fn listen(self: Arc<Self>) -> Result<Listener, Error> {
        let this = Arc::clone(self.acting());
        let listening = match this.foreign.listen().await {
            Ok(foreign) => this.within(|| Listener::new(foreign, Arc::clone(&this))),
            Err(error) => Err(error.into()),
        };
        listening.map_err(|error| error.with_scheme(this.scheme()))
    }

    fn masked(&self) -> Vec<u8> {
        let canonical = self.description.canonicalized();
        masked(&self.registry, self.role, canonical.text())
    }
}

/// An endpoint lent to a plugin that stands around it.
struct Nested(Arc<Endpoint>);

impl Export for Nested {
    async fn connect(
        self: Arc<Self>,
        time_left: Option<Duration>,
        origin: Vec<u8>,
    ) -> Result<Taken, api::Error> {
        let origin = (!origin.is_empty()).then(|| ConnectionInfo::decode(origin));
        let context =
            ConnectContext { deadline: time_left.and_then(|left| Instant::now().checked_add(left)), origin };
        let connection = self.0.connect_raw(context).await.map_err(|error| error.to_api())?;
        Ok(connection.into_taken())
    }

    async fn listen(self: Arc<Self>) -> Result<RListener, api::Error> {
        let listener = Arc::clone(&self.0).listen().await.map_err(|error| error.to_api())?;
        Ok(RListener::new(listener))
    }

    fn describe(&self) -> Vec<u8> {
        self.0.foreign.describe().as_slice().to_vec()
    }
}

/// An endpoint made for a plugin that brought the description itself.
pub(crate) fn export(endpoint: Arc<Endpoint>) -> REndpoint {
    REndpoint::new(Arc::new(Nested(endpoint)))
}

/// What one attempt to connect is about.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ConnectContext {
    /// When the attempt is given up with [`ErrorKind::TimedOut`]; the description's own time limits hold beside it.
    pub deadline: Option<Instant>,
    /// What is known about the connection that is being relayed, for schemes that pass it on.
    pub origin: Option<ConnectionInfo>,
}

impl ConnectContext {
    /// No deadline, nothing relayed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with a deadline so far from now.
    #[must_use]
    pub fn with_timeout(mut self, limit: Duration) -> Self {
        self.deadline = Instant::now().checked_add(limit);
        self
    }

    /// The same for a connection that is relayed.
    #[must_use]
    pub fn with_origin(mut self, origin: ConnectionInfo) -> Self {
        self.origin = Some(origin);
        self
    }
}

macro_rules! endpoint_type {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        ///
        /// Made by a [`Registry`]; cheap to clone. `Display` gives the canonical description with secrets masked.
        #[derive(Clone)]
        pub struct $name(pub(crate) Arc<Endpoint>);

        impl $name {
            pub(crate) fn new(endpoint: Arc<Endpoint>) -> Self {
                Self(endpoint)
            }

            /// The description that it was made from, secrets included.
            #[must_use]
            pub fn description(&self) -> &Description {
                &self.0.description
            }

            /// The scheme, in small letters.
            #[must_use]
            pub fn scheme(&self) -> &str {
                self.0.scheme()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&String::from_utf8_lossy(&self.0.masked()))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

endpoint_type!(ClientEndpoint, "Where to connect to.");
endpoint_type!(ServerEndpoint, "Where to listen.");

impl ClientEndpoint {
    /// Connects.
    ///
    /// # Errors
    /// Why there is no connection; [`Error::is_retryable`] tells whether to try again. [`ErrorKind::Internal`] outside of
    /// a tokio runtime.
    ///
    /// # Cancel safety
    /// Dropping the future gives the attempt up and closes what it had opened.
    pub async fn connect(&self) -> Result<Connection, Error> {
        self.0.registry.0.services.note_runtime()?;
        self.0.connect_raw(ConnectContext::default()).await
    }

    /// Connects, with a deadline or for a connection that is being relayed.
    ///
    /// # Errors
    /// As [`connect`](Self::connect); [`ErrorKind::TimedOut`] when the deadline has passed.
    ///
    /// # Cancel safety
    /// As for [`connect`](Self::connect).
    pub async fn connect_with(&self, context: ConnectContext) -> Result<Connection, Error> {
        self.0.registry.0.services.note_runtime()?;
        let deadline = context.deadline;
        let connecting = self.0.connect_raw(context);
        let Some(deadline) = deadline else { return connecting.await };
        match tokio::time::timeout_at(deadline.into(), connecting).await {
            Ok(result) => result,
            Err(_) => {
                let message = format!("connecting to {self} was not done by the deadline");
                Err(Error::new(ErrorKind::TimedOut, message).with_scheme(self.scheme()).retryable(true))
            }
        }
    }
}

impl ServerEndpoint {
    /// Starts to listen.
    ///
    /// # Errors
    /// Why it cannot; [`ErrorKind::Internal`] outside of a tokio runtime.
    ///
    /// # Cancel safety
    /// Dropping the future gives it up and closes what it had opened.
    pub async fn listen(&self) -> Result<Listener, Error> {
        self.0.registry.0.services.note_runtime()?;
        Arc::clone(&self.0).listen().await
    }
}
