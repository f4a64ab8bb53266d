//! Feeds arbitrary bytes to `edge::fuzz_denylist`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| edge::fuzz_denylist(bytes));
