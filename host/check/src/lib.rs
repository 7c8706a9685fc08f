//! Drives a plugin file through conformance checks: what the contract between hosts and plugins asks, tried out.
//!
//! Each check runs in a process of its own and within a time limit, so that a crash or a hang is a finding about the
//! plugin and not the end. The program that checks runs itself again for that: it gives [`Checker::new`] a command that
//! ends in a call of [`serve`].
//!
//! [`Checker::review`] tells beforehand whether what is asked for makes sense, so that nothing that was given is passed over.
//!
//! Wrappers are checked around connections in memory that behave badly on purpose. Transports are checked over whatever
//! they connect; on this machine alone, as far as their manifest lets one say so.
//!
//! # Examples
//!
//! A program that checks a file, and runs itself for each check:
//!
//! ```no_run
//! use std::path::Path;
//! use std::process::{Command, ExitCode};
//!
//! use endpoints_check::Checker;
//!
//! fn main() -> ExitCode {
//!     if std::env::args().nth(1).as_deref() == Some("check-one") {
//!         return endpoints_check::serve();
//!     }
//!     let this_program = || {
//!         let mut command = Command::new("/proc/self/exe");
//!         command.arg("check-one");
//!         command
//!     };
//!     let report = Checker::new(this_program).check(Path::new("libmy_plugin.so"), |result| println!("{result:?}"));
//!     if report.is_ok_and(|report| report.passed()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
//! }
//! ```

mod checks;
mod child;
mod finding;
mod junit;
mod memory;
mod parent;
mod probe;
mod process;
mod reach;
mod registry;
mod report;
mod request;
mod subject;
mod task;
mod values;

pub use checks::{CheckInfo, Level, all};
pub use child::serve;
pub use junit::junit;
pub use parent::Checker;
pub use report::{CheckResult, Report};
pub use task::Outcome;
