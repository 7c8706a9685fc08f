//! `endpoints check-plugin`: each check finds the mutant that it is for, and passes its sound twin.

mod files;
mod harness;
mod mutants;
mod output;
mod plugins;
mod requests;
