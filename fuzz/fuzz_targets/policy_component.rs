//! Feeds arbitrary bytes to `policies::component`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::policies::component(bytes));
