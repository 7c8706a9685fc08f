//! Any bytes, read as the header of the PROXY protocol, obey its laws.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| endpoints_tests::laws::proxy::check(bytes));
