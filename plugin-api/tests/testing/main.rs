//! The host in memory: what authors rely on in the tests of their plugins.

mod network;
mod services;
mod sockets;
mod values;
