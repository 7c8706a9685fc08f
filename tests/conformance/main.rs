//! Runs the recorded cases of this folder; `README.md` says what they mean.

mod cases;
mod copy;
mod parse;
mod quote;
