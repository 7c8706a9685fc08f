//! Any bytes, parsed as a description, obey the laws of the grammar.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &[u8]| endpoints_tests::laws::grammar::check(text));
