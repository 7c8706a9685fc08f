//! `script:`: attempts to connect that end as a test says.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use endpoints_plugin_api::export::BuiltIn;
use endpoints_plugin_api::{
    Arguments, Client, Connect, ConnectContext, Connection, Error, ErrorKind, Host, Plugin,
};
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, oneshot};

use crate::{ClientEndpoint, Registry};

const MANIFEST: &str = r#"{
  "build": {
    "name": "endpoints-script", "version": "1.0.0", "api": "1.0.0", "requires": "1.0.0", "rustc": "", "target": "",
    "panic": "unwind", "entry": ""
  },
  "plugin": {
    "summary": "Attempts that end as a test says",
    "schemes": [
      {
        "scheme": "script",
        "kind": "transport",
        "client": {"parameters": [{"name": "stage", "type": "text", "position": 1, "required": true}]}
      }
    ]
  }
}"#;

static PLUGIN: BuiltIn = BuiltIn::new::<Script>(|| MANIFEST);

static STAGES: Mutex<Option<HashMap<String, mpsc::UnboundedSender<Attempt>>>> = Mutex::new(None);

/// An endpoint, and the attempts that are made to connect it.
pub(super) struct Stage {
    pub(super) endpoint: ClientEndpoint,
    attempts: mpsc::UnboundedReceiver<Attempt>,
}

/// An attempt to connect, until it is dropped or answered.
pub(super) struct Attempt(oneshot::Sender<Result<DuplexStream, Error>>);

impl Stage {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("stage{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let (sender, attempts) = mpsc::unbounded_channel();
        STAGES
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert_default()
            .insert(name.clone(), sender);
        let registry = Registry::builder().default_plugin_path(false).compiled_in(&PLUGIN).build().unwrap();
        Self { endpoint: registry.client(format!("script:{name}")).unwrap(), attempts }
    }

    /// The next attempt. Where none comes, the clock that only tests move goes on by itself, and the test ends.
    pub(super) async fn attempt(&mut self) -> Attempt {
        let attempt = tokio::time::timeout(Duration::from_secs(3600), self.attempts.recv()).await;
        attempt.expect("an attempt").expect("the stage is open")
    }

    /// The next attempt, if it has been made.
    pub(super) fn attempted(&mut self) -> Option<Attempt> {
        self.attempts.try_recv().ok()
    }
}

impl Attempt {
    /// It leads to a connection; what is given is the server's end.
    pub(super) fn succeed(self) -> DuplexStream {
        let (near, far) = tokio::io::duplex(1024);
        assert!(self.0.send(Ok(near)).is_ok(), "the attempt was given up");
        far
    }

    /// It leads to a connection, unless it was given up.
    pub(super) fn succeed_if_wanted(self) -> DuplexStream {
        let (near, far) = tokio::io::duplex(1024);
        let _ = self.0.send(Ok(near));
        far
    }

    /// It fails, unless it was given up.
    pub(super) fn fail_if_wanted(self) {
        let _ = self.0.send(Err(Error::new(ErrorKind::ConnectionRefused, "nobody listens there")));
    }

    /// It fails.
    pub(super) fn fail(self) {
        self.fail_with(Error::new(ErrorKind::ConnectionRefused, "nobody listens there").with_retryable(true));
    }

    pub(super) fn fail_with(self, error: Error) {
        assert!(self.0.send(Err(error)).is_ok(), "the attempt was given up");
    }

    /// Whether the attempt was given up.
    pub(super) fn is_cancelled(&self) -> bool {
        self.0.is_closed()
    }
}

struct Script;

impl Plugin for Script {
    fn new(_host: Host) -> Result<Self, Error> {
        Ok(Self)
    }

    fn client(&self, _scheme: &str, arguments: &mut Arguments<'_>) -> Result<Client, Error> {
        let stages = STAGES.lock().unwrap_or_else(PoisonError::into_inner);
        let stage = stages.as_ref().and_then(|stages| stages.get(arguments.text("stage").ok()?));
        Ok(Client::new(OnStage(stage.expect("there is such a stage").clone())))
    }
}

struct OnStage(mpsc::UnboundedSender<Attempt>);

impl Connect for OnStage {
    async fn connect(&self, _context: ConnectContext) -> Result<Connection, Error> {
        let (sender, outcome) = oneshot::channel();
        self.0.send(Attempt(sender)).map_err(|_| Error::new(ErrorKind::Other, "the stage is closed"))?;
        match outcome.await {
            Ok(outcome) => outcome.map(Connection::from_stream),
            // The test is over.
            Err(_) => std::future::pending().await,
        }
    }
}

/// The time that passes until the next attempt.
pub(super) async fn until_next_attempt(stage: &mut Stage) -> (Duration, Attempt) {
    let begun = tokio::time::Instant::now();
    let attempt = stage.attempt().await;
    (begun.elapsed(), attempt)
}

/// A second for each failure in a row.
pub(super) fn plain(failures: u64) -> Duration {
    super::SECOND * failures as u32
}

/// What a program does with a connection that it keeps for ever.
pub(super) async fn hold(connection: crate::Connection) {
    std::future::pending::<()>().await;
    drop(connection);
}

/// Lets all tasks go on until each waits for something; no time passes.
pub(super) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}
