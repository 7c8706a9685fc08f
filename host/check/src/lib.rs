//! Drives a plugin file through conformance checks: what the contract between hosts and plugins asks, tried out.
//!
//! Each check runs in a process of its own and within a time limit, so that a crash or a hang is a finding about the
//! plugin and not the end. The program that checks runs itself again for that: it gives [`Checker::new`] a command that
//! ends in a call of [`serve`].
//!
//! Wrappers are checked around connections in memory that behave badly on purpose. Transports are checked over whatever
//! they connect; on this machine alone, as far as their manifest lets one say so.

mod checks;
mod child;
mod finding;
mod junit;
mod memory;
mod parent;
mod probe;
mod reach;
mod registry;
mod report;
mod subject;
mod task;
mod values;

pub use checks::{CheckInfo, Level, all};
pub use child::serve;
pub use junit::junit;
pub use parent::Checker;
pub use report::{CheckResult, Report};
pub use task::Outcome;
