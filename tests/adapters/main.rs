//! The adapters for other crates. Most tests run an example, as a program of its own, against a program that others wrote.

mod axum;
mod command_line;
mod configuration;
mod established;
mod grpc;
#[path = "../peers/harness.rs"]
#[expect(dead_code, reason = "the test `peers` needs more of it")]
mod harness;
mod hyper;
mod lines;
mod metrics;
mod programs;
mod schema;
mod spans;
mod tower;
