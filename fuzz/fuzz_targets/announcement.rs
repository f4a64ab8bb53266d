//! Feeds arbitrary bytes to `origin::fuzz::announcement`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| origin::fuzz::announcement(bytes));
