//! Feeds arbitrary bytes to `policies::config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::policies::config(bytes));
