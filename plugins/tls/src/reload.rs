//! Certificates that are read anew when their files change.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use endpoints_plugin_api::{Host, LogLevel};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::certificate::date;
use crate::folder::is_passing;
use crate::identity::{Identities, Identity, Source, Stamp};

/// How long it may take until a change is noticed: files are looked at so often, and only when somebody connects.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// How long a handshake waits for the files.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// The identities of a listener. A handshake keeps those that it began with.
#[derive(Debug)]
pub(crate) struct Reloading {
    source: Source,
    provider: Arc<CryptoProvider>,
    current: Mutex<Arc<Identities>>,
    looked: Mutex<Looked>,
    looking: AtomicBool,
}

/// What the last look came to.
#[derive(Debug)]
struct Looked {
    at: Instant,
    stamp: Stamp,
    /// Whether something failed that may succeed without a change of the files.
    again: bool,
    /// What was logged then, and would be logged again.
    said: Vec<String>,
}

impl Reloading {
    /// `stamp` is what the files looked like before `identities` were read from them.
    pub(crate) fn new(
        source: Source,
        provider: Arc<CryptoProvider>,
        stamp: Stamp,
        identities: Arc<Identities>,
    ) -> Self {
        let looked = Looked {
            at: Instant::now(),
            stamp,
            again: identities.problems().iter().any(|problem| problem.passing),
            said: identities.remarks().into_iter().map(|(_, text)| text).collect(),
        };
        Self {
            source,
            provider,
            current: Mutex::new(identities),
            looked: Mutex::new(looked),
            looking: AtomicBool::new(false),
        }
    }

    /// Looks whether the files have changed, unless somebody did a moment ago or is about to.
    ///
    /// # Cancel safety
    /// What has begun is done all the same.
    pub(crate) async fn look(self: &Arc<Self>, host: &Host) {
        if lock(&self.looked).at.elapsed() < BETWEEN_LOOKS || self.looking.swap(true, Ordering::AcqRel) {
            return;
        }
        // Cleared however this ends, even if it never begins.
        let looking = Looking(Arc::clone(self));
        let log = host.clone();
        // Files may lie on a slow disk, or far away.
        let work = host.blocking(move || looking.0.look_now(|level, text| log.log(level, text)));
        // Who connects is not to wait for a file system that hangs: the next one gets what is new.
        if let Ok(Err(error)) = host.timeout(LONGEST_WAIT, work).await {
            host.log(LogLevel::Warn, format_args!("cannot look for new certificates: {error}"));
        }
    }

    fn look_now(&self, log: impl Fn(LogLevel, &str)) {
        // Before reading: what changes meanwhile is noticed the next time.
        let stamp = self.source.stamp();
        {
            let mut looked = lock(&self.looked);
            looked.at = Instant::now();
            // Also when it turns out to be bad, so that this is said once for each change.
            let is_changed = std::mem::replace(&mut looked.stamp, stamp.clone()) != stamp;
            if !is_changed && !looked.again {
                return;
            }
        }
        let before = self.current();
        match self.source.reload(&self.provider, &before) {
            Ok(after) => {
                let remarks = after.remarks();
                let again = after.problems().iter().any(|problem| problem.passing);
                let changes = changes(&before, &after);
                *lock(&self.current) = Arc::new(after);
                let said = self.looked_at(again, remarks.iter().map(|(_, text)| text.clone()).collect());
                for (level, text) in remarks.iter().filter(|(_, text)| !said.contains(text)).chain(&changes) {
                    log(*level, text);
                }
            }
            Err(error) => {
                let text = format!(
                    "the certificates have changed and cannot be used, so those before stay: {error}"
                );
                let said = self.looked_at(is_passing(&error), vec![text.clone()]);
                if !said.contains(&text) {
                    log(LogLevel::Error, &text);
                }
            }
        }
    }

    /// Notes what a look came to, and gives what was said at the one before.
    fn looked_at(&self, again: bool, said: Vec<String>) -> Vec<String> {
        let mut looked = lock(&self.looked);
        looked.again = again;
        std::mem::replace(&mut looked.said, said)
    }

    fn current(&self) -> Arc<Identities> {
        Arc::clone(&lock(&self.current))
    }
}

/// What is used from now on, and what no longer.
fn changes(before: &Identities, after: &Identities) -> Vec<(LogLevel, String)> {
    let is_among =
        |one: &Identity, all: &[Arc<Identity>]| all.iter().any(|known| known.key.cert == one.key.cert);
    let new: Vec<_> = after.all().iter().filter(|one| !is_among(one, before.all())).collect();
    let mut changes = Vec::new();
    for old in before.all().iter().filter(|old| !is_among(old, after.all())) {
        let names = &old.certificate.dns_names;
        let is_served =
            |name: &String| after.all().iter().any(|one| one.certificate.dns_names.contains(name));
        // One that another takes the place of is not missed.
        let is_replaced =
            new.iter().any(|one| one.file == old.file || one.certificate.der == old.certificate.der);
        if names.iter().all(is_served) && (is_replaced || !names.is_empty()) {
            continue;
        }
        let why = if old.file.exists() { "has it no more" } else { "is gone" };
        let known_as = old.certificate.known_as();
        let text = format!("the certificate for {known_as} is no longer used: {} {why}", old.file.display());
        changes.push((LogLevel::Warn, text));
    }
    if !new.is_empty() {
        let describe = |one: &&Arc<Identity>| {
            let certificate = &one.certificate;
            format!("{} (until {})", certificate.known_as(), date(certificate.not_after))
        };
        let all: Vec<_> = new.iter().map(describe).collect();
        changes.push((LogLevel::Info, format!("new certificates are used from now on: {}", all.join("; "))));
    }
    changes
}

struct Looking(Arc<Reloading>);

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.looking.store(false, Ordering::Release);
    }
}

thread_local! {
    /// The name that a client asks for in the handshake that this thread works on.
    static ASKED: Cell<Option<String>> = const { Cell::new(None) };
}

/// What a handshake comes to, and the name that the client has asked for, which this side of rustls tells to resolvers alone.
pub(crate) async fn with_asked<T>(handshake: impl Future<Output = T>) -> (T, Option<String>) {
    let mut handshake = pin!(handshake);
    let mut asked = None;
    let done = poll_fn(|cx| {
        ASKED.set(asked.take());
        let polled = handshake.as_mut().poll(cx);
        asked = ASKED.take();
        polled
    });
    (done.await, asked)
}

impl ResolvesServerCert for Reloading {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        ASKED.set(hello.server_name().map(str::to_owned));
        Some(Arc::clone(&self.current().for_name(hello.server_name()).key))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests;
