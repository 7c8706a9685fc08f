//! Tickets, by which clients resume sessions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::Error;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::UnixTime;
use rustls::server::{NoServerSessionStorage, ProducesTickets, ServerConfig};

/// How long after a client's certificate was verified its sessions may be resumed, in seconds.
const VERIFIED: u32 = 5 * 60;

/// Lets clients resume sessions, without a limit where no certificate is `verified`.
///
/// # Errors
/// If there is no randomness for keys.
pub(crate) fn resume_sessions(config: &mut ServerConfig, verified: bool) -> Result<(), Error> {
    config.ticketer = Ticketer::new()?;
    if verified {
        // Those without tickets are kept as long as there is room.
        config.session_storage = Arc::new(NoServerSessionStorage {});
    }
    Ok(())
}

/// The tickets of one handshake in which the client's certificate is verified, or a session is resumed in which it was. Those of a
/// resumed session are good no longer than the one that it was resumed by: rustls gives new ones each time.
#[derive(Debug)]
pub(crate) struct Limited {
    keys: Arc<dyn ProducesTickets>,
    now: u64,
    /// Until when they are good, in seconds, as `now`.
    end: AtomicU64,
}

impl Limited {
    pub(crate) fn new(keys: Arc<dyn ProducesTickets>) -> Self {
        Self::at(keys, UnixTime::now().as_secs())
    }

    fn at(keys: Arc<dyn ProducesTickets>, now: u64) -> Self {
        Self { keys, now, end: AtomicU64::new(now + u64::from(VERIFIED)) }
    }
}

impl ProducesTickets for Limited {
    fn enabled(&self) -> bool {
        self.keys.enabled()
    }

    fn lifetime(&self) -> u32 {
        VERIFIED
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        let end = self.end.load(Ordering::Relaxed);
        self.keys.encrypt(&[&end.to_be_bytes(), session].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let plain = self.keys.decrypt(ticket)?;
        let (end, session) = plain.split_first_chunk()?;
        let end = u64::from_be_bytes(*end);
        if end <= self.now {
            return None;
        }
        self.end.fetch_min(end, Ordering::Relaxed);
        Some(session.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_resumed_does_not_last_longer_for_it() {
        let keys = Ticketer::new().expect("randomness");
        let at = |now| Limited::at(Arc::clone(&keys), now);
        let mut ticket = at(1_000).encrypt(b"session").expect("a ticket");
        for now in [1_000, 1_100, 1_299] {
            let resumed = at(now);
            assert_eq!(resumed.decrypt(&ticket).as_deref(), Some(&b"session"[..]), "at {now}");
            ticket = resumed.encrypt(b"session").expect("a new one");
        }
        assert_eq!(at(1_300).decrypt(&ticket), None);
        // What others have made is none of these.
        assert_eq!(at(0).decrypt(&keys.encrypt(b"short").expect("a ticket")), None);
    }
}
