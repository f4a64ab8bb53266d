//! Feeds arbitrary bytes to `up::fuzz_join`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| up::fuzz_join(bytes));
