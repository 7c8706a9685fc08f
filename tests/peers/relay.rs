//! The relay under test: in this process by the library, or in another by the command.

use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use endpoints::Description;
use endpoints::forward::Forward;
use endpoints::serve::{Event, Outcome};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::harness::{Peer, built, wait_for};
use crate::ours::{Plugins, runtime};

/// How the relay is run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum By {
    /// `endpoints::forward::Forward`.
    Library,
    /// `endpoints forward`.
    Command,
}

/// A running relay.
#[derive(Debug)]
pub(crate) struct Relay {
    running: Running,
    /// Where it listens: a client description.
    pub(crate) reachable: Description,
    _plugins: TempDir,
}

#[derive(Debug)]
enum Running {
    Library {
        runtime: Runtime,
        events: Arc<Mutex<Vec<Value>>>,
        stop: oneshot::Sender<()>,
        outcome: JoinHandle<Outcome>,
    },
    Command {
        process: Peer,
        _folder: TempDir,
    },
}

impl Relay {
    /// Starts a relay between two descriptions.
    pub(crate) fn start(by: By, plugins: Plugins, server: &str, client: &str) -> Self {
        let folder = plugins.folder();
        let (running, reachable) = match by {
            By::Library => in_this_process(plugins, &folder, server, client),
            By::Command => by_the_command(plugins, &folder, server, client),
        };
        let reachable = Description::parse(reachable).expect("a description by which it is reached");
        Self { running, reachable, _plugins: folder }
    }

    /// The port that it listens on.
    pub(crate) fn port(&self) -> u16 {
        let port = self.reachable.keyword("port").expect("a port");
        String::from_utf8_lossy(&port.value()).parse().expect("a number")
    }

    /// What has happened so far, in the form that the command prints.
    pub(crate) fn events(&self) -> Vec<Value> {
        match &self.running {
            Running::Library { events, .. } => events.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            Running::Command { process, .. } => {
                let read =
                    |line: String| serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"));
                process.output().into_iter().map(read).collect()
            }
        }
    }

    /// All events of that name so far.
    pub(crate) fn named(&self, name: &str) -> Vec<Value> {
        self.events().into_iter().filter(|event| event["event"] == name).collect()
    }

    /// Waits until so many events of that name have happened.
    pub(crate) fn wait_for(&self, name: &str, count: usize) {
        let happened = wait_for(|| (self.named(name).len() >= count).then_some(()));
        assert!(happened.is_some(), "not {count} times {name}: {:?}", self.events());
    }

    /// Tells it to stop, which must go well, and gives all events.
    pub(crate) fn stop(mut self) -> Vec<Value> {
        match &mut self.running {
            Running::Library { .. } => {}
            Running::Command { process, .. } => {
                process.signal(Signal::TERM);
                let status = process.ended();
                assert!(status.success(), "{status}:\n{}", process.log());
                return self.events();
            }
        }
        let Running::Library { runtime, events, stop, outcome } = self.running else {
            unreachable!("looked above")
        };
        let _ = stop.send(());
        let outcome = runtime.block_on(outcome).expect("the relay");
        assert!(outcome.error.is_none() && outcome.cut == 0, "{outcome:?}");
        std::mem::take(&mut *events.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn in_this_process(plugins: Plugins, folder: &TempDir, server: &str, client: &str) -> (Running, String) {
    let runtime = runtime();
    let registry = plugins.registry(folder.path());
    let server = registry.server(server).expect("a server's description");
    let client = registry.client(client).expect("a client's description");
    let listener = runtime.block_on(server.listen()).expect("a listener");
    let reachable = listener.reachable().first().expect("a description").to_string();
    let events = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&events);
    let (stop, stopped) = oneshot::channel::<()>();
    let forward = Forward::new(listener, client)
        .acceptors(2)
        .on_event(move |event| log.lock().unwrap_or_else(PoisonError::into_inner).push(as_printed(event)));
    let outcome = runtime.spawn(forward.run(async { drop(stopped.await) }));
    (Running::Library { runtime, events, stop, outcome }, reachable)
}

/// The parts of an event that tests look at.
fn as_printed(event: &Event<'_>) -> Value {
    match event {
        Event::Accepted { id, .. } => json!({"event": "accepted", "id": id}),
        Event::Connected { id, .. } => json!({"event": "connected", "id": id}),
        Event::Closed { id, bytes_in, bytes_out, .. } => {
            json!({"event": "closed", "id": id, "bytes_in": bytes_in, "bytes_out": bytes_out})
        }
        Event::Error { id, error, .. } => {
            json!({"event": "error", "id": id, "error": {"kind": error.kind().name(), "message": error.message()}})
        }
        Event::Draining => json!({"event": "draining"}),
        Event::Stopped => json!({"event": "stopped"}),
        other => json!({"event": format!("{other:?}")}),
    }
}

fn by_the_command(plugins: Plugins, folder: &TempDir, server: &str, client: &str) -> (Running, String) {
    let files = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(built("endpoints"));
    command.args(["--json", "--no-default-plugin-path", "--plugin-path"]).arg(folder.path());
    if plugins == Plugins::Loaded {
        command.arg("--no-built-in");
    }
    let mut process = Peer::start(command.args(["forward", server, client]), files.path());
    let reachable = process.line("listening on ");
    (Running::Command { process, _folder: files }, reachable)
}
