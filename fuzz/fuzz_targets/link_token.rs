//! Feeds arbitrary bytes to `edge::fuzz_link_token`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| edge::fuzz_link_token(bytes));
