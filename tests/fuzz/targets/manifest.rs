//! Any text is read as a manifest, or refused, without a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| drop(endpoints::manifest::Manifest::parse(text)));
