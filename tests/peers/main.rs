//! Real traffic against real servers and clients, each a process of its own.

mod data;
mod defaults;
mod haproxy;
mod harness;
mod inherited;
mod nginx;
mod ours;
mod prometheus;
mod relay;
mod socat;
mod socks;
mod systemd;
mod tls;
mod twisted;
