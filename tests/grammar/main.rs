//! The description grammar: laws for arbitrary texts, and what parsing costs.

mod allocations;
mod corpus;
mod properties;
