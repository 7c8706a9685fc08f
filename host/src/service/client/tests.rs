//! The whole service, over a network that is a script and a clock that only tests move.

mod conduct;
mod recorded;
mod script;
