//! What programs see of the host library, over real sockets of this machine.
//!
//! Most bodies run twice: with the built-in plugins, and with the same plugins from their files. `support.rs` has what
//! they share.

mod backlog;
mod bad_files;
mod bare;
mod builder;
mod claims;
mod client_service;
mod dispatch;
mod exec;
mod faults;
mod forward;
mod handshakes;
mod haproxy;
mod incoming;
mod loader;
mod lying;
mod manifests;
mod policy;
mod racing;
mod reachable;
mod recorded;
mod recorded_listen;
mod runtime;
mod secrets;
mod serve_workers;
mod server_service;
mod serving;
mod socks;
mod support;
mod tls;
mod tls_agreed;
mod tls_arguments;
mod tls_identities;
mod tls_reload;
mod transport;
mod trust;
mod unix;
mod unix_names;
mod workers;
