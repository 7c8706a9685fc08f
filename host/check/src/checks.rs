//! All checks, in the order in which they are done.

use std::pin::Pin;

use endpoints::manifest::SchemeKind;
use serde::{Deserialize, Serialize};

use crate::finding::Verdict;
use crate::request;
use crate::subject::Subject;
use crate::task::Task;

mod arguments;
mod bytes;
mod cancel;
mod ends;
mod file;
mod inner;
mod leaks;
mod lifetime;
mod listening;
mod loading;
mod making;
mod pressure;
mod wakers;

/// How much is checked; each level does the checks of those before it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Level {
    /// The file, its manifest, loading it, and making endpoints: opens nothing.
    Load,
    /// Listening, connecting and bytes, with 1,000 connections where leaks are looked for.
    Traffic,
    /// The same with 10,000 connections.
    Stress,
}

/// A check, as it is told about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckInfo {
    /// Its name.
    pub name: &'static str,
    /// The first level that does it.
    pub level: Level,
    /// What holds where it passes.
    pub holds: &'static str,
}

/// All checks, in the order in which they are done.
pub fn all() -> impl Iterator<Item = CheckInfo> {
    ALL.iter().map(CheckInfo::from)
}

pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) level: Level,
    /// The kind of scheme that it is about, where not all are.
    pub(crate) kind: Option<SchemeKind>,
    /// Whether the checks after it make no sense where it fails.
    pub(crate) gate: bool,
    pub(crate) holds: &'static str,
    pub(crate) run: Run,
}

impl From<&Check> for CheckInfo {
    fn from(check: &Check) -> Self {
        Self { name: check.name, level: check.level, holds: check.holds }
    }
}

/// How a check is done.
#[derive(Clone, Copy)]
pub(crate) enum Run {
    /// Once for the file.
    File(fn(&Task) -> Verdict),
    /// Once for each scheme, outside of any runtime.
    Scheme(fn(&Subject) -> Verdict),
    /// Once for each scheme, within a runtime of one thread.
    Traffic(Traffic),
}

type Traffic = for<'a> fn(&'a Subject) -> Pin<Box<dyn Future<Output = Verdict> + 'a>>;

/// The check whose outcome depends on what its process has written.
pub(crate) const QUIET: &str = "quiet";

const fn file(name: &'static str, holds: &'static str, run: fn(&Task) -> Verdict) -> Check {
    Check { name, level: Level::Load, kind: None, gate: false, holds, run: Run::File(run) }
}

const fn making(name: &'static str, holds: &'static str, run: fn(&Subject) -> Verdict) -> Check {
    Check { name, level: Level::Load, kind: None, gate: false, holds, run: Run::Scheme(run) }
}

const fn threads(name: &'static str, holds: &'static str, run: fn(&Subject) -> Verdict) -> Check {
    Check { name, level: Level::Traffic, kind: None, gate: false, holds, run: Run::Scheme(run) }
}

const fn traffic(name: &'static str, holds: &'static str, run: Traffic) -> Check {
    Check { name, level: Level::Traffic, kind: None, gate: false, holds, run: Run::Traffic(run) }
}

impl Check {
    const fn of(mut self, kind: SchemeKind) -> Self {
        self.kind = Some(kind);
        self
    }

    const fn gate(mut self) -> Self {
        self.gate = true;
        self
    }
}

/// A check that is an asynchronous function.
macro_rules! traffic {
    ($name:literal, $holds:literal, $run:path) => {
        traffic($name, $holds, |subject| Box::pin($run(subject)))
    };
}

/// What is done before all checks, where values were given for it: see [`request::can_be_made`].
pub(crate) static GIVEN: Check =
    making("given", "endpoints can be made of what was given", request::can_be_made);

pub(crate) static ALL: &[Check] = &[
    // The file.
    file("file", "the file is a sound shared object that nobody else can write to", file::sound),
    file("manifest", "it carries a manifest that makes sense", file::manifest),
    file("api-version", "hosts of this version of the plugin API can run it", file::api_version),
    file("panic-policy", "a panic in it does not end the process", file::panic_policy),
    file("entry", "it exports the entry that its manifest names", file::entry),
    file("exports", "it exports nothing else", file::exports),
    file(
        "dependencies",
        "the libraries that it needs are found wherever it is loaded from",
        file::dependencies,
    ),
    file("fields", "every field in the manifest is known", file::fields),
    file("described", "everything in the manifest is described", file::described),
    file("load", "it loads, with all symbols bound and the tables that its version has", loading::loads)
        .gate(),
    file(
        "process-state",
        "loading it and setting it up leaves the process as it was",
        loading::process_state,
    ),
    file("set-up-twice", "two registries of one process can use it", loading::set_up_twice),
    // Making endpoints.
    making("schemes", "the scheme answers, on each side that it declares", making::schemes).gate(),
    making("examples", "the examples in the manifest are valid", making::examples),
    making("defaults", "what is not given has the value that the manifest says", making::defaults),
    making("opens-nothing", "making endpoints opens nothing and starts nothing", making::opens_nothing),
    making(
        "bad-values",
        "a value that cannot be is refused, with the argument's name",
        arguments::bad_values,
    ),
    making("odd-values", "odd values make endpoints or errors, never a panic", arguments::odd_values),
    making("limits", "the smallest and largest numbers make endpoints or errors", arguments::limits),
    making(
        "secrets",
        "making endpoints tells no secret in an error, an explanation or the log",
        arguments::secrets,
    ),
    // Bytes.
    traffic!("connect", "connecting works, and bytes arrive", bytes::connect).gate(),
    traffic!("reachable", "a listener is reached by what it tells", listening::reachable),
    traffic!("facts", "what it tells about connections can be read", listening::facts),
    traffic!("secrets-told", "no fact and no error of a connection tells a secret", arguments::secrets_told),
    traffic!("bulk", "megabytes arrive unchanged, both ways at once", bytes::bulk),
    traffic!("single-bytes", "bytes read and written one by one arrive", bytes::single_bytes),
    traffic!("vectored", "vectored writes send the pieces in order", bytes::vectored),
    traffic!("empty-buffers", "reads and writes of no bytes do nothing", bytes::empty_buffers),
    traffic!("flush", "what is flushed arrives", bytes::flush),
    traffic!("quiet", "it writes nothing to standard output and standard error", bytes::connect),
    // Ends.
    traffic!("half-close-client", "a client that has ended its side can still read", ends::half_close_client),
    traffic!("half-close-server", "a server that has ended its side can still read", ends::half_close_server),
    traffic!("end-stays", "after the end there is the end again", ends::end_stays),
    traffic!(
        "shutdown-twice",
        "shutting down again is no harm, and writing then is an error",
        ends::shutdown_twice
    ),
    traffic!("drop-closes", "dropping a connection closes it, and all that is beneath it", ends::drop_closes),
    traffic!("write-to-nobody", "writing to a peer that is gone comes to an error", ends::write_to_nobody),
    // Waiting.
    traffic!(
        "back-pressure",
        "a peer that does not read stops the writer, and nothing is lost",
        pressure::back_pressure
    ),
    traffic!("wakes-reader", "a waiting reader is woken by bytes", wakers::wakes_reader),
    traffic!("wakes-writer", "a waiting writer is woken by room", wakers::wakes_writer),
    traffic!("last-waker", "of several wakers in one direction the last is woken", wakers::last_waker),
    traffic!(
        "both-directions",
        "reading and writing wait at once, each with its own waker",
        wakers::both_directions
    ),
    traffic!("polls-unasked", "being polled without having woken changes nothing", wakers::polls_unasked),
    traffic!("idle", "what waits uses no processor time", pressure::idle),
    traffic!("short-polls", "no poll blocks its thread", pressure::short_polls),
    // Giving up.
    traffic!(
        "cancel-connect",
        "connecting can be given up at any point, and leaves nothing",
        cancel::connecting
    ),
    traffic!(
        "cancel-listen",
        "starting to listen can be given up at any point, and leaves nothing",
        cancel::listen
    ),
    traffic!("cancel-accept", "giving up an accept loses no connection", cancel::accept),
    traffic!(
        "cancel-handshake",
        "a handshake can be given up at any point, and leaves nothing",
        cancel::handshake
    ),
    traffic!("time-limit", "a connect to a peer that is silent can be limited", cancel::time_limit)
        .of(SchemeKind::Wrapper),
    // Listening.
    traffic!("refused", "connecting where nobody listens is an error that says so", listening::refused)
        .of(SchemeKind::Transport),
    traffic!(
        "address-in-use",
        "a second listener of the same address is refused or works",
        listening::address_in_use
    ),
    traffic!("listen-again", "an address is free when listening has ended", listening::listen_again),
    // What a wrapper stands around.
    traffic!("silent-peer", "a peer that says nothing delays nobody else", inner::silent_peer)
        .of(SchemeKind::Wrapper),
    traffic!("early-end", "a peer that ends early, or talks nonsense, is no harm", inner::early_end)
        .of(SchemeKind::Wrapper),
    traffic!("inner-trickle", "an endpoint inside that takes bytes one by one is served", inner::trickle)
        .of(SchemeKind::Wrapper),
    traffic!("inner-error", "an error of the connection inside is passed on", inner::error)
        .of(SchemeKind::Wrapper),
    traffic!("inner-refused", "why the endpoint inside could not connect is passed on", inner::refused)
        .of(SchemeKind::Wrapper),
    traffic!("inner-panic", "a panic inside ends neither the process nor the wrapper", inner::panic)
        .of(SchemeKind::Wrapper),
    // Lives.
    threads("drop-order", "everything can be dropped in any order", lifetime::drop_order),
    threads("runtime-gone", "what is left when its runtime ends can be dropped", lifetime::runtime_gone),
    threads("two-runtimes", "it works in one runtime after another", lifetime::two_runtimes),
    threads("threads", "several threads can use one endpoint at once", lifetime::threads),
    threads("moves", "a connection can move from thread to thread", lifetime::moves),
    traffic!("many-at-once", "many connections at once keep their bytes apart", lifetime::many_at_once),
    // Leaks.
    traffic!(
        "close-on-exec",
        "its descriptors are not handed down to programs that are run",
        leaks::close_on_exec
    ),
    traffic!("leaks-descriptors", "connections leave no descriptor open", leaks::descriptors),
    traffic!("leaks-memory", "connections leave no memory in use", leaks::memory),
    traffic!("leaks-threads", "connections leave no thread running", leaks::threads),
    traffic!("leaks-failures", "failed connections leave nothing", leaks::failures),
];
