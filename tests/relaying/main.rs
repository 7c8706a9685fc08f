//! A relay passes on every byte, and each end as what it is: whether it copies, has the kernel move the bytes, or does
//! both by turns. `joined.rs` has what the tests share.

#[path = "../behaviour/support.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "the tests here use a part of it")]
mod support;

mod ends;
mod joined;
mod schedule;
mod schedules;
mod urgent;
