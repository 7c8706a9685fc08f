//! What programs see of the host library, over real sockets of this machine.
//!
//! Most bodies run twice: with the built-in plugins, and with the same plugins from their files. `support.rs` has what
//! they share.

mod dispatch;
mod recorded;
mod faults;
mod bare;
mod incoming;
mod secrets;
mod socks;
mod transport;
mod unix;
mod support;
