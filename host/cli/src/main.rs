//! The `endpoints` command.

fn main() {}
