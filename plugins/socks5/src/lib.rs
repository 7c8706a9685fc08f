//! Connecting through a SOCKS5 proxy.

pub mod protocol;
