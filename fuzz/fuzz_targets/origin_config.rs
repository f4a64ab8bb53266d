//! Feeds arbitrary bytes to `origin::fuzz::config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| origin::fuzz::config(bytes));
