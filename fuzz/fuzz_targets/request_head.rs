//! Feeds arbitrary bytes to `edge::fuzz_request_head`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| edge::fuzz_request_head(bytes));
