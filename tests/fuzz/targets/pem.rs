//! Any bytes are read as PEM, or refused, without a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drop(endpoints_plugin_tls::pem::Pem::parse(bytes)));
