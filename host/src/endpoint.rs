//! Endpoints: descriptions that were checked, nothing opened.

use std::fmt;
use std::future::Future;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use endpoints_plugin_api as api;
use endpoints_plugin_api::abi::conn::Taken;
use endpoints_plugin_api::abi::endpoint::{Export, Foreign};
use endpoints_plugin_api::abi::host::{CLIENT, SERVER};
use endpoints_plugin_api::abi::listener::Foreign as ForeignListener;

use crate::arguments::{self, Argument};
use crate::connection::{Connection, ConnectionInfo};
use crate::error::{Error, ErrorKind};
use crate::grammar::Description;
use crate::listener::{self, Listener};
use crate::manifest::{Role, Scheme};
use crate::provider::SchemeEntry;
use crate::registry::Registry;
use crate::secrets::masked;

mod make;
mod making;

use make::Objects;
pub(crate) use make::{DEEPEST, make, make_around, make_for_plugin, parse};

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
    /// Those of `nested` that were there before and not made for this one.
    objects: Objects,
    /// Whether it is a preamble around an encrypting endpoint, and stands beneath that in truth: what is nested does
    /// everything.
    is_exchanged: bool,
    foreign: Foreign,
    /// Kept, so that what the plugin was lent lives as long.
    pub(crate) registry: Registry,
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

    /// How deep others are nested in it.
    fn levels(&self) -> usize {
        self.nested.iter().map(|(_, inner)| 1 + inner.levels()).max().unwrap_or(0)
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

    /// Remembers the runtime, where there is one, for the plugins of a registry that may be another one than that of
    /// the endpoint around.
    fn note_runtime(&self) {
        let _ = self.registry.0.services.note_runtime();
    }

    /// Calls `f` where there is a runtime, also on a thread of a plugin's own.
    fn within<R>(&self, f: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
        self.registry.0.services.within(f).unwrap_or_else(|error| Err(error.into()))
    }

    pub(crate) async fn listen(self: Arc<Self>) -> Result<Listener, Error> {
        let this = Arc::clone(self.acting());
        if let Some(listener) = this.within(|| Ok(listener::once_more(&this)))? {
            return listener.map_err(|error| error.with_scheme(this.scheme()));
        }
        // On the server's side the same schemes are told by their peer.
        let peers_are_told = self.passes_origin_on();
        let listening = match this.foreign.listen().await {
            Ok(foreign) => this.within(|| Listener::new(foreign, Arc::clone(&this), peers_are_told)),
            Err(error) => Err(error.into()),
        };
        listening.map_err(|error| error.with_scheme(this.scheme()))
    }

    fn masked(&self) -> Vec<u8> {
        let shown = make::without_secrets_of_others(&self.registry, &self.description, &self.objects);
        let canonical = shown.as_ref().unwrap_or(&self.description).canonicalized();
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
        self.0.note_runtime();
        let origin = (!origin.is_empty()).then(|| ConnectionInfo::decode(&origin));
        let context = ConnectContext {
            deadline: time_left.and_then(|left| Instant::now().checked_add(left)),
            origin,
            limit: None,
        };
        let connection = self.0.connect_raw(context).await.map_err(|error| error.to_api())?;
        Ok(connection.into_taken())
    }

    async fn listen(self: Arc<Self>) -> Result<ForeignListener, api::Error> {
        self.0.note_runtime();
        let listener = Arc::clone(&self.0).listen().await.map_err(|error| error.to_api())?;
        Ok(ForeignListener::of(listener))
    }

    fn describe(&self) -> Vec<u8> {
        self.0.foreign.describe().as_slice().to_vec()
    }
}

/// An endpoint made for a plugin that brought the description itself.
pub(crate) fn export(endpoint: Arc<Endpoint>) -> Foreign {
    Foreign::of(Arc::new(Nested(endpoint)))
}

/// What one attempt to connect is about.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ConnectContext {
    /// When the attempt is given up with [`ErrorKind::TimedOut`]; the description's own time limits hold beside it.
    pub deadline: Option<Instant>,
    /// What is known about the connection that is being relayed, for schemes that pass it on.
    pub origin: Option<ConnectionInfo>,
    /// How long that was, where the deadline was made from a length of time.
    limit: Option<(Instant, Duration)>,
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
        self.limit = self.deadline.map(|deadline| (deadline, limit));
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
    ($name:ident, $make:ident, $doc:literal) => {
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

        /// By the [global](Registry::global) registry. The error's own text shows no secret, but whoever shows the text that
        /// was parsed shows those in it.
        impl FromStr for $name {
            type Err = Error;

            fn from_str(description: &str) -> Result<Self, Error> {
                Registry::global().$make(description)
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

endpoint_type!(ClientEndpoint, client, "Where to connect to.");
endpoint_type!(ServerEndpoint, server, "Where to listen.");

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
        let (deadline, limit) = (context.deadline, context.limit);
        let connecting = self.0.connect_raw(context);
        let Some(deadline) = deadline else { return connecting.await };
        match tokio::time::timeout_at(deadline.into(), connecting).await {
            Ok(result) => result,
            Err(_) => {
                let in_time = match limit {
                    Some((at, limit)) if at == deadline => format!("within {limit:?}, the connect timeout"),
                    _ => "by the deadline".to_owned(),
                };
                let message = format!("connecting to {self} was not done {in_time}");
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
        listener::noting(Arc::clone(&self.0).listen()).await
    }
}
