//! Tickets, by which clients resume sessions.

use std::sync::Arc;

use rustls::Error;
use rustls::crypto::GetRandomFailed;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{NoServerSessionStorage, ProducesTickets, ServerConfig};
use rustls::ticketer::TicketRotator;

/// Keys for tickets change so often, in seconds, where clients show certificates; a ticket is good until the second change.
const SHORT: u32 = 150;

/// Lets clients resume sessions: for twelve hours, or for five minutes where a certificate was `verified`, which it is not again
/// when a session is resumed.
///
/// # Errors
/// If there is no randomness for keys.
pub(crate) fn resume_sessions(config: &mut ServerConfig, verified: bool) -> Result<(), Error> {
    config.ticketer = Ticketer::new()?;
    if verified {
        config.ticketer = Arc::new(TicketRotator::new(SHORT, keys)?);
        // Those without tickets are kept as long as there is room.
        config.session_storage = Arc::new(NoServerSessionStorage {});
    }
    Ok(())
}

fn keys() -> Result<Box<dyn ProducesTickets>, GetRandomFailed> {
    Ok(Box::new(Keys(Ticketer::new().map_err(|_| GetRandomFailed)?)))
}

#[derive(Debug)]
struct Keys(Arc<dyn ProducesTickets>);

impl ProducesTickets for Keys {
    fn enabled(&self) -> bool {
        self.0.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.0.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.0.decrypt(cipher)
    }
}
