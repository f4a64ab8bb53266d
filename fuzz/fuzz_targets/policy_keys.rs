//! Feeds arbitrary bytes to `policies::keys`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::policies::keys(bytes));
