//! Certificates that are read anew when their files change.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use endpoints_plugin_api::{Host, LogLevel};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::identity::{Identities, Source, Stamp};

/// How long it may take until a change is noticed: files are looked at so often, and only when somebody connects.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// The identities of a listener. A handshake keeps those that it began with.
#[derive(Debug)]
pub(crate) struct Reloading {
    source: Source,
    provider: Arc<CryptoProvider>,
    current: Mutex<Arc<Identities>>,
    looked: Mutex<(Instant, Stamp)>,
    looking: AtomicBool,
}

impl Reloading {
    /// `stamp` is what the files looked like before `identities` were read from them.
    pub(crate) fn new(
        source: Source,
        provider: Arc<CryptoProvider>,
        stamp: Stamp,
        identities: Arc<Identities>,
    ) -> Self {
        Self {
            source,
            provider,
            current: Mutex::new(identities),
            looked: Mutex::new((Instant::now(), stamp)),
            looking: AtomicBool::new(false),
        }
    }

    /// Looks whether the files have changed, unless somebody did a moment ago or is about to.
    ///
    /// # Cancel safety
    /// What has begun is done all the same.
    pub(crate) async fn look(self: &Arc<Self>, host: &Host) {
        if lock(&self.looked).0.elapsed() < BETWEEN_LOOKS || self.looking.swap(true, Ordering::AcqRel) {
            return;
        }
        let this = Arc::clone(self);
        let log = host.clone();
        // Files may lie on a slow disk, or far away.
        let done = host
            .blocking(move || {
                // Cleared however this ends.
                let _looking = Looking(&this.looking);
                this.look_now(&log);
            })
            .await;
        if let Err(error) = done {
            self.looking.store(false, Ordering::Release);
            host.log(LogLevel::Warn, format_args!("cannot look for new certificates: {error}"));
        }
    }

    fn look_now(&self, host: &Host) {
        // Before reading: what changes meanwhile is noticed the next time.
        let stamp = self.source.stamp();
        let changed = {
            let mut looked = lock(&self.looked);
            looked.0 = Instant::now();
            // Also when it turns out to be bad, so that this is said once for each change.
            std::mem::replace(&mut looked.1, stamp.clone()) != stamp
        };
        if !changed {
            return;
        }
        match self.source.load(&self.provider) {
            Ok(identities) => {
                *lock(&self.current) = Arc::new(identities);
                host.log(LogLevel::Info, "the certificates have changed, and are used from now on");
            }
            Err(error) => {
                host.log(
                    LogLevel::Error,
                    format_args!(
                        "the certificates have changed and cannot be used, so those before stay: {error}"
                    ),
                );
            }
        }
    }

    fn current(&self) -> Arc<Identities> {
        Arc::clone(&lock(&self.current))
    }
}

struct Looking<'a>(&'a AtomicBool);

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl ResolvesServerCert for Reloading {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current().for_name(hello.server_name()).key))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
