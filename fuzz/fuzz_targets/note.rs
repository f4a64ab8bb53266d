//! Feeds arbitrary bytes to `origin::fuzz::note`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| origin::fuzz::note(bytes));
