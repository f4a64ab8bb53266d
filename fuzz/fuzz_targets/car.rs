//! Feeds arbitrary bytes to `blocks::car`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::blocks::car(bytes));
