//! The command `endpoints` as scripts use it: what it prints, its exit statuses, and connections through it.

mod backlog;
mod connections;
mod errors;
mod harness;
mod new_plugin;
mod places;
mod plugins;
mod progress;
mod relay;
mod results;
mod run;
mod services;
mod stalled;
mod statistics;
mod streams;
mod systemd;
mod told;
