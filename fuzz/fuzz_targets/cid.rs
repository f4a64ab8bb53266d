//! Feeds arbitrary bytes to `blocks::cid`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::blocks::cid(bytes));
