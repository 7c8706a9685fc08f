//! Descriptions on a command line: `clap relay --listen SERVER CLIENT`, and their completion, which `clap.bash` uses:
//! `clap complete server|client TYPED`.

use clap::{Parser, Subcommand, ValueEnum};
use endpoints::{ClientEndpoint, Registry, RoleKind, ServerEndpoint};

// ANCHOR: parser
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Says what would be relayed.
    Relay {
        /// Where to listen.
        #[arg(long, default_value = "tcp:8080")]
        listen: ServerEndpoint,
        /// Where to connect to.
        connect: ClientEndpoint,
    },
    /// Completes a description, for shells.
    #[command(hide = true)]
    Complete { role: Side, typed: String },
}
// ANCHOR_END: parser

#[derive(Clone, Copy, ValueEnum)]
enum Side {
    Server,
    Client,
}

fn main() {
    match Options::parse().command {
        Command::Relay { listen, connect } => println!("from {listen} to {connect}"),
        Command::Complete { role, typed } => complete(role, &typed),
    }
}

// ANCHOR: complete
/// Prints a candidate on each line.
fn complete(role: Side, typed: &str) {
    let role = match role {
        Side::Server => RoleKind::Server,
        Side::Client => RoleKind::Client,
    };
    for candidate in Registry::global().complete(role, typed) {
        println!("{}", candidate.text);
    }
}
// ANCHOR_END: complete
